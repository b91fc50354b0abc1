// linux.netDevices: interfaces of the host that move into the container's network namespace.
#pragma once

#include "core/netlink.h"
#include "core/plan.h"

namespace caisson {

// An address of an interface, as far as it is given again.
struct NetAddress {
  struct Part {  // an attribute: IFA_LOCAL, IFA_ADDRESS, IFA_BROADCAST, IFA_RT_PRIORITY
    u16 type = 0;
    u8 size = 0;
    u8 bytes[16] = {};
  };
  uapi::AddressInfo info = {};
  Part parts[4];
  u32 flags = 0;  // IFA_F_*
};

struct NetDevice {
  u32 index = 0;
  u32 flags = 0;  // IFF_*
  String name;
  Vec<NetAddress> addresses;
};

class NetDevices {
 public:
  // Moves the plan's interfaces from the caller's network namespace into `net_namespace`, gives them their names, their
  // permanent addresses of global scope again, and sets them up. The caller is privileged and of one thread; the
  // container is born and not started (GateReport::kHeld). On an error what was moved is moved back, and the error's
  // object says which interface failed, and why. Errors: ENODEV (no such interface), EEXIST (the name is taken inside),
  // EINVAL (it cannot leave its namespace), EPERM, and those of netlink(7).
  Status move(const PlanView& plan, int net_namespace);

  // For a container that is not going to be: what was moved returns, with its name, addresses and state, also when the
  // container is dead. (When a container is deleted there is nothing to do: with its namespace interfaces of hardware
  // return to the host's, and virtual ones end.)
  void move_back();

 private:
  struct Moved {
    NetDevice device;  // as it was on the host
    u32 index = 0;     // inside
  };
  Status move_one(string_view name, string_view container, int net_namespace);

  Netlink host_;
  Netlink inside_;  // keeps the namespace
  Fd host_namespace_;
  Vec<Moved> moved_;
};

}  // namespace caisson
