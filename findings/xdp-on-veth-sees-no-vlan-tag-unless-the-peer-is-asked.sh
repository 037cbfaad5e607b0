#!/usr/bin/env bash
# Linux 6.18: an XDP program on a veth device sees tagged frames without their VLAN tag, in native and in generic mode,
# and `ethtool -K DEVICE rxvlan off` changes nothing; `ethtool -K PEER txvlan off`, at the other end, does.
#
# Network cards take the tag off before XDP, and rxvlan is what one turns off for it. A veth pair has no card: what one end
# sends, the other has. One would expect the frame as sent, or rxvlan to help. But veth says that it can insert tags in
# hardware, so the sender leaves the tag beside the packet, for a card that never comes. The receiver's stack reads
# it there, tcpdump shows it; XDP has the bytes alone, and finds an untagged frame of the inner EtherType, four bytes
# shorter. rxvlan is on, not fixed, and turning it off succeeds. The setting that matters belongs to the peer, which
# for a container is inside of it. All VLANs look like one network without any, and a rule for one of them never matches.
#
# Seen, for 10 tagged frames: XDP 10 untagged (native and generic; the same after rxvlan off); after the peer's txvlan off
#   10 tagged
set -euo pipefail

case $(uname -r) in
6.1[89].* | [7-9].*) ;;
*) echo "this kernel is $(uname -r); what is shown here was seen on 6.18"; exit 1 ;;
esac
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends 'ethtool=1:6.1-*' >/dev/null

unshare --net python3 - <<'PYTHON'
import ctypes
import platform
import socket
import struct
import subprocess
import time
from pathlib import Path

libc = ctypes.CDLL(None, use_errno=True)
MAP_CREATE, MAP_LOOKUP, PROG_LOAD, LINK_CREATE = 0, 1, 5, 28
TCX_EGRESS, XDP = 47, 37
XDP_MODES = {"generic": 2, "native": 4}
TAG, IPV4 = 0x0081, 0x0008  # EtherTypes 0x8100 and 0x0800, as a little-endian host loads them


def bpf(command: int, attributes: bytes) -> int:
    buffer = ctypes.create_string_buffer(attributes, 144)
    found = libc.syscall(321, command, buffer, len(attributes))  # bpf(2) of amd64
    assert found >= 0, f"bpf({command}): errno {ctypes.get_errno()}; run as root"
    return found


def instruction(code: int, to: int, of: int = 0, offset: int = 0, number: int = 0) -> bytes:
    return struct.pack("<BBhi", code, of << 4 | to, offset, number)


def attached(kind: int, device: str, hook: int, flags: int, *program: bytes) -> int:
    code, licence = ctypes.create_string_buffer(b"".join(program)), ctypes.create_string_buffer(b"GPL")
    ends = struct.pack("<IIQQ", kind, len(program), ctypes.addressof(code), ctypes.addressof(licence))
    loaded = bpf(PROG_LOAD, ends.ljust(120, b"\0"))
    return bpf(LINK_CREATE, struct.pack("<IIII", loaded, socket.if_nametoindex(device), hook, flags).ljust(48, b"\0"))


def run(command: str) -> None:
    subprocess.run(command.split(), check=True, stdout=subprocess.DEVNULL)


def counted(name: str, mode: str, setting: str = "") -> tuple[int, int]:
    """Untagged and tagged frames that XDP sees on one end of a pair, of ten that the other tagged."""
    near, far = f"{name}a", f"{name}b"
    run(f"ip link add {near} type veth peer name {far}")
    for device in (near, far):
        run(f"ip link set {device} up")
    run(f"ip addr add 192.0.2.1/24 dev {near}")
    run(f"ip neigh add 192.0.2.2 lladdr 02:00:00:00:00:02 dev {near}")
    if setting:
        run(f"ethtool -K {name}{setting}")
    counts = bpf(MAP_CREATE, struct.pack("<IIII", 2, 4, 8, 2).ljust(72, b"\0"))  # array: untagged, tagged
    attached(
        3, near, TCX_EGRESS, 0,
        instruction(0xB7, 2, 0, 0, TAG), instruction(0xB7, 3, 0, 0, 5),
        instruction(0x85, 0, 0, 0, 18),  # bpf_skb_vlan_push, what a VLAN device does as well
        instruction(0xB7, 0, 0, 0, -1), instruction(0x95, 0),
    )  # fmt: skip
    attached(
        6, far, XDP, XDP_MODES[mode],
        instruction(0x61, 2, 1, 0), instruction(0x61, 3, 1, 4),  # data, data_end
        instruction(0xBF, 4, 2), instruction(0x07, 4, 0, 0, 14), instruction(0x2D, 4, 3, 14),
        instruction(0x69, 5, 2, 12), instruction(0xB7, 6, 0, 0, 0),
        instruction(0x15, 5, 0, 2, IPV4), instruction(0x55, 5, 0, 10, TAG), instruction(0xB7, 6, 0, 0, 1),
        instruction(0x63, 10, 6, -4), instruction(0x18, 1, 1, 0, counts), instruction(0, 0),
        instruction(0xBF, 2, 10), instruction(0x07, 2, 0, 0, -4), instruction(0x85, 0, 0, 0, 1),  # counts[r6]
        instruction(0x15, 0, 0, 2), instruction(0xB7, 1, 0, 0, 1), instruction(0xDB, 0, 1),  # += 1
        instruction(0xB7, 0, 0, 0, 2), instruction(0x95, 0),  # XDP_PASS
    )  # fmt: skip
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(10):
            sender.sendto(b"hello", ("192.0.2.2", 9))
    time.sleep(0.5)
    seen = []
    for number in range(2):
        key, value = ctypes.c_uint32(number), ctypes.c_uint64()
        bpf(MAP_LOOKUP, struct.pack("<IIQQQ", counts, 0, ctypes.addressof(key), ctypes.addressof(value), 0))
        seen.append(value.value)
    run(f"ip link del {near}")
    return seen[0], seen[1]


Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")  # which has frames of its own
seen = {
    "native": counted("n", "native"),
    "generic": counted("g", "generic"),
    "native, rxvlan off here": counted("r", "native", "b rxvlan off"),
    "native, txvlan off at the peer": counted("t", "native", "a txvlan off"),
}
for case, (untagged, tagged) in seen.items():
    print(f"{platform.release()} {case}: {untagged} untagged, {tagged} tagged")
assert list(seen.values()) == [(10, 0), (10, 0), (10, 0), (0, 10)], "the behaviour changed"
PYTHON
