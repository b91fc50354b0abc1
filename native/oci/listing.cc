#include "oci/listing.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "core/stage/users.h"

namespace caisson::oci {

Outcome<Store> open_store(const Globals& globals, string_view id) {
  if (id.empty()) return Fault::text_of("container id cannot be empty");
  Result<Store> store = Store::open(globals.root, false);
  if (!store && store.error().err == ENOENT) return no_such_container(id);
  return OCI_TRY(static_cast<Result<Store>&&>(store));
}

String owner_of(int dir) {
  struct stat st {};
  if (fstat(dir, &st) != 0) return {};
  Fd file(open("/etc/passwd", O_RDONLY | O_CLOEXEC));
  LineReader lines(file.get());
  PasswdEntry entry;
  for (string_view line; file && lines.next(line);)
    if (parse_passwd(line, entry) && entry.uid == st.st_uid) return String(entry.name);
  String number(string_view("#"));
  number.append_u64(st.st_uid);
  return number;
}

}  // namespace caisson::oci
