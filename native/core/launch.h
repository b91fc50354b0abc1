// Birth of pods, containers and exec'd processes: the face of core that a monitor (epoll) and caisson-oci (blocking
// loop) drive. A birth is asynchronous: it begins with clone3, reports over a gate, and waits there for the start.
#pragma once

#include "core/base.h"
#include "core/fd.h"
#include "core/plan.h"
#include "core/result.h"
#include "core/step.h"
#include "core/text.h"

namespace caisson {

// The namespaces of a pod, held by descriptor only. An empty Fd means the host's.
struct PodNamespaces {
  Fd seed;  // small mount namespace that every container of the pod starts from; holds the pod's /dev/shm
  Fd user;
  Fd net;
  Fd ipc;
  Fd uts;
  Fd pid;  // set when the pod shares its PID namespace
  // The host's ids of the user namespace's root; 0 without one. Whoever passes the descriptors on passes these too, or
  // every birth asks the kernel anew (a short-lived child, 0.2 ms).
  u32 root_uid = 0;
  u32 root_gid = 0;
};

struct Pod {
  PodNamespaces ns;
  Fd init;  // pidfd of the shared PID namespace's init, a child of the caller; empty without one
  int init_pid = 0;
};

// Makes the namespaces of a pod from a plan of kind kPod; blocks for 1-3 ms. Undoes itself on error. `ready`: of
// make_ready_network(), taken where the plan wants a new network namespace; one of a pod with a user namespace has to
// be made in that.
// The init of a plan with a process label executes the caller's own program, with the one argument `--init`.
Result<Pod> create_pod(const PlanView& plan, Fd ready = Fd());
// What such a program does then, for ever: descriptor 0 hears that it is there.
[[noreturn]] void rest_as_init();

// A new network namespace with its loopback up. The caller, of one thread, is in it for the time of the call.
Result<Fd> make_ready_network();

struct Stage;

struct BirthRequest {
  const PlanView* plan = nullptr;      // kind kContainer
  const PodNamespaces* pod = nullptr;  // namespaces whose path in the spec is "caisson:pod"
  int target_pid_ns = -1;              // the PID namespace whose path is "caisson:target"
  int cgroup = -1;                     // directory the process is born in (CLONE_INTO_CGROUP); -1: the caller's
  int stdio[3] = {-1, -1, -1};         // -1: /dev/null; ignored where the plan asks for a terminal
  // What follows is for a caller that does not stay (caisson-oci).
  // A listening SOCK_SEQPACKET socket. Once released, the process waits there for the connection of whoever starts it,
  // which becomes its gate: that one is released too, and tells what happens from then on. -1: the first release
  // starts.
  int listener = -1;
  u32 preserve = 0;   // descriptors 3 to 3+n-1 of the caller are handed to the process
  bool hold = false;  // kHeld is reported, and a release awaited, when all is mounted and nothing pivoted
  // The caller has no privileges over the host: the new user namespace is entered before any mount is taken.
  bool rootless = false;
  // The caller is itself in a user namespace (rootless podman calls so, as its root): it may mount, but makes no device
  // nodes and sees no fresh /proc or /sys of the host, and enters no PID namespace that it would have to leave again.
  bool confined = false;
  // Another program makes the container: once the root is put together and every source of a mount is taken, this goes
  // on in the child, in a copy of the seed, with the namespaces to join open and none of them joined. It never returns.
  void (*drive)(Stage&) = nullptr;
  const void* driven = nullptr;  // what it works on: Stage::driven, in the child's copy of the caller's memory
};

struct ExecRequest {
  const PlanView* plan = nullptr;  // kind kExec
  int init = -1;                   // pidfd of the container's first process
  int cgroup = -1;
  int stdio[3] = {-1, -1, -1};
  u32 preserve = 0;       // as of BirthRequest
  bool rootless = false;  // as of BirthRequest: the container's user namespace is entered first
  bool confined = false;  // as of BirthRequest
  // The container joined a mount namespace by its path: its root is that of its first process, not of the namespace.
  bool joined_mounts = false;
};

struct Birth {
  int pid = 0;
  Fd pidfd;  // of the first stage; with a user namespace, GateReport::kChild brings that of the container
  Fd gate;   // SOCK_SEQPACKET, non-blocking: reports arrive here; EOF without kFailed after release = exec succeeded
};

// The caller is single-threaded, has descriptors 0 to 2 open, and is non-dumpable from the first call on. The plan must
// stay mapped until this returns; the birth has its own copy from then on. Errors come before anything was born: EINVAL
// and ENOTSUP (plan and request do not fit), ESRCH (the PID namespace or container to join has ended), those of
// clone3(2).
Result<Birth> begin_birth(const BirthRequest& request);
Result<Birth> begin_exec(const ExecRequest& request);

// What a stage says over the gate. Fixed size: a stage allocates nothing.
struct GateReport {
  enum Kind : u32 {
    kChild = 1,     // descriptor: pidfd of stage 2, a child of the caller; pid
    kTerminal = 2,  // descriptor: pty master
    kReady = 3,   // all but exec (and with kProcessLateLookup the look-up) is done; uid, gid, groups are the process's
    kFailed = 4,  // step, err, index say what failed; the process ends
    kHeld = 5,    // BirthRequest::hold: namespaces made, everything mounted, nothing pivoted; pid
    kListener = 6,  // descriptor: the seccomp listener of the filter that was just loaded
    kExecuted = 7,  // of a driver (BirthRequest::drive): its program runs; without it the gate's end is a failure
  };
  static constexpr u32 kGroupsMax = 256;
  u32 kind = 0;
  i32 pid = 0;
  u32 step = 0;   // Step
  i32 err = 0;    // errno
  u32 index = 0;  // entry of the plan that the step worked on
  u32 uid = 0;
  u32 gid = 0;
  u32 group_count = 0;
  // What belongs to the kind. kReady: the supplementary groups. kFailed: an object that the step came upon and the plan
  // does not name, cut off where it is too long, the rest zero.
  union {
    u32 groups[kGroupsMax] = {};
    char found[kGroupsMax * sizeof(u32)];
  };
};

// Reads one report; `passed` receives its descriptor if it carries one. Error EAGAIN: nothing yet. kind 0: EOF.
Result<GateReport> read_gate(int gate, Fd& passed);

// Lets a process that reported kHeld or kReady go on. `state`, a memfd, becomes the standard input of the hooks that
// the process runs itself from here on: the state of the container as JSON.
Status release_gate(int gate, int state = -1);

// The sentence for a failed birth: names the object of the plan and the cause; keeps the phrases that callers of
// runc classify by ("executable file not found in $PATH", "no such file or directory", "permission denied").
struct BirthError {
  i32 err = 0;
  const char* call = "";   // system call
  const char* stage = "";  // name of the step
  String path;             // object
  String message;
};
BirthError describe_failure(const PlanView& plan, const GateReport& report);

}  // namespace caisson
