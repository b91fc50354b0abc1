#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "core/fd.h"
#include "test/witness/witness.h"

namespace caisson::witness {
namespace {

void write_namespaces(JsonWriter& json) {
  static constexpr const char* kTypes[] = {
      "cgroup", "ipc", "mnt", "net", "pid", "pid_for_children", "time", "time_for_children", "user", "uts"};
  json.key("namespaces").begin_object();
  for (const char* type : kTypes) {
    String path("/proc/self/ns/");
    path.append(type);
    char target[64];
    ssize_t length = readlink(path.c_str(), target, sizeof target);
    if (length > 0) json.member(type, string_view(target, static_cast<size_t>(length)));
  }
  json.end_object();
  json.key("maps").begin_object();
  for (const char* name : {"uid_map", "gid_map", "setgroups", "timens_offsets"}) {
    String path("/proc/self/");
    path.append(name);
    // columns are padded
    String text, file = read_file(path.c_str());
    for (char c : file.view())
      if (c != ' ' || (!text.empty() && text.view().back() != ' ' && text.view().back() != '\n')) text.append(c);
    json.member(name, text);
  }
  json.end_object();
}

void write_cgroup(JsonWriter& json) {
  String text = read_file("/proc/self/cgroup");
  string_view unified;
  each_line(text, [&](string_view line) {
    if (line.size() > 3 && part(line, 0, 3) == "0::") unified = part(line, 3);
  });
  json.member("cgroup", unified);
}

void write_sysctls(JsonWriter& json) {
  static constexpr const char* kNames[] = {
      "kernel/hostname",
      "kernel/domainname",
      "kernel/shmmax",
      "kernel/shmall",
      "kernel/shmmni",
      "kernel/shm_rmid_forced",
      "kernel/msgmax",
      "kernel/msgmnb",
      "kernel/msgmni",
      "kernel/sem",
      "fs/mqueue/msg_max",
      "fs/mqueue/msgsize_max",
      "fs/mqueue/queues_max",
      "net/ipv4/ip_forward",
      "net/ipv4/ip_unprivileged_port_start",
      "net/ipv4/ping_group_range",
      "net/ipv4/tcp_syncookies",
      "net/core/somaxconn",
      "net/ipv4/conf/all/rp_filter",
  };
  json.key("sysctl").begin_object();
  for (const char* name : kNames) {
    String path("/proc/sys/");
    path.append(name);
    String value = read_file(path.c_str());
    json.member(name, part(value, 0, value.view().find('\n')));
  }
  json.end_object();
}

void write_network(JsonWriter& json) {
  Fd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  json.key("network").begin_object();
  struct if_nameindex* list = if_nameindex();
  for (struct if_nameindex* entry = list; entry != nullptr && entry->if_name != nullptr; ++entry) {
    struct ifreq request = {};
    strncpy(request.ifr_name, entry->if_name, sizeof request.ifr_name - 1);
    bool up = ioctl(socket.get(), SIOCGIFFLAGS, &request) == 0 && (request.ifr_flags & IFF_UP) != 0;
    json.member(entry->if_name, up ? "up" : "down");
  }
  if (list != nullptr) if_freenameindex(list);
  json.end_object();
}

void write_terminal(JsonWriter& json) {
  json.key("terminal").begin_object();
  char name[64];
  struct winsize size = {};
  json.member("name", ttyname_r(0, name, sizeof name) == 0 ? name : "");
  String text;
  if (ioctl(0, TIOCGWINSZ, &size) == 0) text.append_u64(size.ws_row).append(" x ").append_u64(size.ws_col);
  json.member("size", text);
  Fd own(open("/dev/tty", O_RDWR | O_CLOEXEC));
  text.clear();
  if (own)
    text.append("ok");
  else
    append_errno(text, errno);
  json.member("controlling", text);
  json.end_object();
}

void write_keyring(JsonWriter& json) {
  char text[256] = {};
  constexpr int kSession = -3, kDescribe = 6;  // KEY_SPEC_SESSION_KEYRING, KEYCTL_DESCRIBE
  String result;
  if (syscall(SYS_keyctl, kDescribe, kSession, text, sizeof text - 1) >= 0)
    result.append(string_view(text));
  else
    append_errno(result, errno);
  json.member("keyring", result);
}

void write_labels(JsonWriter& json) {
  json.key("labels").begin_object();
  for (const char* name : {"current", "exec", "apparmor/current"}) {
    String path("/proc/self/attr/");
    path.append(name);
    String value = read_file(path.c_str());
    json.member(name, part(value, 0, value.view().find('\n')));
  }
  json.end_object();
}

}  // namespace

void write_surroundings(JsonWriter& json) {
  write_namespaces(json);
  write_cgroup(json);
  write_sysctls(json);
  struct utsname names = {};
  uname(&names);
  json.key("names").begin_object().member("host", names.nodename).member("domain", names.domainname);
  json.member("machine", names.machine).end_object();
  write_network(json);
  write_terminal(json);
  write_keyring(json);
  write_labels(json);
}

}  // namespace caisson::witness
