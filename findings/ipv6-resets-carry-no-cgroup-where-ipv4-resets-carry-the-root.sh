#!/usr/bin/env bash
# Linux 6.18 (amd64): bpf_skb_cgroup_id() gives the root cgroup (1) for the reset that the kernel answers a closed port
# with over IPv4, and 0, "no socket", for the same reset over IPv6.
#
# Whoever books what leaves a host by cgroup meets packets that belong to no process. For both families the kernel makes
# the reset itself, from no socket of anybody's, so one would expect one answer for both: 0, or the root cgroup. Over IPv4
# the reset leaves through a control socket of the kernel's, which is in the root cgroup; over IPv6 the packet goes out
# without its socket. So resets over IPv6 look like packets that merely pass through, which have no socket either, and a
# scan of closed ports over IPv6 looks like forwarded traffic.
#
# Seen: 6.18.44  IPv4 reset: cgroup 1; IPv6 reset: cgroup 0
set -euo pipefail

case $(uname -r) in
6.1[89].* | [7-9].*) ;;
*) echo "this kernel is $(uname -r); what is shown here was seen on 6.18"; exit 1 ;;
esac

unshare --net python3 - <<'PYTHON'
import contextlib
import ctypes
import platform
import socket
import struct
import subprocess

libc = ctypes.CDLL(None, use_errno=True)
MAP_CREATE, MAP_LOOKUP, PROG_LOAD, LINK_CREATE, TCX_EGRESS = 0, 1, 5, 28, 47


def bpf(command: int, attributes: bytes) -> int:
    buffer = ctypes.create_string_buffer(attributes, 144)
    found = libc.syscall(321, command, buffer, len(attributes))  # bpf(2) of amd64
    assert found >= 0, f"bpf({command}): errno {ctypes.get_errno()}; run as root"
    return found


def instruction(code: int, to: int, of: int = 0, offset: int = 0, number: int = 0) -> bytes:
    return struct.pack("<BBhi", code, of << 4 | to, offset, number)


last = bpf(MAP_CREATE, struct.pack("<IIII", 2, 4, 8, 2).ljust(72, b"\0"))  # array of 2: IPv4, IPv6
program = b"".join(
    (
        instruction(0xBF, 6, 1),  # r6 = packet
        instruction(0x85, 0, 0, 0, 79),  # bpf_skb_cgroup_id
        instruction(0x7B, 10, 0, -8),
        instruction(0x61, 1, 6, 16),  # its EtherType
        instruction(0x62, 10, 0, -12, 0),
        instruction(0x55, 1, 0, 1, 0xDD86),
        instruction(0x62, 10, 0, -12, 1),
        instruction(0x18, 1, 1, 0, last),
        instruction(0, 0),
        instruction(0xBF, 2, 10),
        instruction(0x07, 2, 0, 0, -12),
        instruction(0xBF, 3, 10),
        instruction(0x07, 3, 0, 0, -8),
        instruction(0xB7, 4),
        instruction(0x85, 0, 0, 0, 2),  # map[IPv6?] = the cgroup; the last packet stands
        instruction(0xB7, 0, 0, 0, -1),  # TCX_NEXT
        instruction(0x95, 0),
    )
)
code, licence = ctypes.create_string_buffer(program), ctypes.create_string_buffer(b"GPL")
ends = struct.pack("<IIQQ", 3, len(program) // 8, ctypes.addressof(code), ctypes.addressof(licence))
loaded = bpf(PROG_LOAD, ends.ljust(120, b"\0"))
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
link = bpf(LINK_CREATE, struct.pack("<IIII", loaded, socket.if_nametoindex("lo"), TCX_EGRESS, 0).ljust(48, b"\0"))
seen = []
for number, (family, address) in enumerate(((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))):
    with socket.socket(family) as caller, contextlib.suppress(ConnectionRefusedError):
        caller.connect((address, 9))  # the caller's SYN leaves first, then the kernel's reset
    key, value = ctypes.c_uint32(number), ctypes.c_uint64()
    bpf(MAP_LOOKUP, struct.pack("<IIQQQ", last, 0, ctypes.addressof(key), ctypes.addressof(value), 0))
    seen.append(value.value)
print(f"{platform.release()}  IPv4 reset: cgroup {seen[0]}; IPv6 reset: cgroup {seen[1]}")
assert seen == [1, 0], "the behaviour changed"
PYTHON
