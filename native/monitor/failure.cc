#include "monitor/failure.h"

#include <errno.h>
#include <string.h>

#include "core/json.h"

namespace caisson::monitor {

const char* errno_name(int err) {
  switch (err) {
#define CAISSON_ERRNO(name) \
  case name:                \
    return #name;
    CAISSON_ERRNO(EPERM)
    CAISSON_ERRNO(ENOENT)
    CAISSON_ERRNO(ESRCH)
    CAISSON_ERRNO(EINTR)
    CAISSON_ERRNO(EIO)
    CAISSON_ERRNO(ENXIO)
    CAISSON_ERRNO(E2BIG)
    CAISSON_ERRNO(ENOEXEC)
    CAISSON_ERRNO(EBADF)
    CAISSON_ERRNO(ECHILD)
    CAISSON_ERRNO(EAGAIN)
    CAISSON_ERRNO(ENOMEM)
    CAISSON_ERRNO(EACCES)
    CAISSON_ERRNO(EFAULT)
    CAISSON_ERRNO(EBUSY)
    CAISSON_ERRNO(EEXIST)
    CAISSON_ERRNO(EXDEV)
    CAISSON_ERRNO(ENODEV)
    CAISSON_ERRNO(ENOTDIR)
    CAISSON_ERRNO(EISDIR)
    CAISSON_ERRNO(EINVAL)
    CAISSON_ERRNO(ENFILE)
    CAISSON_ERRNO(EMFILE)
    CAISSON_ERRNO(ENOTTY)
    CAISSON_ERRNO(ETXTBSY)
    CAISSON_ERRNO(EFBIG)
    CAISSON_ERRNO(ENOSPC)
    CAISSON_ERRNO(EROFS)
    CAISSON_ERRNO(EMLINK)
    CAISSON_ERRNO(EPIPE)
    CAISSON_ERRNO(ERANGE)
    CAISSON_ERRNO(EDEADLK)
    CAISSON_ERRNO(ENAMETOOLONG)
    CAISSON_ERRNO(ENOSYS)
    CAISSON_ERRNO(ENOTEMPTY)
    CAISSON_ERRNO(ELOOP)
    CAISSON_ERRNO(ENODATA)
    CAISSON_ERRNO(ETIME)
    CAISSON_ERRNO(EPROTO)
    CAISSON_ERRNO(EBADMSG)
    CAISSON_ERRNO(EOVERFLOW)
    CAISSON_ERRNO(EUSERS)
    CAISSON_ERRNO(EMSGSIZE)
    CAISSON_ERRNO(EPROTONOSUPPORT)
    CAISSON_ERRNO(EOPNOTSUPP)
    CAISSON_ERRNO(EADDRINUSE)
    CAISSON_ERRNO(ENETDOWN)
    CAISSON_ERRNO(ENOBUFS)
    CAISSON_ERRNO(ETIMEDOUT)
    CAISSON_ERRNO(ECONNREFUSED)
    CAISSON_ERRNO(EALREADY)
    CAISSON_ERRNO(EINPROGRESS)
    CAISSON_ERRNO(ESTALE)
    CAISSON_ERRNO(EDQUOT)
    CAISSON_ERRNO(ECANCELED)
    CAISSON_ERRNO(EKEYREJECTED)
#undef CAISSON_ERRNO
  }
  return "EUNKNOWN";
}

Failure Failure::of(const Error& error) {
  Failure f;
  f.err = error.err;
  f.call = error.call;
  f.path.append(static_cast<const char*>(error.object));
  f.message.append(error.call);
  if (!f.path.empty()) f.message.append(" ").append(f.path);
  f.message.append(": ").append(strerror(error.err));
  return f;
}

Failure Failure::of(BirthError&& error) {
  Failure f;
  f.err = error.err;
  f.call = error.call;
  f.stage = error.stage;
  f.path = static_cast<String&&>(error.path);
  f.message = static_cast<String&&>(error.message);
  return f;
}

Failure Failure::of(int err, string_view path, string_view message) {
  Failure f;
  f.err = err;
  f.path.append(path);
  f.message.append(message);
  return f;
}

void write_failure(String& out, const Failure& failure) {
  JsonWriter json(out);
  json.begin_object();
  json.member("code", errno_name(failure.err));
  json.member("errno", failure.err);
  json.member("syscall", failure.call);
  json.member("path", failure.path.view());
  json.member("stage", failure.stage);
  json.member("message", failure.message.view());
  json.end_object();
}

}  // namespace caisson::monitor
