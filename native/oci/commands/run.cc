#include <unistd.h>

#include "oci/attend.h"
#include "oci/create.h"
#include "oci/destroy.h"

namespace caisson::oci {

namespace {

constexpr Flag kFlags[] = {kBundleFlag,  kConsoleSocketFlag, kPidfdSocketFlag, kDetachFlag,       kKeepFlag,
                           kPidFileFlag, kNoSubreaperFlag,   kNoPivotFlag,     kNoNewKeyringFlag, kPreserveFdsFlag};

Outcome<int> run(const Call& call) {
  CreateRequest request = create_request(call);
  request.run = true;
  request.detach = call.options.on("detach");
  const bool keep = call.options.on("keep");
  if (!request.detach && !call.options.on("no-subreaper")) OCI_TRY(adopt_orphans());
  Creation creation(call.globals, request);
  OCI_TRY(creation.create());
  Delivery& delivery = creation.delivery();
  HostTerminal terminal;
  if (!request.detach && delivery.terminal()) OCI_TRY(terminal.open(static_cast<Fd&&>(delivery.terminal())));
  OCI_TRY(creation.start());
  delivery.leave();
  creation.keep();
  if (request.detach) return 0;
  creation.slot().unlock();
  Outcome<int> status = attend({delivery.pid(), delivery.pidfd().get(), creation.signals(), &terminal});
  if (!status) return status;
  creation.reaped();
  if (!keep) destroy_ended(creation.slot(), creation.state());
  // What is open ends with the process; a terminal has its modes to get back.
  if (!terminal.is_open()) _exit(*status);
  return status;
}

}  // namespace

constexpr Command kRun = {
    "run", "create a container and run its process", "<container-id>", 1, 1, FlagOrder::kAnywhere, kFlags, run, 1,
    true};

}  // namespace caisson::oci
