#!/usr/bin/env bash
# Linux 6.18, iproute2 6.1.0, bpftool 7.1.0 (Debian 12): a program attached with tcx drops every packet of an interface,
# and neither tc, nor ip, nor bpftool net shows the program or one dropped packet.
#
# "Where do my packets go?" is asked of `tc filter show`, `tc -s qdisc`, `ip -s link` and `bpftool net`: until Linux 6.6
# every program at the TC hook was a filter of a clsact qdisc, listed and counted there. tcx (kernel commit e420bed02507)
# took the hook but not the qdisc: tc reads filters only. A drop on the way out is counted nowhere: not by the interface,
# whose transmit counters come after the hook, not by a qdisc, since there is none, and sendto() reports success. A
# bpftool of before 6.6 looks at filters too; only its list of all links has a line, "type 11", without an interface.
#
# Seen: a datagram over lo arrives, with the program it does not, without it the next one does; tc, ip and bpftool net
#   show no program and no drop; bpftool link shows {"type": 11, "prog_id": ...}
set -euo pipefail

case $(uname -r) in
6.1[89].* | [7-9].*) ;;
*) echo "this kernel is $(uname -r); what is shown here was seen on 6.18"; exit 1 ;;
esac
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends 'iproute2=6.1.0-*' 'bpftool=7.1.0+*' >/dev/null

unshare --net python3 - <<'PYTHON'
import ctypes
import json
import os
import platform
import socket
import struct
import subprocess

BPF_SYSCALL = {"x86_64": 321, "aarch64": 280}[platform.machine()]
PROG_LOAD, LINK_CREATE = 5, 28  # include/uapi/linux/bpf.h
SCHED_CLS, TCX_EGRESS, TCX_DROP = 3, 47, 2
libc = ctypes.CDLL(None, use_errno=True)


def bpf(command: int, attributes: bytes) -> int:
    fd: int = libc.syscall(BPF_SYSCALL, command, ctypes.create_string_buffer(attributes, len(attributes)), len(attributes))
    if fd < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return fd


def shown(*command: str) -> str:
    output = subprocess.run(command, text=True, capture_output=True, check=True).stdout
    print("$", *command, "\n" + output)
    return output


def arrives() -> bool:
    assert sender.sendto(b"hello", receiver.getsockname()) == 5  # no error, whatever becomes of it
    try:
        return receiver.recv(9) == b"hello"
    except TimeoutError:
        return False


subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
receiver, sender = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
receiver.bind(("127.0.0.1", 0))
receiver.settimeout(0.5)
code = struct.pack("=BBhi", 0xB7, 0, 0, TCX_DROP) + struct.pack("=BBhi", 0x95, 0, 0, 0)  # r0 = TCX_DROP; exit
code_at, licence_at = ctypes.create_string_buffer(code), ctypes.create_string_buffer(b"GPL")
where = ctypes.addressof(code_at), ctypes.addressof(licence_at)
program = bpf(PROG_LOAD, struct.pack("=IIQQ", SCHED_CLS, 2, *where) + bytes(48))

assert arrives()
link = bpf(LINK_CREATE, struct.pack("=IIII", program, socket.if_nametoindex("lo"), TCX_EGRESS, 0) + bytes(40))
assert not any(arrives() for _ in range(4))
assert shown("tc", "filter", "show", "dev", "lo", "egress") == ""
assert "clsact" not in (queue := shown("tc", "-s", "qdisc", "show", "dev", "lo")) and "dropped 0" in queue
counted = json.loads(shown("ip", "-s", "-j", "-d", "link", "show", "lo"))[0]
assert "xdp" not in counted and counted["stats64"]["tx"] == {
    "bytes": 33, "packets": 1, "errors": 0, "dropped": 0, "carrier_errors": 0, "collisions": 0
}, "the behaviour changed"
networks = json.loads(shown("bpftool", "-j", "net", "show", "dev", "lo"))
assert networks == [{"xdp": [], "tc": [], "flow_dissector": []}], "the behaviour changed"
links = [entry for entry in json.loads(shown("bpftool", "-j", "link", "show")) if entry["type"] == 11]
assert links and all("ifindex" not in entry and "devname" not in entry for entry in links), "the behaviour changed"
os.close(link)
assert arrives()
print("one of five datagrams was sent and arrived; tc, ip and bpftool net know nothing of the other four")
PYTHON
