"""Which process a flow is of: who binds, connects or first sends, whatever has become of it since."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from cgrouped import TREE, Services, end, waiting
from tmlab import Daemon, Lab
from tmlab.daemon import BPFFS, mount_bpffs, remove_pins
from verified import verified

from trafficmond.datapath import libbpf, processes_seen
from trafficmond.datapath.attach import Attachment
from trafficmond.datapath.datapath import _processes_seen
from trafficmond.datapath.loader import Loaded
from trafficmond.datapath.loading import Options
from trafficmond.datapath.processes_seen import ProcessCounts, ProcessesSeen
from trafficmond.flows.processes import END

pytestmark = [
    pytest.mark.root,
    pytest.mark.timeout(120),
    pytest.mark.skipif(TREE is None, reason="needs a tree of cgroup2: mount -t cgroup2 none /sys/fs/cgroup/unified"),
]

ON = '[policy]\ndefault = "monitor"\n[flows]\ninterval = "100ms"\nprocesses = true\n'
PROGRAMS = {"tm_who_out", *(f"tm_who_{what}{family}" for what in ("bind", "dial", "send") for family in "46")}
_NAMED = """
import ctypes, sys
ctypes.CDLL(None).prctl(15, sys.argv.pop(1).encode())  # PR_SET_NAME
exec(sys.argv.pop(1))
"""
_SENDS = (
    "import socket, sys; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', (sys.argv[1], int(sys.argv[2])))"
)
_CONNECTED = """
import socket, sys
for family, address in zip((socket.AF_INET, socket.AF_INET6), sys.argv[1:3]):
    sender = socket.socket(family, socket.SOCK_DGRAM)
    sender.connect((address, int(sys.argv[3])))
    sender.send(b"x")
"""
_DIALS = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as sender:
    sender.sendall(b"x")
    sender.recv(1)
"""
_TRIES = """
import socket, sys
sender = socket.socket()
sender.settimeout(0.2)
try:
    sender.connect((sys.argv[1], int(sys.argv[2])))
except OSError:
    pass
"""
_SERVES = """
import socket, sys
family = socket.AF_INET6 if sys.argv[1] == "::" else socket.AF_INET
with socket.create_server((sys.argv[1], int(sys.argv[2])), family=family, dualstack_ipv6=sys.argv[1] == "::") as server:
    print("ready", flush=True)
    for _ in range(int(sys.argv[3])):
        peer, _ = server.accept()
        with peer:
            peer.sendall(peer.recv(1))
    sys.stdin.read()
"""
_ANSWERS = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
    server.bind((sys.argv[1], int(sys.argv[2])))
    print("ready", flush=True)
    said, peer = server.recvfrom(10)
    server.sendto(said, peer)
    sys.stdin.read()
"""
_HEARS = """
import socket, sys
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sender.connect((sys.argv[1], int(sys.argv[2])))
sender.send(b"x")
print("ready", flush=True)
sys.stdin.read()
"""
_KEEPS_SILENT = _ANSWERS.replace("    server.sendto(said, peer)\n", "")


def start(services: Services, unit: str, name: str, code: str, *arguments: str | int) -> subprocess.Popen[str]:
    """A process of the unit that calls itself `name` before it makes a socket."""
    return services.launch(unit, _NAMED, name, code, *arguments)


def run(services: Services, unit: str, name: str, code: str, *arguments: str | int) -> None:
    process = start(services, unit, name, code, *arguments)
    end(process)
    assert process.returncode == 0


def flows(daemon: Daemon, **filters: Any) -> list[dict[str, Any]]:
    with daemon.client() as client:
        return [row for reply in client.stream("Flows", **filters) for row in reply["rows"]]


def of(daemon: Daemon, port: int, **filters: str) -> Any:
    """(unit, process, whether there is a number) of the one flow."""
    (row,) = daemon.wait(lambda: flows(daemon, ports=str(port), **filters), "the flow")
    return row["unit"], row["process"], row["pid"] is not None


def counted(daemon: Daemon) -> dict[str, int]:
    counters = daemon.status()["counters"]
    return {name.removeprefix("process_"): count for name, count in counters.items() if name.startswith("process_")}


@pytest.mark.parametrize(
    ("loader", "kernel"), [("libbpf", "this one"), ("libbpf", "one before 6.6"), ("bcc", "this one")]
)
def test_either_loader_on_any_kernel(lab: Lab, loader: str, kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing is left where nothing is attached any more."""
    link, pins, create = lab.links[0], BPFFS / f"{lab.name}-process", libbpf.link_create

    def without_tcx(program: int, target: int, hook: int, flags: int = 0) -> int:
        if hook == libbpf.TC_EGRESS_TCX:
            raise OSError(errno.EINVAL, "Invalid argument")
        return create(program, target, hook, flags)

    def filters() -> list[str]:
        shown = lab.host.run("tc", "filter", "show", "dev", link.host, "egress").stdout
        return re.findall(r"trafficmon-process", shown)

    if kernel != "this one":
        monkeypatch.setattr(libbpf, "link_create", without_tcx)
    mount_bpffs()
    pins.mkdir()
    with lab.host.entered():
        seen = ProcessesSeen(loader, pins)
    with contextlib.closing(seen):
        with lab.host.entered():
            ifindex = socket.if_nametoindex(link.host)
            attached = Attachment(ifindex, link.host, "native", "tcx")
            seen.follow({ifindex: attached})
            sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        assert attached.notes == []
        sender.sendto(b"x", (link.outside_ip, 9))
        bound.bind(("0.0.0.0", 4444))
        ends = np.zeros(1, END)
        ends["proto"], ends["local_port"] = 17, sender.getsockname()[1]
        with open("/proc/self/comm", "rb") as comm, open("/proc/self/stat") as stat:
            me = comm.read().strip(), int(stat.read().split()[0])
        assert (seen.sent(ends)["name"][0], int(seen.sent(ends)["pid"][0])) == me
        ends["local_port"] = 4444
        assert (seen.waiting(ends)["name"][0], int(seen.waiting(ends)["pid"][0])) == me
        counts = seen.counts()
        assert counts.noted >= 2
        assert counts == ProcessCounts(counts.noted, 0)
        assert len(filters()) == (0 if kernel == "this one" else 1)
        with lab.host.entered():
            seen.follow({})
        assert filters() == []
        sender.close()
        bound.close()
    remove_pins(pins)


