#!/usr/bin/env bash
# Linux 6.18, iproute2 6.1.0: an accepted connection is in the cgroup in which the listening socket was made, whatever
# cgroup the process is in that accepts it; so is what a process sends after it was moved.
#
# `ss --cgroup`, BPF's bpf_skb_cgroup_id() and nftables' "socket cgroupv2" tell whose a packet is. One would expect the
# process that accepts, or the one that holds the socket: net_cls of cgroup v1 was set anew for all sockets of a process
# that moved, and the memory of an accepted socket is charged to the cgroup that accepts it. The cgroup of a socket is
# taken when the socket is made, and the kernel makes accepted ones as copies of the listening one. So all traffic of a
# service behind a socket unit belongs to systemd's own cgroup; a server that is moved after it has started leaves even its
# future connections behind; and the cgroup that is charged may have no process, or be deleted.
#
# Seen: port opened in tm-opener, process moved to tm-worker, connection accepted there: ss has the listening and the
#   accepted socket in /tm-opener, the caller, made after the move, in /tm-worker
set -euo pipefail

case $(uname -r) in
6.1[89].* | [7-9].*) ;;
*) echo "this kernel is $(uname -r); what is shown here was seen on 6.18"; exit 1 ;;
esac
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends 'iproute2=6.1.0-*' >/dev/null

unshare --net python3 - <<'PYTHON'
import os
import socket
import subprocess
from pathlib import Path

mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
root = Path(next(place for _, place, kind, *_ in mounts if kind == "cgroup2"))
home = next(line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::"))
opener, worker = root / "tm-opener", root / "tm-worker"


def move(to: Path) -> None:
    (to / "cgroup.procs").write_text(str(os.getpid()))


def cgroup_of(which: socket.socket, peer_port: str) -> str:
    ask = ["ss", "-Htan", "--cgroup", f"sport = {which.getsockname()[1]} and dport = {peer_port}"]
    return subprocess.check_output(ask, text=True).split("cgroup:")[1].strip()


subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
try:
    for folder in (opener, worker):
        folder.mkdir()
    move(opener)
    listening = socket.create_server(("127.0.0.1", 0))
    move(worker)
    caller = socket.create_connection(listening.getsockname())
    accepted, (_, port) = listening.accept()
    accepted.sendall(b"hello")
    seen = {
        "listening": cgroup_of(listening, "0"),
        "accepted": cgroup_of(accepted, str(port)),
        "caller": cgroup_of(caller, str(listening.getsockname()[1])),
    }
finally:
    move(root / home.lstrip("/"))
    for folder in (opener, worker):
        folder.rmdir()
for name, cgroup in seen.items():
    print(f"{name}: {cgroup}")
assert seen == {"listening": "/tm-opener", "accepted": "/tm-opener", "caller": "/tm-worker"}, "the behaviour changed"
PYTHON
