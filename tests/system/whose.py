"""A step of the administrator's day: each byte is booked to the unit that sent it, or for which it came."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from host import HERE, PEER, Host, must, soon

_UDP_SENDERS, _UDP_PACKETS = 10, 65_000
_TCP_SENDERS, _TCP_BYTES = 5, 20_000_000
_SHORT = 5
_GUEST, _GUEST_GATEWAY = "198.51.100.2", "198.51.100.1"

# What the services run, at /run/whose.py: what to do, and where.
_PROGRAM = r"""
import socket, sys, threading
what, address, port, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])

def echo(peer):
    with peer:
        while taken := peer.recv(1 << 16):
            peer.sendall(taken)

def serve(server):
    while True:
        threading.Thread(target=echo, args=(server.accept()[0],), daemon=True).start()

def talk():
    with socket.create_connection((address, port)) as peer:
        reader = threading.Thread(target=lambda: [None for _ in iter(lambda: peer.recv(1 << 16), b"")])
        reader.start()
        for _ in range(0, count, 100_000):
            peer.sendall(bytes(min(count, 100_000)))
        peer.shutdown(socket.SHUT_WR)
        reader.join()

if what == "udp":
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(count):
            sender.sendto(bytes(100), (address, port))
elif what == "talk":
    talk()
elif what == "serve":
    serve(socket.create_server((address, port)))
elif what == "serve-given":
    serve(socket.socket(fileno=3))
elif what == "sink":
    for each in range(count):
        waits = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        waits.bind((address, port + each))
        globals()[f"kept{each}"] = waits
    for each in range(50):
        server = socket.create_server((address, 7000 + each))
        threading.Thread(target=serve, args=(server,), daemon=True).start()
    print("ready", flush=True)
    threading.Event().wait()
elif what == "refused":
    try:
        socket.create_connection((address, port), 5)
    except ConnectionRefusedError:
        pass
