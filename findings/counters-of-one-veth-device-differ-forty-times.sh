#!/usr/bin/env bash
# Linux 6.18, iproute2 6.1.0, nftables 1.0.6: of one TCP transfer over a veth device, `ip -s link` and nft count 170
# packets and `tc -s qdisc` 6,900, with 4 % more bytes.
#
# All three are counters of what left through the same device, and packets for each second are what a flood is told by.
# One would expect them to agree but for the bytes of Ethernet. TCP hands on packets of up to 64 KiB, which a network card
# cuts up, and counts as sent. On veth nobody does: the device counts what it was handed, with one set of headers. A qdisc
# counts the segments that there would be, and headers for each. With `ethtool -K ... tso off` the kernel cuts them up
# before the device, whose counters then agree with the qdisc's; nft, as conntrack, is before that and still counts large
# ones. So figures of a container are forty times too small by one tool and right by another.
#
# Seen, 10,000,000 bytes: ip 170 packets, 10,011,204 bytes; nft 169, 10,008,796; tc 6,912, 10,456,176;
#   tso off: ip 6,919, 10,456,706; nft 177, 10,009,212; tc 6,919, 10,456,706
set -euo pipefail

DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends 'iproute2=6.1.0-*' 'nftables=1.0.6-*' \
	'ethtool=1:6.1-*' >/dev/null

unshare --net python3 - <<'PYTHON'
import json
import socket
import subprocess
import time

SENT = 10_000_000
SERVER = """
import socket
with socket.create_server(("192.0.2.2", 5001)) as server:
    print("ready", flush=True)
    taken, _ = server.accept()
    while taken.recv(1 << 20):
        pass
"""


def run(command: str) -> str:
    return subprocess.check_output(command, shell=True, text=True)


def transfer(tso: str) -> dict[str, tuple[int, int]]:
    """Packets and bytes, for each that counts, of one transfer over a new pair to another network namespace."""
    with subprocess.Popen(["unshare", "--net", "sleep", "60"]) as other:
        inside = f"nsenter --net=/proc/{other.pid}/ns/net"
        while run("readlink /proc/self/ns/net") == run(f"readlink /proc/{other.pid}/ns/net"):
            time.sleep(0.05)
        run(f"ip link add tma type veth peer name tmb netns {other.pid}")
        run(f"{inside} ip addr add 192.0.2.2/24 dev tmb && {inside} ip link set tmb up")
        run("ip addr add 192.0.2.1/24 dev tma && ip link set tma up")
        run(f"ethtool -K tma tso {tso} && tc qdisc add dev tma root pfifo limit 1000")
        run("nft flush ruleset; nft 'add table t; add chain t out { type filter hook output priority 0; }'")
        run("nft add rule t out oif tma counter")
        with subprocess.Popen([*inside.split(), "python3", "-c", SERVER], stdout=subprocess.PIPE, text=True) as server:
            server.stdout.readline()
            with socket.create_connection(("192.0.2.2", 5001)) as client:
                client.sendall(bytes(SENT))
        (link,) = json.loads(run("ip -j -s link show dev tma"))
        (qdisc,) = json.loads(run("tc -j -s qdisc show dev tma"))
        rules = json.loads(run("nft -j list chain t out"))["nftables"]
        parts = [part for each in rules for part in each.get("rule", {}).get("expr", ())]
        (counter,) = [part["counter"] for part in parts if "counter" in part]
        run("ip link del tma")
        other.terminate()
    return {
        "ip": (link["stats64"]["tx"]["packets"], link["stats64"]["tx"]["bytes"]),
        "nft": (counter["packets"], counter["bytes"]),
        "tc": (qdisc["packets"], qdisc["bytes"]),
    }


seen = {tso: transfer(tso) for tso in ("on", "off")}
for tso, counts in seen.items():
    for who, (packets, octets) in counts.items():
        print(f"tso {tso}, {who}: {packets} packets, {octets} bytes")
segments, octets = SENT // 1448, SENT // 1448 * 1514
assert max(seen["on"]["ip"][0], seen["on"]["nft"][0]) < segments / 8, "the behaviour changed"
assert seen["on"]["ip"][1] < octets - 200_000, "the behaviour changed"
assert seen["on"]["tc"][0] >= segments, "the behaviour changed"
assert seen["on"]["tc"][1] >= octets, "the behaviour changed"
assert min(seen["off"]["ip"][0], seen["off"]["tc"][0]) >= segments, "the behaviour changed"
assert seen["off"]["nft"][0] < segments / 8, "the behaviour changed"
PYTHON
