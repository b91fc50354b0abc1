// rtnetlink(7) and nf_tables: the numbers that pods' networks need beside those of uapi.h. From the kernel's
// include/uapi/linux: rtnetlink.h, if_link.h, if_addr.h, veth.h, if_bridge.h, pkt_sched.h, nfnetlink.h, nf_tables.h.
#pragma once

#include "core/uapi.h"

namespace caisson::uapi {

inline constexpr u16 kNlmFExcl = 0x200;
inline constexpr u16 kNlmFAppend = 0x800;
inline constexpr u16 kNestedFlag = 0x8000;

inline constexpr u16 kRtmDellink = 17;
inline constexpr u16 kRtmNewroute = 24;
inline constexpr u16 kRtmGetroute = 26;
inline constexpr u16 kRtmNewqdisc = 36;
inline constexpr u16 kRtmNewtfilter = 44;

inline constexpr u16 kIflaAddress = 1;
inline constexpr u16 kIflaMtu = 4;
inline constexpr u16 kIflaMaster = 10;
inline constexpr u16 kIflaLinkinfo = 18;
inline constexpr u16 kIflaIfalias = 20;
inline constexpr u16 kIflaStats64 = 23;
inline constexpr u16 kIflaAfSpec = 26;
inline constexpr u16 kIflaInfoKind = 1;
inline constexpr u16 kIflaInfoData = 2;
inline constexpr u16 kIflaInfoSlaveKind = 4;
inline constexpr u16 kIflaInfoSlaveData = 5;
inline constexpr u16 kVethInfoPeer = 1;
inline constexpr u16 kIflaBrportMode = 4;  // hairpin
inline constexpr u16 kIflaInet6AddrGenMode = 8;
inline constexpr u8 kIn6AddrGenModeNone = 1;

struct RouteInfo {  // struct rtmsg
  u8 family;
  u8 destination;  // prefix length
  u8 source;
  u8 tos;
  u8 table;
  u8 protocol;
  u8 scope;
  u8 type;
  u32 flags;
};
inline constexpr u16 kRtaDst = 1;
inline constexpr u16 kRtaOif = 4;
inline constexpr u16 kRtaGateway = 5;
inline constexpr u16 kRtaPriority = 6;
inline constexpr u16 kRtaMultipath = 9;
inline constexpr u16 kRtaTable = 15;
inline constexpr u16 kRtaVia = 18;
inline constexpr u8 kRtTableMain = 254;
inline constexpr u8 kRtprotStatic = 4;
inline constexpr u8 kRtnUnicast = 1;

struct LinkStats64 {  // the front of struct rtnl_link_stats64
  u64 rx_packets;
  u64 tx_packets;
  u64 rx_bytes;
  u64 tx_bytes;
  u64 rx_errors;
  u64 tx_errors;
  u64 rx_dropped;
  u64 tx_dropped;
};

// nfnetlink
struct NetfilterHeader {  // struct nfgenmsg
  u8 family;
  u8 version;
  u16 resource;  // big-endian
};
inline constexpr u16 kNfnlMsgBatchBegin = 16;
inline constexpr u16 kNfnlMsgBatchEnd = 17;
inline constexpr u16 kNfnlSubsysNftables = 10;
inline constexpr u8 kNfprotoInet = 1;
inline constexpr u8 kNfprotoIpv4 = 2;
inline constexpr u8 kNfprotoIpv6 = 10;

enum : u16 {  // messages of nf_tables
  kNftNewtable = kNfnlSubsysNftables << 8,
  kNftGettable,
  kNftDeltable,
  kNftNewchain,
  kNftGetchain,
  kNftDelchain,
  kNftNewrule,
  kNftGetrule,
  kNftDelrule,
  kNftNewset,
  kNftGetset,
  kNftDelset,
  kNftNewsetelem,
  kNftGetsetelem,
  kNftDelsetelem,
  kNftNewgen,
  kNftGetgen,
};

inline constexpr u16 kNftaTableName = 1;
inline constexpr u16 kNftaGenId = 1;
inline constexpr u16 kNftaListElem = 1;
inline constexpr u16 kNftaChainTable = 1;
inline constexpr u16 kNftaChainName = 3;
inline constexpr u16 kNftaChainHook = 4;
inline constexpr u16 kNftaChainPolicy = 5;
inline constexpr u16 kNftaChainType = 7;
inline constexpr u16 kNftaHookHooknum = 1;
inline constexpr u16 kNftaHookPriority = 2;
inline constexpr u16 kNftaRuleTable = 1;
inline constexpr u16 kNftaRuleChain = 2;
inline constexpr u16 kNftaRuleExpressions = 4;
inline constexpr u16 kNftaExprName = 1;
inline constexpr u16 kNftaExprData = 2;
inline constexpr u16 kNftaDataValue = 1;
inline constexpr u16 kNftaDataVerdict = 2;
inline constexpr u16 kNftaVerdictCode = 1;
inline constexpr u16 kNftaVerdictChain = 2;
inline constexpr u16 kNftaSetTable = 1;
inline constexpr u16 kNftaSetName = 2;
inline constexpr u16 kNftaSetFlags = 3;
inline constexpr u16 kNftaSetKeyType = 4;
inline constexpr u16 kNftaSetKeyLen = 5;
inline constexpr u16 kNftaSetDataType = 6;
inline constexpr u16 kNftaSetDataLen = 7;
inline constexpr u16 kNftaSetId = 10;
inline constexpr u16 kNftaSetUserdata = 13;
inline constexpr u32 kNftSetInterval = 4;
inline constexpr u32 kNftSetMap = 8;
inline constexpr u16 kNftaSetElemListTable = 1;
inline constexpr u16 kNftaSetElemListSet = 2;
inline constexpr u16 kNftaSetElemListElements = 3;
inline constexpr u16 kNftaSetElemKey = 1;
inline constexpr u16 kNftaSetElemData = 2;
inline constexpr u16 kNftaSetElemFlags = 3;
inline constexpr u32 kNftSetElemIntervalEnd = 1;

inline constexpr u32 kNfDrop = 0;
inline constexpr u32 kNfAccept = 1;
inline constexpr u32 kNftJump = static_cast<u32>(-3);
inline constexpr u32 kNftReturn = static_cast<u32>(-5);

inline constexpr u32 kNftReg1 = 1;   // of 16 bytes; the same place as kNftReg32 + 0 to + 3
inline constexpr u32 kNftReg32 = 8;  // the first of 4 bytes
inline constexpr u32 kNftMetaIifname = 6;
inline constexpr u32 kNftMetaOifname = 7;
inline constexpr u32 kNftMetaNfproto = 15;
inline constexpr u32 kNftMetaL4proto = 16;
inline constexpr u32 kNftCtState = 0;
inline constexpr u32 kNftCtStatus = 2;

}  // namespace caisson::uapi
