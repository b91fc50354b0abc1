// What this build can do, as the specification's features.md describes it: one constant text. A unit test holds its
// words against the tables that the compiler uses.
#include "oci/features.h"

#include "oci/command.h"
#include "oci/files.h"

namespace caisson::oci {

// clang-format off
constexpr char kFeaturesText[] =
    R"({"ociVersionMin":"1.0.0","ociVersionMax":"1.3.0",)"
    R"("hooks":["prestart","createRuntime","createContainer","startContainer","poststart","poststop"],)"
    R"("mountOptions":["async","atime","bind","defaults","dev","diratime","dirsync","exec","idmap",)"
    R"("iversion","lazytime","loud","mand","noatime","nodev","nodiratime","noexec","noiversion","nolazytime","nomand",)"
    R"("norelatime","nostrictatime","nosuid","nosymfollow","private","ratime","rbind","rdev","rdiratime",)"
    R"("relatime","remount","rexec","ridmap","rnoatime","rnodev","rnodiratime","rnoexec","rnorelatime",)"
    R"("rnostrictatime","rnosuid","rnosymfollow","ro","rprivate","rrelatime","rro","rrw","rshared",)"
    R"("rslave","rstrictatime","rsuid","rsymfollow","runbindable","rw","shared","silent","slave",)"
    R"("strictatime","suid","symfollow","sync","tmpcopyup","unbindable"],)"
    R"("linux":{"namespaces":["cgroup","ipc","mount","network","pid","time","user","uts"],)"
    R"("capabilities":["CAP_CHOWN","CAP_DAC_OVERRIDE","CAP_DAC_READ_SEARCH","CAP_FOWNER","CAP_FSETID",)"
    R"("CAP_KILL","CAP_SETGID","CAP_SETUID","CAP_SETPCAP","CAP_LINUX_IMMUTABLE","CAP_NET_BIND_SERVICE",)"
    R"("CAP_NET_BROADCAST","CAP_NET_ADMIN","CAP_NET_RAW","CAP_IPC_LOCK","CAP_IPC_OWNER","CAP_SYS_MODULE",)"
    R"("CAP_SYS_RAWIO","CAP_SYS_CHROOT","CAP_SYS_PTRACE","CAP_SYS_PACCT","CAP_SYS_ADMIN","CAP_SYS_BOOT",)"
    R"("CAP_SYS_NICE","CAP_SYS_RESOURCE","CAP_SYS_TIME","CAP_SYS_TTY_CONFIG","CAP_MKNOD","CAP_LEASE",)"
    R"("CAP_AUDIT_WRITE","CAP_AUDIT_CONTROL","CAP_SETFCAP","CAP_MAC_OVERRIDE","CAP_MAC_ADMIN","CAP_SYSLOG",)"
    R"("CAP_WAKE_ALARM","CAP_BLOCK_SUSPEND","CAP_AUDIT_READ","CAP_PERFMON","CAP_BPF",)"
    R"("CAP_CHECKPOINT_RESTORE"],)"
    R"("cgroup":{"v1":false,"v2":true,"systemd":true,"systemdUser":true,"rdma":true},)"
    R"("seccomp":{"enabled":true,"actions":["SCMP_ACT_ALLOW","SCMP_ACT_ERRNO","SCMP_ACT_KILL",)"
    R"("SCMP_ACT_KILL_PROCESS","SCMP_ACT_KILL_THREAD","SCMP_ACT_LOG","SCMP_ACT_NOTIFY","SCMP_ACT_TRACE",)"
    R"("SCMP_ACT_TRAP"],)"
    R"("operators":["SCMP_CMP_EQ","SCMP_CMP_GE","SCMP_CMP_GT","SCMP_CMP_LE","SCMP_CMP_LT",)"
    R"("SCMP_CMP_MASKED_EQ","SCMP_CMP_NE"],)"
    R"("archs":["SCMP_ARCH_AARCH64","SCMP_ARCH_ARM","SCMP_ARCH_LOONGARCH64","SCMP_ARCH_M68K",)"
    R"("SCMP_ARCH_MIPS","SCMP_ARCH_MIPS64","SCMP_ARCH_MIPS64N32","SCMP_ARCH_MIPSEL","SCMP_ARCH_MIPSEL64",)"
    R"("SCMP_ARCH_MIPSEL64N32","SCMP_ARCH_PARISC","SCMP_ARCH_PARISC64","SCMP_ARCH_PPC","SCMP_ARCH_PPC64",)"
    R"("SCMP_ARCH_PPC64LE","SCMP_ARCH_RISCV64","SCMP_ARCH_S390","SCMP_ARCH_S390X","SCMP_ARCH_SH",)"
    R"("SCMP_ARCH_SHEB","SCMP_ARCH_X32","SCMP_ARCH_X86","SCMP_ARCH_X86_64"],)"
    R"("knownFlags":["SECCOMP_FILTER_FLAG_LOG","SECCOMP_FILTER_FLAG_SPEC_ALLOW",)"
    R"("SECCOMP_FILTER_FLAG_TSYNC","SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],)"
    R"("supportedFlags":["SECCOMP_FILTER_FLAG_LOG","SECCOMP_FILTER_FLAG_SPEC_ALLOW",)"
    R"("SECCOMP_FILTER_FLAG_TSYNC","SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]},)"
    R"("apparmor":{"enabled":true},"selinux":{"enabled":true},)"
    R"("mountExtensions":{"idmap":{"enabled":true}},)"
    R"("intelRdt":{"enabled":true,"schemata":true,"monitoring":true},)"
    R"("memoryPolicy":{"modes":["MPOL_BIND","MPOL_DEFAULT","MPOL_INTERLEAVE","MPOL_LOCAL","MPOL_PREFERRED",)"
    R"("MPOL_PREFERRED_MANY","MPOL_WEIGHTED_INTERLEAVE"],)"
    R"("flags":["MPOL_F_NUMA_BALANCING","MPOL_F_RELATIVE_NODES","MPOL_F_STATIC_NODES"]},)"
    R"("netDevices":{"enabled":true}},)"
    R"("annotations":{"io.caisson.version":")"
#include "core/version.inc"
    R"(",)"
    R"("org.opencontainers.runc.checkpoint.enabled":"true"},)"
    R"("potentiallyUnsafeConfigAnnotations":[]})"
    "\n";
// clang-format on

string_view features_text() { return {kFeaturesText, sizeof kFeaturesText - 1}; }

namespace {

Outcome<int> run(const Call&) {
  OCI_TRY(print(features_text()));
  return 0;
}

}  // namespace

constexpr Command kFeatures = {
    "features", "show what this runtime supports, as JSON", "", 0, 0, FlagOrder::kAnywhere, {}, run};

}  // namespace caisson::oci
