"""Executes a command as under a kernel without nf_tables: a seccomp filter makes sockets of NETLINK_NETFILTER fail.

    without_nftables.py COMMAND [ARG...]
"""

import ctypes
import errno
import os
import platform
import sys

SOCKET = {"x86_64": 41, "aarch64": 198}[platform.machine()]
AF_NETLINK, NETLINK_NETFILTER = 16, 12
PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
RET_ALLOW, RET_ERRNO = 0x7FFF0000, 0x00050000
# struct seccomp_data: nr at 0, args from 16 on, the low half of each first
LOAD, JUMP_EQUAL, RETURN = 0x20, 0x15, 0x06


class Instruction(ctypes.Structure):
    _fields_ = [("code", ctypes.c_ushort), ("jt", ctypes.c_ubyte), ("jf", ctypes.c_ubyte), ("k", ctypes.c_uint)]


class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.POINTER(Instruction))]


FILTER = [
    (LOAD, 0, 0, 0),
    (JUMP_EQUAL, 0, 5, SOCKET),
    (LOAD, 0, 0, 16),
    (JUMP_EQUAL, 0, 3, AF_NETLINK),
    (LOAD, 0, 0, 32),
    (JUMP_EQUAL, 0, 1, NETLINK_NETFILTER),
    (RETURN, 0, 0, RET_ERRNO | errno.EPROTONOSUPPORT),
    (RETURN, 0, 0, RET_ALLOW),
]

instructions = (Instruction * len(FILTER))(*FILTER)
program = Program(len(FILTER), instructions)
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program)) != 0:
    sys.exit("without_nftables: seccomp: " + os.strerror(ctypes.get_errno()))
os.execvp(sys.argv[1], sys.argv[1:])
