#!/usr/bin/env bash
# BPF_PROG_TEST_RUN (Linux 6.18, amd64) takes a frame that ends within its IP header for an XDP program, and refuses it
# for a TC program: EINVAL, before the program has run.
#
# Whoever tests a parser for both hooks hands the same frames to both. A frame cut behind its 14 bytes of Ethernet is
# the first such case, and both programs must cope with it on a wire. One would expect one answer, or at least one
# lower bound in bytes. For TC the bound follows the EtherType that the frame claims: 34 bytes for 0x0800, 54 for
# 0x86dd, 14 for all else. So a cut frame under a VLAN tag or MPLS label runs, the same without the tag does not, and
# the error is that of a wrong attribute, which sends one looking for a mistake in the call.
#
# Seen: 6.18.44  tc: 0800 from 34, 86dd from 54, 0806 from 14, 8100 from 14; xdp: 14 for each of them
set -euo pipefail

case $(uname -r) in
6.1[89].* | [7-9].*) ;;
*) echo "this kernel is $(uname -r); what is shown here was seen on 6.18"; exit 1 ;;
esac

python3 - <<'PYTHON'
import ctypes
import platform
import struct

libc = ctypes.CDLL(None, use_errno=True)
BPF, PROG_LOAD, PROG_TEST_RUN = 321, 5, 10  # bpf(2) of amd64
PROGRAM = ctypes.create_string_buffer(struct.pack("<BBhiBBhi", 0xB7, 0, 0, 0, 0x95, 0, 0, 0))  # r0 = 0; exit
LICENCE = ctypes.create_string_buffer(b"GPL")


def bpf(command: int, attributes: bytes) -> int:
    buffer = ctypes.create_string_buffer(attributes, 144)
    return libc.syscall(BPF, command, buffer, len(attributes))


def load(kind: int) -> int:
    fd = bpf(PROG_LOAD, struct.pack("<IIQQ", kind, 2, ctypes.addressof(PROGRAM), ctypes.addressof(LICENCE)).ljust(120, b"\0"))
    assert fd >= 0, "cannot load a program: run as root"
    return fd


def taken(fd: int, ethertype: int, size: int) -> bool:
    frame = (bytes(12) + struct.pack("!H", ethertype) + b"\x45" + bytes(100))[:size]
    data, out = ctypes.create_string_buffer(frame, size), ctypes.create_string_buffer(4096)
    ends = struct.pack("<IIIIQQ", fd, 0, size, 4096, ctypes.addressof(data), ctypes.addressof(out))
    return bpf(PROG_TEST_RUN, ends.ljust(72, b"\0")) == 0


TYPES = (0x0800, 0x86DD, 0x0806, 0x8100)
seen = {}
for name, kind in (("tc", 3), ("xdp", 6)):
    fd = load(kind)
    seen[name] = [next(size for size in range(1, 80) if taken(fd, each, size)) for each in TYPES]
    print(platform.release(), name, ", ".join(f"{each:04x} from {least}" for each, least in zip(TYPES, seen[name])))
assert seen == {"tc": [34, 54, 14, 14], "xdp": [14, 14, 14, 14]}, "the behaviour changed"
PYTHON
