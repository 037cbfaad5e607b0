"""Idle sessions for an hour, as root, with the response on: nothing of them is a threat above low, nothing is banned.

    sudo env PYTHONPATH=tests/lab:. .venv/bin/python tests/soak/idle.py [--minutes N]

Both ways over one wire, between addresses of the public kind: four real SSH sessions with ServerAliveInterval 60, a
ControlMaster through which five commands at a time are run, and what a quiet server holds open otherwise: IMAP IDLE,
MQTT, a pool of database connections, WebSockets, bare TCP keepalives, NTP, a tunnel of UDP. Nobody dials after the
first minute. At the end the same address guesses passwords, which must be found: a filter that sees nothing proves
nothing.
"""

from __future__ import annotations

import argparse
import json
import selectors
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from tmlab import Daemon, Lab, Namespace
from tmlab.daemon import PYTHON, ROOT

OUTSIDE, HOST = "203.0.113.2", "203.0.113.1"
SETTINGS = """
[response]
ban = "on"
[[log]]
format = "jsonl"
path = "{home}/traffic.jsonl"
"""
_SEVERITIES = ("low", "medium", "high", "critical")
_ALIVE = ("-o", "ServerAliveInterval=60")
_COMMANDS_S, _LOOK_S = 45, 20


@dataclass(frozen=True)
class Talk:
    """A protocol that is silent but for `ask`, answered by `answer`, every `every_s` on each of `count` connections.

    `hello`: what the client says first (the server answers with `welcome`). `fixed`: UDP from the service's own port.
    """

    name: str
    port: int
    count: int
    every_s: float
    ask: bytes
    answer: bytes
    hello: bytes = b""
    welcome: bytes = b"+"
    udp: bool = False
    fixed: bool = False