"""
_RUN = "/usr/bin/python3 /run/whose.py"
_UNITS = {
    "echoed.socket": "[Socket]\nListenStream=9001\n",
    "echoed.service": f"[Service]\nDynamicUser=yes\nExecStart={_RUN} serve-given - 0 0\n",
    "perconn.socket": "[Socket]\nListenStream=9002\nAccept=yes\n",
    "perconn@.service": "[Service]\nStandardInput=socket\nExecStart=/bin/cat\n",
    "other.socket": "[Socket]\nListenStream=9003\nService=echoing.service\n",
    "echoing.service": f"[Service]\nDynamicUser=yes\nExecStart={_RUN} serve-given - 0 0\n",
}


def tells_whose_flows_are(host: Host) -> str:
    """twenty services at once, sockets made in their place, a scope, guests: each byte is booked to the right unit"""
    _write(host, "/run/whose.py", _PROGRAM)
    for name, text in _UNITS.items():
        _write(host, f"/run/systemd/system/{name}", text)
    host.run("systemctl daemon-reload && systemctl start echoed.socket perconn.socket other.socket")
    host.run(f"systemd-run --quiet --unit whoserves -p DynamicUser=yes {_RUN} serve 0.0.0.0 8000 0")
    for line in (
        "ip netns add guest",
        "ip link add togst type veth peer name eth0 netns guest",
        f"ip address add {_GUEST_GATEWAY}/24 dev togst && ip link set togst up",
        f"ip -n guest address add {_GUEST}/24 dev eth0 && ip -n guest link set eth0 up",
        f"ip -n guest route add default via {_GUEST_GATEWAY}",
        "sysctl -q -w net.ipv4.ip_forward=1",
        f"ip -n peer route add 198.51.100.0/24 via {HERE}",
    ):
        host.run(line)
    sink = host.popen(f"ip netns exec peer {_RUN} sink {PEER} 5000 1100")
    assert sink.stdout
    must(sink.stdout.readline() == "ready\n", "a neighbour that takes what is sent", sink.poll())
    began, seen = time.time() - 1, host.seen()

    run = "systemd-run --quiet --wait --collect"
    commands = [
        f"{run} --unit whoudp{each} {_RUN} udp {PEER} {6000 + each} {_UDP_PACKETS}" for each in range(_UDP_SENDERS)
    ]
    commands += [
        f"{run} --unit whotcp{each} -p DynamicUser=yes {_RUN} talk {PEER} {7000 + each} {_TCP_BYTES}"
        for each in range(_TCP_SENDERS)
    ]
    commands += [f"{run} --unit whoshort{each} {_RUN} udp {PEER} {5000 + each} 1" for each in range(_SHORT)]
    commands += [f"systemd-run --quiet --scope --unit whohost {_RUN} udp {PEER} 5100 {_UDP_PACKETS}"]
    commands += [f"ip netns exec guest {_RUN} udp {PEER} 5200 {_UDP_PACKETS}"]
    commands += [f"ip netns exec guest {_RUN} talk {PEER} 7020 {_TCP_BYTES}"]
    commands += [f"ip netns exec peer {_RUN} talk {HERE} {port} {_TCP_BYTES}" for port in (8000, 9001, 9002, 9003)]
    commands += [f"ip netns exec peer {_RUN} refused {HERE} 81 0"]
    started = [host.popen(command) for command in commands]
    for command, process in zip(commands, started, strict=True):
        _, err = process.communicate(timeout=120)
        must(process.returncode == 0, f"`{command}` to end well", err)
    packets = host.seen() - seen

    rows = host.json(f"flows --since @{began} --limit 100000 --group-by unit,protocol,dst_port,direction")
    right: Counter[str] = Counter()
    wrong: Counter[tuple[str | None, str]] = Counter()
    for row in rows:
        unit, amount = _expected(row), row["bytes"] + row["reply_bytes"]
        if unit is None:
            continue
        if row["unit"] == unit:
            right[unit] += amount
        else:
            wrong[row["unit"], unit] += amount
    sink.terminate()
    must(not wrong, "no byte booked to another unit", dict(wrong))
    for each in range(_UDP_SENDERS):
        must(right[f"whoudp{each}.service"] == 142 * _UDP_PACKETS, "every byte", right[f"whoudp{each}.service"])
    lacking = [name for name in _all() if not right[name]]
    must(not lacking, "a row of each of them", lacking)
    soon(lambda: "echoed.service" in host.run(f"trafficctl explain {PEER} tcp/9001").stdout, "explain to name it")
    unnamed = host.json("status")["counters"]["unnamed_rows"]
    host.run("systemctl stop 'who*' 'echo*' other.socket 'perconn*'; ip netns delete guest")
    total = f"{packets:,} packets, {sum(right.values()):,} bytes of {len(right)} units"
    return f"{total}; wrong: 0; rows without a name: {unnamed}"


def _all() -> list[str]:
    return [
        *(f"whoudp{each}.service" for each in range(_UDP_SENDERS)),
        *(f"whotcp{each}.service" for each in range(_TCP_SENDERS)),
        *(f"whoshort{each}.service" for each in range(_SHORT)),
        *("whohost.scope", "forwarded", "whoserves.service", "echoed.service", "perconn@.service", "echoing.service"),
        "kernel",
    ]


def _expected(row: dict[str, Any]) -> str | None:
    """By the ports, which are each service's own; None: of nobody here."""
    port, protocol = row["dst_port"], row["protocol"]
    if protocol == "UDP":
        known = {5100: "whohost.scope", 5200: "forwarded"}
        known |= {6000 + each: f"whoudp{each}.service" for each in range(_UDP_SENDERS)}
        known |= {5000 + each: f"whoshort{each}.service" for each in range(_SHORT)}
        return known.get(port)
    if protocol == "TCP":
        known = {7020: "forwarded", 8000: "whoserves.service", 81: "kernel"}
        known |= {9001: "echoed.service", 9002: "perconn@.service", 9003: "echoing.service"}
        known |= {7000 + each: f"whotcp{each}.service" for each in range(_TCP_SENDERS)}
        return known.get(port)
    return None


def _write(host: Host, path: str, text: str) -> None:
    host.run(f"mkdir -p $(dirname {path}) && cat >{path} <<'END'\n{text}\nEND")
