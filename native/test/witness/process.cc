#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "test/witness/witness.h"

namespace caisson::witness {
namespace {

void write_status(JsonWriter& json) {
  static constexpr const char* kFields[] = {
      "Umask",  "Uid",    "Gid",    "Groups", "CapInh",     "CapPrm",  "CapEff",
      "CapBnd", "CapAmb", "SigBlk", "SigIgn", "NoNewPrivs", "Seccomp", "Seccomp_filters",
  };
  String status = read_file("/proc/self/status");
  json.key("status").begin_object();
  each_line(status, [&](string_view line) {
    for (const char* field : kFields) {
      string_view name(field);
      if (line.size() <= name.size() || part(line, 0, name.size()) != name || line[name.size()] != ':') continue;
      string_view value = part(line, name.size() + 1);
      while (!value.empty() && (value[0] == '\t' || value[0] == ' ')) value.remove_prefix(1);
      while (!value.empty() && value[value.size() - 1] == ' ') value.remove_suffix(1);
      json.member(name, value);
    }
  });
  json.end_object();
}

// Asked of the kernel: there may be no /proc.
void write_ids(JsonWriter& json) {
  uid_t ruid = 0, euid = 0, suid = 0;
  gid_t rgid = 0, egid = 0, sgid = 0;
  getresuid(&ruid, &euid, &suid);
  getresgid(&rgid, &egid, &sgid);
  gid_t groups[1024];
  int count = getgroups(1024, groups);
  String uids, gids, list;
  uids.append_u64(ruid).append(' ').append_u64(euid).append(' ').append_u64(suid);
  gids.append_u64(rgid).append(' ').append_u64(egid).append(' ').append_u64(sgid);
  for (int i = 0; i < count; ++i) list.append(i == 0 ? "" : " ").append_u64(groups[i]);
  json.key("ids").begin_object().member("uid", uids).member("gid", gids).member("groups", list).end_object();
}

void write_limits(JsonWriter& json) {
  static constexpr const char* kNames[] = {"CPU",      "FSIZE",  "DATA",    "STACK", "CORE",  "RSS",
                                           "NPROC",    "NOFILE", "MEMLOCK", "AS",    "LOCKS", "SIGPENDING",
                                           "MSGQUEUE", "NICE",   "RTPRIO",  "RTTIME"};
  json.key("limits").begin_object();
  for (int i = 0; i < 16; ++i) {
    struct rlimit limit = {};
    if (getrlimit(i, &limit) != 0) continue;
    String text;
    for (rlim_t value : {limit.rlim_cur, limit.rlim_max}) {
      if (!text.empty()) text.append(' ');
      if (value == RLIM_INFINITY)
        text.append("unlimited");
      else
        text.append_u64(value);
    }
    json.member(kNames[i], text);
  }
  json.end_object();
}

void write_flags(JsonWriter& json) {
  json.key("flags").begin_object();
  int value = 0;
  json.member("dumpable", static_cast<i64>(prctl(PR_GET_DUMPABLE)));
  json.member("securebits", static_cast<i64>(prctl(PR_GET_SECUREBITS)));
  json.member("timerSlack", static_cast<i64>(prctl(PR_GET_TIMERSLACK)));
  if (prctl(PR_GET_PDEATHSIG, &value) == 0) json.member("parentDeathSignal", value);
  if (prctl(PR_GET_CHILD_SUBREAPER, &value) == 0) json.member("subreaper", value);
  json.member("noNewPrivileges", static_cast<i64>(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)));
  json.member("thpDisabled", static_cast<i64>(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0)));
  String persona;
  persona.append_u64(static_cast<u64>(personality(0xffffffff)));
  json.member("personality", persona);
  String score = read_file("/proc/self/oom_score_adj");
  json.member("oomScoreAdj", part(score, 0, score.view().find('\n')));
  mode_t mask = umask(0);
  umask(mask);
  char octal[8];
  snprintf(octal, sizeof octal, "%04o", mask);
  json.member("umask", octal);
  json.end_object();
}

// Numbers only where they mean something: a first process, and the leader of its session and group.
void write_session(JsonWriter& json) {
  pid_t pid = getpid();
  pid_t parent = getppid();
  json.key("session").begin_object();
  json.member("pid", pid == 1 ? "1" : "other").member("parent", parent == 0 ? "0" : parent == 1 ? "1" : "other");
  json.member("leadsSession", getsid(0) == pid).member("leadsGroup", getpgrp() == pid);
  json.end_object();
}

void write_descriptors(JsonWriter& json) {
  json.key("descriptors").begin_object();
  for (int fd = 0; fd < 64; ++fd) {
    struct stat status = {};
    if (fstat(fd, &status) != 0) continue;
    String name;
    name.append_i64(fd);
    const char* type = S_ISFIFO(status.st_mode)   ? "pipe"
                       : S_ISSOCK(status.st_mode) ? "socket"
                       : S_ISCHR(status.st_mode)  ? (isatty(fd) == 1 ? "terminal" : "character device")
                       : S_ISDIR(status.st_mode)  ? "directory"
                       : S_ISREG(status.st_mode)  ? "file"
                                                  : "other";
    json.member(name, type);
  }
  json.end_object();
}

}  // namespace

void write_process(JsonWriter& json, char** argv, char** envp) {
  json.key("args").begin_array();
  for (char** argument = argv; *argument != nullptr; ++argument) json.value(*argument);
  json.end_array();
  json.key("env").begin_array();
  for (char** entry = envp; *entry != nullptr; ++entry) json.value(*entry);
  json.end_array();
  char cwd[4096];
  json.member("cwd", getcwd(cwd, sizeof cwd) != nullptr ? cwd : strerror(errno));
  write_status(json);
  write_ids(json);
  write_limits(json);
  write_flags(json);
  write_session(json);
  write_descriptors(json);
}

}  // namespace caisson::witness
