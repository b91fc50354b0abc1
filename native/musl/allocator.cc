// malloc(3) of the static programs. They are small, single-threaded, and mostly short: blocks come from one piece of
// memory after another and go back to a list of their size. musl's own asks the kernel for every group of blocks, which
// was a tenth of the system calls of `caisson-oci run`.
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

namespace {

constexpr size_t kAlign = 16;
constexpr size_t kChunk = size_t{1} << 20;
// From here on a block is a mapping of its own, and goes back to the kernel.
constexpr size_t kLarge = kChunk / 2;
constexpr unsigned kClasses = 16;  // 16 bytes to kLarge

struct alignas(kAlign) Header {
  size_t size;  // of the block behind it
};
struct Free {
  Free* next;
};

// Untouched pages of it cost nothing.
alignas(kAlign) unsigned char first_chunk[kChunk / 2];
unsigned char* next_byte = first_chunk;
unsigned char* chunk_end = first_chunk + sizeof first_chunk;
Free* free_lists[kClasses];

unsigned class_of(size_t size) {
  unsigned c = 0;
  while ((kAlign << c) < size) ++c;
  return c;
}

Header* header_of(void* block) { return static_cast<Header*>(block) - 1; }

void* map(size_t size) {
  void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return memory == MAP_FAILED ? nullptr : memory;
}

void* allocate_large(size_t size) {
  if (size > SIZE_MAX - sizeof(Header)) {
    errno = ENOMEM;
    return nullptr;
  }
  auto* header = static_cast<Header*>(map(size + sizeof(Header)));
  if (header == nullptr) return nullptr;
  header->size = size;
  return header + 1;
}

}  // namespace

extern "C" {

void* malloc(size_t size) {
  if (size > kLarge) return allocate_large(size);
  const unsigned c = class_of(size);
  if (Free* block = free_lists[c]; block != nullptr) {
    free_lists[c] = block->next;
    return block;
  }
  const size_t whole = sizeof(Header) + (kAlign << c);
  if (static_cast<size_t>(chunk_end - next_byte) < whole) {
    auto* chunk = static_cast<unsigned char*>(map(kChunk));
    if (chunk == nullptr) return nullptr;
    next_byte = chunk;
    chunk_end = chunk + kChunk;
  }
  auto* header = reinterpret_cast<Header*>(next_byte);
  next_byte += whole;
  header->size = kAlign << c;
  return header + 1;
}

void free(void* block) {
  if (block == nullptr) return;
  Header* header = header_of(block);
  if (header->size > kLarge) {
    const int err = errno;  // free(3) leaves it as it is
    munmap(header, header->size + sizeof(Header));
    errno = err;
    return;
  }
  auto* freed = static_cast<Free*>(block);
  Free*& list = free_lists[class_of(header->size)];
  freed->next = list;
  list = freed;
}

void* calloc(size_t count, size_t size) {
  size_t bytes = 0;
  if (__builtin_mul_overflow(count, size, &bytes)) {
    errno = ENOMEM;
    return nullptr;
  }
  void* block = malloc(bytes);
  if (block != nullptr) memset(block, 0, bytes);
  return block;
}

void* realloc(void* block, size_t size) {
  if (block == nullptr) return malloc(size);
  const size_t old = header_of(block)->size;
  if (size <= old && (old <= kLarge || size > kLarge)) return block;
  void* fresh = malloc(size);
  if (fresh == nullptr) return nullptr;
  memcpy(fresh, block, old < size ? old : size);
  free(block);
  return fresh;
}

// Every block is aligned to 16 bytes; what asks for more has no place in these programs.
void* aligned_alloc(size_t alignment, size_t size) {
  if (alignment <= kAlign) return malloc(size);
  errno = ENOMEM;
  return nullptr;
}

}  // extern "C"
