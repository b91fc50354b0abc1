// blobWriter(): a blob goes to disk as it arrives, hashed on the way, both off the event loop.
#include <errno.h>
#include <limits.h>
#include <sys/uio.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "addon/arguments.h"
#include "addon/groups.h"
#include "addon/growth.h"
#include "addon/job.h"
#include "addon/sha256.h"

namespace caisson {
namespace {

constexpr size_t kReadSize = 256 * 1024;
constexpr i64 kStepMax = i64{1} << 30;
constexpr u32 kPartsMax = 65536;

struct Blob {
  std::shared_ptr<const Fd> file;  // shared with the step that is on its way; none once closed
  u64 size = 0;                    // bytes that are in the file and in the hash
  Sha256 hash;
  const std::shared_ptr<Growth> growth = std::make_shared<Growth>();
  bool busy = false;  // for the main thread; stays so after a failure, since what the hash has taken is unknown
};

Error refused() { return Error(ENOTSUP, "EVP_DigestUpdate", "SHA-256"); }

// What is in the file after `size` goes through the hash, `step` bytes of it at most.
Result<u64> resume(Blob& blob, int file, u64 step) {
  std::vector<u8> buffer(kReadSize);
  const u64 end = blob.size + step;
  while (blob.size < end) {
    const size_t wanted = end - blob.size < buffer.size() ? end - blob.size : buffer.size();
    const ssize_t n = pread(file, buffer.data(), wanted, static_cast<off_t>(blob.size));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Error::last("pread", "blob");
    if (n == 0) break;
    if (!blob.hash.update({buffer.data(), static_cast<size_t>(n)})) return refused();
    blob.size += static_cast<u64>(n);
    blob.growth->reached(blob.size);
  }
  return blob.size;
}

Result<u64> append(Blob& blob, int file, std::vector<iovec> parts) {
  for (const iovec& part : parts)
    if (!blob.hash.update({static_cast<const u8*>(part.iov_base), part.iov_len})) return refused();
  iovec* at = parts.data();
  for (size_t left = parts.size(); left != 0;) {
    const int count = static_cast<int>(left < IOV_MAX ? left : IOV_MAX);
    const ssize_t n = pwritev(file, at, count, static_cast<off_t>(blob.size));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Error::last("pwritev", "blob");
    blob.size += static_cast<u64>(n);
    size_t done = static_cast<size_t>(n);
    for (; left != 0 && done >= at->iov_len; ++at, --left) done -= at->iov_len;
    if (left == 0) break;
    at->iov_base = static_cast<u8*>(at->iov_base) + done;
    at->iov_len -= done;
  }
  blob.growth->reached(blob.size);
  return blob.size;
}

// A step on the pool, and `done` on the main thread when it went well. The hash knows one order only: one step at a
// time.
template <typename Step, typename Done>
Napi::Value next_step(Napi::Env env, const std::shared_ptr<Blob>& blob, Step step, Done done) {
  if (blob->busy) throw make_error(env, Error(EBUSY, "blobWriter", "blob"));
  if (blob->file == nullptr) throw make_error(env, Error(EBADF, "blobWriter", "blob"));
  blob->busy = true;
  return run_job(
      env, [blob, file = blob->file, step = std::move(step)]() mutable { return step(*blob, file->get()); },
      [blob, done = std::move(done)](Napi::Env e, u64 size) -> Napi::Value {
        blob->busy = false;
        done();
        return Napi::Number::New(e, static_cast<double>(size));
      });
}

// Gives back at once what a chunk alone is in. Memory outside of V8's heap counts against it: left to the collector, a
// blob's chunks cause a full collection for every few megabytes, which cost more than the digest does.
void release(const Napi::Array& chunks) {
  for (u32 i = 0; i < chunks.Length(); ++i) {
    const Napi::TypedArray chunk = chunks.Get(i).As<Napi::TypedArray>();
    Napi::ArrayBuffer memory = chunk.ArrayBuffer();
    if (chunk.ByteLength() == memory.ByteLength() && !memory.IsDetached()) memory.Detach();
  }
}

// append(chunks, own): `own` chunks are released.
Napi::Value append_chunks(const Napi::CallbackInfo& info, const std::shared_ptr<Blob>& blob) {
  Napi::Env env = info.Env();
  const bool own = info[1].ToBoolean();
  if (!info[0].IsArray()) throw Napi::TypeError::New(env, "argument 'chunks' must be an array of buffers");
  Napi::Array chunks = info[0].As<Napi::Array>();
  if (chunks.Length() > kPartsMax) throw Napi::RangeError::New(env, "argument 'chunks' has too many buffers");
  std::vector<iovec> parts;
  parts.reserve(chunks.Length());
  for (u32 i = 0; i < chunks.Length(); ++i) {
    const span<u8> chunk = buffer_argument(chunks.Get(i), "chunk");
    if (!chunk.empty()) parts.push_back({chunk.data(), chunk.size()});
  }
  auto kept = std::make_shared<Napi::ObjectReference>(Napi::Persistent(chunks.As<Napi::Object>()));
  return next_step(
      env, blob, [parts = std::move(parts)](Blob& to, int file) mutable { return append(to, file, std::move(parts)); },
      [kept = std::move(kept), own] {
        if (own) release(kept->Value().As<Napi::Array>());
      });
}

// blobWriter(file): { growth, resume(step), append(chunks, own), digest(), close() }
Napi::Value blob_writer(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  auto blob = std::make_shared<Blob>();
  blob->file = std::make_shared<const Fd>(fd_copy_argument(info[0], "file"));
  Napi::Object writer = Napi::Object::New(env);
  auto* const growth = new std::shared_ptr<Growth>(blob->growth);
  const auto drop = [](Napi::Env, std::shared_ptr<Growth>* dropped) { delete dropped; };
  writer.Set("growth", Napi::External<std::shared_ptr<Growth>>::New(env, growth, drop));
  auto method = [&](const char* name, auto body) {
    writer.Set(name, Napi::Function::New(
                         env, [blob, body](const Napi::CallbackInfo& call) { return body(call, blob); }, name));
  };
  method("resume", [](const Napi::CallbackInfo& call, const std::shared_ptr<Blob>& to) {
    const u64 step = static_cast<u64>(integer_argument(call[0], "step", 1, kStepMax));
    return next_step(
        call.Env(), to, [step](Blob& from, int file) { return resume(from, file, step); }, [] {});
  });
  method("append", append_chunks);
  method("digest", [](const Napi::CallbackInfo& call, const std::shared_ptr<Blob>& of) -> Napi::Value {
    u8 digest[Sha256::kSize];
    if (of->busy) throw make_error(call.Env(), Error(EBUSY, "blobWriter", "blob"));
    if (!of->hash.finish(digest)) throw make_error(call.Env(), Error(ENOTSUP, "EVP_DigestFinal_ex", "SHA-256"));
    return Napi::String::New(call.Env(), hex_of(digest));
  });
  method("close", [](const Napi::CallbackInfo& call, const std::shared_ptr<Blob>& of) -> Napi::Value {
    of->file.reset();
    of->growth->end();
    return call.Env().Undefined();
  });
  return writer;
}

}  // namespace

void init_blob_writer(Napi::Env env, Napi::Object exports) {
  exports.Set("blobWriter", Napi::Function::New(env, blob_writer, "blobWriter"));
}

}  // namespace caisson
