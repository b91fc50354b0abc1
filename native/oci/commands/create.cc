#include "oci/create.h"

namespace caisson::oci {

namespace {

constexpr Flag kFlags[] = {kBundleFlag,       kConsoleSocketFlag, kPidfdSocketFlag, kPidFileFlag,    kNoPivotFlag,
                           kNoNewKeyringFlag, kPreserveFdsFlag,   kDetachFlag,      kNoSubreaperFlag};

Outcome<int> run(const Call& call) {
  const CreateRequest request = create_request(call);
  Creation creation(call.globals, request);
  OCI_TRY(creation.create());
  creation.delivery().leave();
  creation.keep();
  return 0;
}

}  // namespace

constexpr Command kCreate = {"create",
                             "create a container; start runs its process",
                             "<container-id>",
                             1,
                             1,
                             FlagOrder::kAnywhere,
                             kFlags,
                             run,
                             1,
                             true};

}  // namespace caisson::oci
