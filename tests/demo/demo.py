"""A guided tour of trafficmon in a lab of its own: two network namespaces, real traffic, every command shown as typed.

KEEP=1 leaves the lab up; the commands shown then work as they stand, from the shell that the last lines describe.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator

from tmlab import Daemon, DaemonFailed, Lab, LabError, Sender
from tmlab.daemon import PYTHON, ROOT, mount_bpffs
from tmlab.packets import tcp

FOLDER = ROOT / "build" / "demo"
END = FOLDER / "bin" / "end"
STRANGER, STRANGER_NET = "203.0.113.7", "203.0.113.0/24"
SCANNER, PORTS, SYN = "198.51.100.66", range(1, 301), 2
LOCK = "/run/lock/trafficmon-demo"  # the lab has one name, that of "ip netns"
STEPS = 6
TERMINAL = sys.stdout.isatty()

SETTINGS = """
[flows]
interval = "500ms"
idle_timeout = "2s"

[[log]]
format = "jsonl"
path = "{home}/traffic.jsonl"
"""

RULE_FILE = """\
[[rule]]
cidr = "203.0.113.0/24"
action = "drop"
label = "from a file"
"""

QUERY = """\
SELECT protocol, action, count(*) AS flows, sum(packets + reply_packets) AS packets, sum(bytes + reply_bytes) AS bytes
FROM flows GROUP BY protocol, action ORDER BY bytes DESC"""


class Tour:
    """Headings, explanations, and commands with their output."""

    def __init__(self, lab: Lab, daemon: Daemon) -> None:
        self.lab, self.daemon = lab, daemon
        self.link = lab.links[0]
        self.tools = FOLDER / "bin"
        self.environment = os.environ | {
            "PATH": f"{self.tools}:{os.environ['PATH']}",
            "TRAFFICMON_SOCKET": str(daemon.socket),
            "LC_ALL": "C.UTF-8",  # the tour reads what commands say
            "no_proxy": "*",  # of curl: nothing leaves the lab
        }

    def write_tools(self) -> None:
        """The commands of the tour: trafficctl of this checkout, and `outside` and `host` to be on either side."""
        shutil.rmtree(FOLDER, ignore_errors=True)
        self.tools.mkdir(parents=True)
        python_path = f'PYTHONPATH="{ROOT}" exec {PYTHON} -P'
        enter = {name: f'exec nsenter --net=/run/netns/{ns} -- "$@"' for name, ns in self._sides()}
        scripts = enter | {
            "trafficctl": f'{python_path} -m trafficctl "$@"',
            "trafficmond": f'{python_path} -m trafficmond "$@"',
        }
        (FOLDER / "flows.db").symlink_to(self.daemon.database)
        (FOLDER / "cidr.d").symlink_to(self.daemon.cidr_dir)
        for name, script in scripts.items():
            path = self.tools / name
            path.write_text(f"#!/bin/sh\n{script}\n")
            path.chmod(0o755)

    def _sides(self) -> list[tuple[str, str]]:
        return [("outside", self.lab.outside.name), ("host", self.lab.host.name)]

    def write_end(self, processes: list[subprocess.Popen[bytes]]) -> None:
        """The command that removes a lab which was left up."""
        pids = " ".join(str(process.pid) for process in processes)
        namespaces = "".join(f"ip netns delete {namespace}\n" for namespace in self.lab.namespaces)
        kill = f"kill {self.daemon.pid} {pids}\nsleep 1\n"
        END.write_text(f"#!/bin/sh\n{kill}rm -rf {self.daemon.home} {self.daemon.pins}\n{namespaces}")
        END.chmod(0o755)

    def heading(self, text: str) -> None:
        """A step's says how far the tour is: "[2 of 6] ..."."""
        number, dot, rest = text.partition(". ")
        text = f"[{number} of {STEPS}] {rest}" if dot and number.isdigit() else text
        print(f"\n\033[1m{text}\033[0m" if TERMINAL else f"\n== {text}", flush=True)

    def say(self, text: str) -> None:
        print(text, flush=True)

    def run(self, command: str, *, may_fail: bool = False) -> str:
        """Show `command`, run it, show what it said; stop the tour if it fails."""
        print(f"\033[1m$ {command}\033[0m" if TERMINAL else f"$ {command}", flush=True)
        done = subprocess.run(
            command, shell=True, env=self.environment, cwd=FOLDER, text=True, timeout=30, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        if done.stdout.strip():
            print(done.stdout.rstrip(), flush=True)
        if done.returncode and not may_fail:
            raise LabError(f"{command}: exit {done.returncode}\n{self.daemon.said()}")
        return done.stdout

    def ping(self, source: str, expect: str) -> None:
        """Three pings as a stranger; the summary must contain `expect`."""
        said = self.run(
            f"outside ping -q -c 3 -i 0.2 -W 1 -I {source} {self.link.host_ip} | grep transmitted", may_fail=True
        )
        if expect not in said:
            raise LabError(f"expected {expect!r} of that ping\n{self.daemon.said()}")


@contextlib.contextmanager
def services(tour: Tour, keep: bool) -> Iterator[None]:
    """A web server and a name server on the host; a stranger's address outside."""
    link = tour.link
    tour.lab.outside.ip(f"addr add {STRANGER}/32 dev {link.outside}")
    tour.lab.host.ip(f"route add {STRANGER_NET} dev {link.host}")
    (FOLDER / "www").mkdir()
    (FOLDER / "www" / "download.bin").write_bytes(os.urandom(1 << 20) * 20)
    web = [PYTHON, "-m", "http.server", "8080", "--bind", link.host_ip, "--directory", str(FOLDER / "www")]
    names = [
        "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-hosts", "--no-resolv", "--user=root",
        "--pid-file=", "--bind-interfaces", f"--listen-address={link.host_ip}", "--address=/www.example.org/192.0.2.80",
    ]  # fmt: skip
    running = [
        subprocess.Popen(
            tour.lab.host.argv(*command),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        for command in (web, names)
    ]
    try:
        yield
    finally:
        if keep:
            tour.write_end(running)
        else:
            for process in running:
                process.terminate()
                process.wait()


def tour_of(tour: Tour) -> None:
    """The tour, step by step."""
    link = tour.link
    sides = f"outside: {link.outside_ip}, {link.outside_ip6}", f"host: {link.host_ip}, {link.host_ip6}"
    tour.say(f"{sides[0]}  <-- veth -->  {sides[1]}")
    tour.say(f"A stranger lives outside as well, at {STRANGER}. trafficmond guards the host's end, {link.host}.")
    tour.run("trafficctl status")

    tour.heading("1. Traffic: a download, a name, pings over IPv4 and IPv6")
    tour.run(
        f"outside curl -sS --retry 5 --retry-connrefused -o /dev/null -w '%{{size_download}} bytes\\n' http://{link.host_ip}:8080/download.bin"
    )
    tour.run(f"outside dig +short @{link.host_ip} www.example.org")
    tour.run(f"outside ping -q -c 5 -i 0.2 {link.host_ip} | grep transmitted")
    tour.run(f"outside ping -q -c 5 -i 0.2 {link.host_ip6} | grep transmitted")

    tour.heading("2. A rule, at once: no packet of that network gets in any more")
    tour.ping(STRANGER, " 0% packet loss")
    tour.run(f"trafficctl add-cidr {STRANGER_NET} --label 'bad neighbours'")
    tour.ping(STRANGER, "100% packet loss")
    tour.run(f"trafficctl explain {STRANGER}")
    tour.run(f"trafficctl remove-cidr {STRANGER_NET}")
    tour.ping(STRANGER, " 0% packet loss")

    tour.heading("3. The same from a file: saved, read, checked whole, in force")
    tour.run(f"cat > cidr.d/10-demo.toml <<'END'\n{RULE_FILE}END")
    tour.daemon.wait_status(lambda s: s["rules"]["count"] >= 1, "the file's rule")
    tour.ping(STRANGER, "100% packet loss")
    tour.say("A mistake in the file changes nothing in the kernel, and says where it is:")
    tour.run("sed -i s/drop/dorp/ cidr.d/10-demo.toml")
    tour.daemon.wait_status(lambda s: s["config"]["error"], "the mistake to be seen")
    tour.run("trafficctl reload", may_fail=True)
    tour.ping(STRANGER, "100% packet loss")
    tour.run("rm cidr.d/10-demo.toml")
    tour.daemon.wait_status(lambda s: not s["config"]["error"] and not s["rules"]["count"], "the rule's end")
    tour.ping(STRANGER, " 0% packet loss")

    tour.heading(f"4. A threat: {SCANNER} tries {len(PORTS)} ports of the host")
    with Sender(tour.lab.outside, link.outside) as sender:
        sent = sender.send([tcp(SCANNER, link.host_ip, sport=40000 + port, dport=port, flags=SYN) for port in PORTS])
    tour.say(f"{sent.packets} frames, {sent.bytes} bytes sent.")
    (threat,) = tour.daemon.wait(lambda: tour.daemon.ask("threats"), "a threat", timeout=15)
    tour.run("trafficctl threats")
    tour.run(f"trafficctl threat {threat['id']} | head -25")
    tour.run(f"trafficctl ban {SCANNER} --ttl 1h --reason 'scans ports'")
    tour.run("trafficctl bans")

    tour.heading("5. The moment: who talks, averaged, as the full screen of `trafficctl top` shows it")
    tour.run("trafficctl top")

    tour.heading("6. What it saw: every packet and byte is accounted for")
    time.sleep(3)  # flows are stored when they have been idle for two seconds
    tour.run("trafficctl status")
    tour.run("trafficctl flows --sort bytes --limit 8")
    tour.run("trafficctl flows --action drop --limit 5")
    tour.run(f'sqlite3 -box flows.db "\n{QUERY}"')


def main() -> int:
    """Run the tour; 0 if every step did what it says."""
    if os.geteuid() != 0:
        print("demo: needs root for network namespaces and BPF; run: sudo make demo", file=sys.stderr)
        return 2
    keep = os.environ.get("KEEP", "") not in ("", "0")
    with open(LOCK, "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("demo: another demo is running; start this one when it has ended", file=sys.stderr)
            return 1
        return tour_in_lab(keep)


def tour_in_lab(keep: bool) -> int:
    """The tour, in a lab that nobody else uses; 0 if every step did what it says."""
    started = time.monotonic()
    mount_bpffs()
    if END.exists():  # a lab that KEEP=1 has left up
        subprocess.run([END], stderr=subprocess.DEVNULL, check=False)
    with Lab(suffix="demo", keep=keep) as lab, Daemon(lab, SETTINGS, keep=keep) as daemon:
        tour = Tour(lab, daemon)
        tour.write_tools()
        tour.heading("trafficmon: a tour in a lab of its own")
        try:
            with services(tour, keep):
                tour_of(tour)
        except (LabError, DaemonFailed) as error:
            print(f"\ndemo: {error}", file=sys.stderr)
            return 1
        tour.heading(f"Done in {time.monotonic() - started:.0f} s.")
        if keep:
            tour.say("The lab stays up. To play with it, as root:")
            tour.say(f"  cd {FOLDER}; export PATH={tour.tools}:$PATH TRAFFICMON_SOCKET={daemon.socket}")
            tour.say(
                "  trafficctl top          outside ping ...          host ip link          end   (removes the lab)"
            )
        else:
            tour.say(
                "The lab is removed. KEEP=1 would have left it up to play with; sudo make run IFACE=... is for real."
            )
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # leaving the blocks above has removed the lab
        print("\ndemo: interrupted", file=sys.stderr)
        sys.exit(130)
