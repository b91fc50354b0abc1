// Touches so many MiB of memory and gives them back: `backed MIB`. See backed() in bench/pull.mjs.
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/mman.h>

int main(int argc, char** argv) {
  const size_t size = argc > 1 ? (size_t)atol(argv[1]) << 20 : 0;
  char* const memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return 1;
  madvise(memory, size, MADV_HUGEPAGE);  // fewer faults; a kernel without huge pages has more of them
  for (size_t at = 0; at < size; at += 4096) memory[at] = 1;
  return 0;
}
