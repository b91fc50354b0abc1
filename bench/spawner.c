// Starts programs for the benchmark and times them: the clock starts before the clone and stops when the program has been
// waited for. Node's own spawn forks a process of 60 MB and costs milliseconds; this one is small and vforks.
//
// Reads commands from standard input, one a line, arguments separated by tabs; answers each with
// "<nanoseconds> <status> <microseconds>\n": the status is the exit code or 128 + signal, the last is the processor time of the
// program and of what it has waited for. The program's output goes to /dev/null, its errors to this one's.
#define _GNU_SOURCE
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

#define ARGUMENTS_MAX 64

extern char **environ;

static long long now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static long long microseconds(struct timeval time) { return time.tv_sec * 1000000LL + time.tv_usec; }

int main(void) {
  static char line[65536];
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
  while (fgets(line, sizeof line, stdin)) {
    char *arguments[ARGUMENTS_MAX + 1];
    int count = 0;
    line[strcspn(line, "\n")] = 0;
    for (char *word = strtok(line, "\t"); word && count < ARGUMENTS_MAX; word = strtok(NULL, "\t")) arguments[count++] = word;
    arguments[count] = NULL;
    if (count == 0) continue;
    pid_t pid;
    int status = 127;
    struct rusage usage = {0};
    long long start = now();
    int error = posix_spawnp(&pid, arguments[0], &actions, NULL, arguments, environ);
    if (error == 0) {
      wait4(pid, &status, 0, &usage);
      status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    } else {
      fprintf(stderr, "%s: %s\n", arguments[0], strerror(error));
    }
    long long time = now() - start;
    printf("%lld %d %lld\n", time, status, microseconds(usage.ru_utime) + microseconds(usage.ru_stime));
    fflush(stdout);
  }
  return 0;
}