TALKS = (
    Talk("IMAP IDLE", 143, 4, 120, b"DONE\r\na3 IDLE\r\n", b"a2 OK Idle completed.\r\n+ idling\r\n", b"a1 LOGIN u\r\n"),
    Talk("MQTT", 1883, 6, 45, b"\xc0\x00", b"\xd0\x00", b"\x10\x0d\x00\x04MQTT\4\2\0\x3c\0\1a", b"\x20\2\0\0"),
    Talk("database pool", 5432, 10, 60, b"Q\0\0\0\x0dSELECT 1\0", b"T" + b"\0" * 45, b"\0\0\0\x08\0\3\0\0"),
    Talk("WebSocket", 443, 3, 30, b"\x89\x80\1\2\3\4", b"\x8a\x00", b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n"),
    Talk("keepalive only", 6379, 5, 0, b"", b"", b"PING\r\n", b"+PONG\r\n"),
    Talk("slow keepalive", 3389, 4, 300, b"\x03\0\0\x07", b"\x03\0\0\x07", b"\x03\0\0\x13"),
    Talk("NTP", 123, 1, 64, b"\x23" + b"\0" * 47, b"\x24" + b"\0" * 47, udp=True, fixed=True),
    Talk("tunnel", 51820, 1, 25, b"\4" + b"\0" * 31, b"\4" + b"\0" * 31, udp=True, fixed=True),
    Talk("MQTT-SN", 1884, 4, 50, b"\2\x16", b"\2\x17", udp=True),
)  # fmt: skip


def main() -> int:
    """Exit code 1 if a threat above low was told, anything was banned, a session ended, or guessing was not found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--serve", metavar="ADDRESS", help=argparse.SUPPRESS)
    parser.add_argument("--talk", nargs=2, metavar=("FROM", "TO"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve)
    elif arguments.talk:
        talk(*arguments.talk)
    else:
        return watch(arguments.minutes)
    return 0


# ---- both ends of the small protocols, processes of their own ----


def serve(address: str) -> None:
    """Answer every talk at `address`, and its opening."""
    chooser = selectors.DefaultSelector()
    for one in TALKS:
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM if one.udp else socket.SOCK_STREAM)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((address, one.port))
        if not one.udp:
            server.listen()
        chooser.register(server, selectors.EVENT_READ, one)
    while True:
        for key, _ in chooser.select():
            one, ready = key.data, key.fileobj
            assert isinstance(ready, socket.socket)
            if one.udp:
                said, peer = ready.recvfrom(2048)
                ready.sendto(one.answer, peer)
            elif ready.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                chooser.register(ready.accept()[0], selectors.EVENT_READ, one)
            elif said := ready.recv(2048):
                ready.sendall(one.answer if said == one.ask else one.welcome)
            else:
                chooser.unregister(ready)
                ready.close()


def talk(own: str, other: str) -> None:
    """Open all connections from `own` to `other` and keep each alive as its protocol does; ends if one is lost."""
    open_ones: list[tuple[Talk, socket.socket]] = []
    for one in TALKS:
        for _ in range(one.count):
            client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM if one.udp else socket.SOCK_STREAM)
            client.settimeout(10)
            if one.udp:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            else:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)
            # Servers hold the service's ports of their own address, so a fixed port is one beside it.
            client.bind((own, one.port + 10_000 if one.fixed else 0))
            client.connect((other, one.port))
            if one.hello:
                client.sendall(one.hello)
                client.recv(2048)
            open_ones.append((one, client))
            time.sleep(0.7)
    due = [time.monotonic() + one.every_s if one.every_s else float("inf") for one, _ in open_ones]
    while True:
        at = min(range(len(due)), key=due.__getitem__)
        time.sleep(max(0.0, due[at] - time.monotonic()))
        one, client = open_ones[at]
        client.sendall(one.ask)
        if not client.recv(2048):
            raise SystemExit(f"{one.name}: the connection was closed")
        due[at] += one.every_s


# ---- the hour ----


def watch(minutes: float) -> int:
    with ExitStack() as stack:
        lab = stack.enter_context(Lab())
        lab.outside.ip(f"addr add {OUTSIDE}/24 dev {lab.links[0].outside}")
        lab.host.ip(f"addr add {HOST}/24 dev {lab.links[0].host}")
        daemon = stack.enter_context(Daemon(lab, SETTINGS))
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f"{lab.name}-")))
        sessions = Sessions(stack, home)
        for name, here, there, own, other in (
            ("inwards", lab.outside, lab.host, OUTSIDE, HOST),
            ("outwards", lab.host, lab.outside, HOST, OUTSIDE),
        ):
            sessions.open(name, here, there, own, other)
        wrong: list[str] = []
        began, commands = time.monotonic(), 0.0
        while time.monotonic() - began < 60 * minutes and not wrong:
            if time.monotonic() > commands:
                sessions.run_commands()
                commands = time.monotonic() + _COMMANDS_S
            time.sleep(_LOOK_S)
            wrong = sessions.ended() + told(daemon)
        counted = daemon.status()
        print(
            f"       after {(time.monotonic() - began) / 60:.0f} minutes: {json.dumps(counted['threats'])}", flush=True
        )
        for threat in daemon.ask("threats"):
            print(f"       {threat['severity']} {threat['detector']}: {threat['summary']}")
        if not wrong and not guessing_is_found(daemon, sessions):
            wrong = ["password guessing at the end was not found"]
        for line in wrong:
            print(f"WRONG  {line}")
        if not wrong:
            print("ok     no threat above low, no ban, no session lost; guessing was found afterwards")
        return int(bool(wrong))


class Sessions:
    """What is open in one direction and the other: processes, ended with `stack`."""

    def __init__(self, stack: ExitStack, home: Path) -> None:
        self._stack = stack
        self._home = home
        self._log: TextIO = stack.enter_context((home / "said").open("w+"))
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._masters: list[list[str]] = []
        self._failed = 0  # commands through a master
        self.ssh: dict[str, list[str]] = {}
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(home / "key"))
        (home / "authorized").write_text((home / "key.pub").read_text())
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)

    def open(self, name: str, here: Namespace, there: Namespace, own: str, other: str) -> None:
        """All sessions from `own` in `here` to `other` in `there`."""
        key, mux = self._home / "key", self._home / f"mux-{name}"
        sshd = ["-o", f"AuthorizedKeysFile={self._home}/authorized", "-o", "StrictModes=no", "-o", "PidFile=none"]
        sshd += ["-o", "PermitRootLogin=yes", "-o", "UsePAM=no", "-o", f"ListenAddress={other}", "-h", str(key)]
        self._start(f"{name} sshd", there, "/usr/sbin/sshd", "-D", "-e", "-f", "/dev/null", *sshd)
        self._start(f"{name} servers", there, PYTHON, __file__, "--serve", other)
        time.sleep(1)
        self._start(f"{name} clients", here, PYTHON, __file__, "--talk", own, other)
        ssh = [
            "ssh",
            "-F",
            "none",
            "-i",
            str(key),
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
        ]
        ssh += ["-o", "BatchMode=yes", "-b", own]
        for number in range(4):
            self._start(f"{name} ssh {number}", here, *ssh, *_ALIVE, f"root@{other}", "sleep 100000")
        self._start(f"{name} master", here, *ssh, *_ALIVE, "-M", "-N", "-S", str(mux), f"root@{other}")
        for _ in range(100):
            if mux.exists():
                break
            time.sleep(0.1)
        self._masters.append(here.argv("ssh", "-F", "none", "-S", mux, f"root@{other}", "uname"))
        self.ssh[name] = here.argv(
            *ssh, "-o", "PubkeyAuthentication=no", "-o", "ConnectTimeout=5", f"root@{other}", "true"
        )

    def run_commands(self) -> None:
        """Five forks at once through each master, as Ansible does."""
        for command in self._masters:
            forks = [subprocess.Popen(command, stdout=self._log, stderr=self._log) for _ in range(5)]
            self._failed += sum(fork.wait(30) != 0 for fork in forks)

    def ended(self) -> list[str]:
        """What is no longer open, and what was said last."""
        gone = [f"{name} ended with {p.returncode}" for name, p in self._running.items() if p.poll() is not None]
        gone += [f"{self._failed} commands through a master failed"] if self._failed else []
        return [*gone, *(self._home / "said").read_text(errors="replace").splitlines()[-5:]] if gone else []

    def _start(self, name: str, where: Namespace, *command: str) -> None:
        process = subprocess.Popen(
            where.argv(*command),
            stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
            env={"PYTHONPATH": f"{ROOT}:{ROOT / 'tests' / 'lab'}", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        )  # fmt: skip
        self._running[name] = process
        self._stack.callback(process.wait)
        self._stack.callback(process.terminate)


def told(daemon: Daemon) -> list[str]:
    """Threats above low and bans, as the daemon has them and as its log has them."""
    threats: list[dict[str, Any]] = daemon.ask("threats")
    above = [one for one in threats if _SEVERITIES.index(one["severity"]) > 0]
    found = [f"threat: {one['severity']} {one['summary']}" for one in above]
    found += [f"ban: {json.dumps(one)}" for one in daemon.ask("bans")]
    log = daemon.home / "traffic.jsonl"
    events = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    return found + [f"event: {json.dumps(one)}" for one in events if one.get("event") == "ban"]


def guessing_is_found(daemon: Daemon, sessions: Sessions) -> bool:
    """Forty refused logins from the address of the sessions, at the same sshd; fewer once their address is banned."""
    for _ in range(40):
        with suppress(subprocess.TimeoutExpired):  # in the middle of a login
            subprocess.run(sessions.ssh["inwards"], capture_output=True, check=False, timeout=30)
        if daemon.ask("bans"):
            break
    try:
        daemon.wait(lambda: any(one["detector"] == "brute_force" for one in daemon.ask("threats")), "guessing", 30, 1)
    except AssertionError as error:
        print(error)
        return False
    return True


def run(*command: str) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


if __name__ == "__main__":
    sys.exit(main())
