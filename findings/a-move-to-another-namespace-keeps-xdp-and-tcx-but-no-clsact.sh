#!/usr/bin/env bash
# Linux 6.18, iproute2 6.1.0: an interface that is moved to another network namespace takes its XDP program and its tcx
# programs with it, and loses its clsact qdisc with all filters; both in silence.
#
# A move ends what belongs to the old namespace: addresses, routes, neighbours, and qdiscs with their filters (dev_shutdown
# in __dev_change_net_namespace). One would expect the same of all programs at the interface, or of none: tcx was made to
# replace BPF filters of clsact, at the same hook. So a filter for what comes in still drops packets inside a container,
# after its network card was handed over, by rules of the host that nobody inside can see; and the filter for what goes out
# is gone on kernels before 6.6, or where a tool uses clsact. The links still report the same ifindex, so a program that
# watches them sees no change; the counters of both go on under a number that is another interface outside.
#
# Seen: before the move: xdp, tcx, clsact; after it: xdp, tcx; back in the first namespace: xdp, tcx
set -euo pipefail

case $(uname -r) in
6.1[89].* | [7-9].*) ;;
*) echo "this kernel is $(uname -r); what is shown here was seen on 6.18"; exit 1 ;;
esac
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends 'iproute2=6.1.0-*' >/dev/null

unshare --net --mount python3 - <<'PYTHON'
import ctypes
import json
import os
import platform
import struct
import subprocess

BPF_SYSCALL = {"x86_64": 321, "aarch64": 280}[platform.machine()]
PROG_LOAD, OBJ_GET_INFO_BY_FD, LINK_CREATE = 5, 15, 28  # include/uapi/linux/bpf.h
SCHED_CLS, XDP, AT_XDP, AT_TCX_INGRESS = 3, 6, 37, 46
libc = ctypes.CDLL(None, use_errno=True)
kept = []


def bpf(command: int, attributes: bytes) -> int:
    found: int = libc.syscall(
        BPF_SYSCALL, command, ctypes.create_string_buffer(attributes, len(attributes)), len(attributes)
    )
    if found < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return found


def attached(kind: int, where: int, ifindex: int) -> int:
    """A link of a program that returns 2: XDP_PASS, and TCX_DROP."""
    code = struct.pack("=BBhi", 0xB7, 0, 0, 2) + struct.pack("=BBhi", 0x95, 0, 0, 0)
    texts = ctypes.create_string_buffer(code), ctypes.create_string_buffer(b"GPL")
    kept.extend(texts)
    program = bpf(PROG_LOAD, struct.pack("=IIQQ", kind, 2, *map(ctypes.addressof, texts)) + bytes(48))
    return bpf(LINK_CREATE, struct.pack("=IIII", program, ifindex, where, 0) + bytes(40))


def ifindex_of(link: int) -> int:
    """0: the link is attached to nothing any more (struct bpf_link_info; XDP and tcx have the ifindex first)."""
    info = ctypes.create_string_buffer(256)
    bpf(OBJ_GET_INFO_BY_FD, struct.pack("=IIQ", link, len(info), ctypes.addressof(info)))
    return int(struct.unpack_from("=I", info, 16)[0])


def run(*command: str) -> str:
    return subprocess.run(command, text=True, capture_output=True, check=True).stdout


def present(namespace: str | None = None) -> list[str]:
    within = ("ip", "netns", "exec", namespace) if namespace else ()
    has_xdp = "xdp" in json.loads(run(*within, "ip", "-j", "-d", "link", "show", "card"))[0]
    qdiscs = {each["kind"] for each in json.loads(run(*within, "tc", "-j", "qdisc", "show", "dev", "card"))}
    links = {"xdp": has_xdp and ifindex_of(xdp) == ifindex, "tcx": ifindex_of(tcx) == ifindex, "clsact": "clsact" in qdiscs}
    return [name for name, there in links.items() if there]


run("mount", "-t", "tmpfs", "none", "/run/netns") if os.path.isdir("/run/netns") else os.mkdir("/run/netns")
run("ip", "netns", "add", "container")
run("ip", "link", "add", "card", "type", "veth", "peer", "name", "cable")
ifindex = json.loads(run("ip", "-j", "link", "show", "card"))[0]["ifindex"]
xdp, tcx = attached(XDP, AT_XDP, ifindex), attached(SCHED_CLS, AT_TCX_INGRESS, ifindex)
run("tc", "qdisc", "add", "dev", "card", "clsact")
seen = {"before": present()}
run("ip", "link", "set", "card", "netns", "container")
seen["in the container"] = present("container")
run("ip", "-n", "container", "link", "set", "card", "netns", str(os.getpid()))
seen["back"] = present()
run("ip", "netns", "del", "container")
for when, there in seen.items():
    print(f"{when}: {', '.join(there)}")
assert list(seen.values()) == [["xdp", "tcx", "clsact"], ["xdp", "tcx"], ["xdp", "tcx"]], "the behaviour changed"
PYTHON
