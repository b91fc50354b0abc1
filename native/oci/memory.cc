// The memory of a command that lives for milliseconds: cut from one mapping, so that a run does not spend a quarter of
// its system calls on musl's malloc asking for pages and giving them back. What is freed is kept by size and used
// again: `events` may run for months. The unit tests keep the C library's, for the sanitizers.
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/base.h"

namespace {

using caisson::u64;
using caisson::u8;

constexpr size_t kChunk = size_t{16} << 20;  // only what is touched becomes memory
constexpr u64 kSmallest = 5;                 // blocks are of 32, 64, 128... bytes, with a header of 16
constexpr u64 kLargest = 40;

struct alignas(16) Block {
  u64 power;
  Block* next;  // of a free block
};
static_assert(sizeof(Block) == 16);

Block* free_blocks[kLargest + 1];
u8* at;
size_t left;

bool take_chunk(size_t size) {
  size = size > kChunk ? size : kChunk;
  void* fresh = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (fresh == MAP_FAILED) return false;
  at = static_cast<u8*>(fresh);
  left = size;
  return true;
}

}  // namespace

extern "C" {

void* malloc(size_t size) {
  u64 power = kSmallest;
  while (power <= kLargest && (size_t{1} << power) - sizeof(Block) < size) ++power;
  if (power > kLargest) {
    errno = ENOMEM;
    return nullptr;
  }
  Block* block = free_blocks[power];
  if (block != nullptr) {
    free_blocks[power] = block->next;
    return block + 1;
  }
  const size_t whole = size_t{1} << power;
  if (left < whole && !take_chunk(whole)) {
    errno = ENOMEM;
    return nullptr;
  }
  block = reinterpret_cast<Block*>(at);
  at += whole;
  left -= whole;
  block->power = power;
  return block + 1;
}

void free(void* pointer) {
  if (pointer == nullptr) return;
  Block* block = static_cast<Block*>(pointer) - 1;
  block->next = free_blocks[block->power];
  free_blocks[block->power] = block;
}

void* calloc(size_t count, size_t size) {
  size_t bytes = 0;
  if (__builtin_mul_overflow(count, size, &bytes)) {
    errno = ENOMEM;
    return nullptr;
  }
  void* pointer = malloc(bytes);
  if (pointer != nullptr) memset(pointer, 0, bytes);
  return pointer;
}

void* realloc(void* pointer, size_t size) {
  if (pointer == nullptr) return malloc(size);
  const size_t room = (size_t{1} << (static_cast<Block*>(pointer) - 1)->power) - sizeof(Block);
  if (size <= room) return pointer;
  void* fresh = malloc(size);
  if (fresh == nullptr) return nullptr;
  memcpy(fresh, pointer, room);
  free(pointer);
  return fresh;
}

}  // extern "C"