def test_a_kernel_that_does_not_tell_networks_apart(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before Linux 5.14: who sends is noted as ever, who waits is not, and that is said in words."""
    monkeypatch.setattr(processes_seen, "_NETNS_COOKIE", 0x7FFF)  # an option of sockets that no kernel has
    link, pins = lab.links[0], BPFFS / f"{lab.name}-process"
    pins.mkdir()
    options = Options("libbpf", "auto", True, pins, 1024, False, False, processes=True)
    loaded = Loaded("libbpf", {}, {}, seed=0, reused=False, owners=True)
    with lab.host.entered():
        seen, why = _processes_seen(options, loaded)
        assert seen
        assert "Linux 5.14" in why
        ifindex = socket.if_nametoindex(link.host)
    with contextlib.closing(seen):
        with lab.host.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            seen.follow({ifindex: Attachment(ifindex, link.host, "native", "tcx")})
            sender.bind(("0.0.0.0", 4445))
            sender.sendto(b"x", (link.outside_ip, 9))
        ends = np.zeros(1, END)
        ends["proto"], ends["local_port"] = 17, 4445
        assert (int(seen.sent(ends)["pid"][0]), int(seen.waiting(ends)["pid"][0])) == (os.getpid(), 0)
    remove_pins(pins)


def test_who_sends_connects_and_waits(lab: Lab) -> None:
    """Processes that are gone, datagrams with and without connect, both families, and what is dropped."""
    link = lab.links[0]
    drop = f'[[rule]]\ncidr = "{link.outside_ip}"\nports = ["tcp/7777"]\ndirection = "egress"\naction = "drop"\n'
    with (
        Services(lab) as services,
        Daemon(lab, ON, rules={"drop.toml": drop}) as daemon,
        outside_server(lab, link.outside_ip, 7000),
    ):
        run(services, "a.service", "sends", _SENDS, link.outside_ip, 6001)
        run(services, "b.service", "connected", _CONNECTED, link.outside_ip, link.outside_ip6, 6002)
        run(services, "c.service", "dials", _DIALS, link.outside_ip, 7000)
        run(services, "d.service", "tries", _TRIES, link.outside_ip, 7777)
        run(services, "d.service", 'od"d\n', _SENDS, link.outside_ip, 6003)
        assert of(daemon, 6001) == ("a.service", "sends", True)
        for address in (link.outside_ip, link.outside_ip6):
            assert of(daemon, 6002, dst=address) == ("b.service", "connected", True)
        assert of(daemon, 7000) == ("c.service", "dials", True)
        with daemon.client() as client:
            assert "dials" in {each["process"] for each in client.call("Top")["flows"] if each["dst_port"] == 7000}
        assert of(daemon, 7777, action="drop") == ("d.service", "tries", True)
        assert of(daemon, 6003) == ("d.service", 'od"d\\n', True)
        for address, name, port in (
            ("0.0.0.0", "web", "8001"),
            ("::", "web6", "8002"),
            (link.host_ip, "webby", "8003"),
        ):
            with waiting(start(services, f"{name}.service", name, _SERVES, address, port, 1)) as process:
                lab.outside.run(sys.executable, "-c", _DIALS, link.host_ip, port)
                assert of(daemon, int(port)) == (f"{name}.service", name, True)
                (row,) = flows(daemon, ports=port)
                assert row["pid"] == process.pid
                with daemon.client() as client:
                    told = client.call("Explain", address=link.outside_ip, service=f"tcp/{port}")
                assert (told["listeners"], told["processes"]) == (
                    [f"{name}.service"],
                    [{"process": name, "pid": process.pid}],
                )
        with waiting(start(services, "dns.service", "answers", _ANSWERS, "0.0.0.0", 5300)):
            with lab.outside.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
                asking.settimeout(5)
                asking.sendto(b"x", (link.host_ip, 5300))
                assert asking.recv(10) == b"x"
            told = daemon.control("explain", link.outside_ip, "udp/5300").stdout
            assert re.search(r"dns\.service, answers \(\d+\)", told)
            assert of(daemon, 5300) == ("dns.service", "answers", True)
        with (
            waiting(start(services, "log.service", "silent", _KEEPS_SILENT, "0.0.0.0", 5140)),
            lab.outside.entered(),
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
        ):
            sender.sendto(b"x", (link.host_ip, 5140))
            assert of(daemon, 5140) == ("log.service", "silent", True)
        # Asked by name and by number, grouped, told live.
        (row,) = flows(daemon, process="dials")
        assert [each["dst_port"] for each in flows(daemon, process=str(row["pid"]))] == [7000]
        sums = {each["process"]: each["flows"] for each in flows(daemon, group_by=["process"])}
        assert (sums["connected"], sums["web"]) == (2, 1)
        assert f"dials {row['pid']}" in daemon.control("flows", "--process", "dials").stdout
        assert counted(daemon)["lost"] == counted(daemon)["reused"] == 0
        assert verified(daemon.pid).keys() >= PROGRAMS
        daemon.stop()
        stored = dict(daemon.sql("SELECT dst_port, process FROM flows WHERE process IS NOT NULL"))
        assert stored.items() >= {6001: "sends", 7000: "dials", 7777: "tries", 8001: "web"}.items()


def test_a_restart_keeps_the_processes_of_open_sockets(lab: Lab) -> None:
    """Who waits, who has connected, who sends; and who only receives keeps its unit, too. With sockets that were opened
    while no daemon ran, nobody else is named."""
    link = lab.links[0]
    with (
        Services(lab) as services,
        Daemon(lab, 'on_stop = "keep"\n' + ON) as daemon,
        waiting(start(services, "web.service", "web", _SERVES, "::", 8006, 1)),
        waiting(start(services, "log.service", "silent", _KEEPS_SILENT, "0.0.0.0", 5141)),
        lab.outside.entered(),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as source,
    ):
        source.bind((link.outside_ip, 7008))
        with waiting(start(services, "in.service", "hears", _HEARS, link.outside_ip, 7008)):
            hears = source.recvfrom(10)[1]
            assert of(daemon, 7008) == ("in.service", "hears", True)
            daemon.stop()
            with waiting(start(services, "new.service", "new", _SERVES, "0.0.0.0", 8007, 1)):
                daemon.start()
                source.sendto(b"x", hears)
                source.sendto(b"x", (link.host_ip, 5141))
                lab.outside.run(sys.executable, "-c", _DIALS, link.host_ip, "8006")
                lab.outside.run(sys.executable, "-c", _DIALS, link.host_ip, "8007")
                since = {"since": daemon.status()["started_at"]}
                assert of(daemon, 8006) == ("web.service", "web", True)
                assert of(daemon, 5141) == ("log.service", "silent", True)
                assert of(daemon, hears[1], **since) == ("in.service", "hears", True)
                assert of(daemon, 8007) == ("new.service", None, False)
        daemon.stop()
        daemon.configure('[policy]\ndefault = "monitor"\n')
        daemon.start()
        assert not (daemon.pins / "processes").exists()


def test_what_was_there_before_is_counted(lab: Lab) -> None:
    """A server that was bound before the daemon looked, and protocols without ports, name none."""
    link = lab.links[0]
    with (
        Services(lab) as services,
        waiting(start(services, "old.service", "old", _SERVES, "0.0.0.0", 8004, 1)),
        Daemon(lab, ON) as daemon,
    ):
        lab.outside.run(sys.executable, "-c", _DIALS, link.host_ip, "8004")
        assert of(daemon, 8004) == ("old.service", None, False)
        assert counted(daemon)["unseen"] >= 1


def test_another_network_is_another(lab: Lab) -> None:
    """A process of a container that waits on the same port is not whose it is."""
    link = lab.links[0]
    with (
        Services(lab) as services,
        waiting(start(services, "old.service", "old", _SERVES, "0.0.0.0", 8005, 1)),
        Daemon(lab, ON) as daemon,
        lab.outside.entered(),
        socket.create_server(("0.0.0.0", 8005)),
    ):
        lab.outside.run(sys.executable, "-c", _DIALS, link.host_ip, "8005")
        assert of(daemon, 8005) == ("old.service", None, False)


def test_off_nothing_is_noted(lab: Lab) -> None:
    link = lab.links[0]
    with Services(lab) as services, Daemon(lab, ON.replace("processes = true", "")) as daemon:
        run(services, "a.service", "sends", _SENDS, link.outside_ip, 6001)
        assert of(daemon, 6001) == ("a.service", None, False)
        assert not PROGRAMS & verified(daemon.pid).keys()
        assert set(counted(daemon).values()) == {0}


def outside_server(lab: Lab, address: str, port: int) -> contextlib.AbstractContextManager[object]:
    command = lab.outside.argv(sys.executable, "-c", _SERVES, address, str(port), "1")
    return waiting(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
