"""Names that this host asked for: a real resolver's answers name addresses, and nothing else does."""

from __future__ import annotations

import contextlib
import errno
import json
import re
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from tmlab import Daemon, Lab, Sender
from tmlab.daemon import BPFFS, mount_bpffs, remove_pins
from tmlab.packets import udp
from verified import verified

from trafficmond.datapath import libbpf
from trafficmond.datapath.attach import Attachment
from trafficmond.datapath.interfaces import EgressHook, XdpMode
from trafficmond.datapath.names_seen import NameCounts, NamesSeen

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

ON = '[policy]\ndefault = "monitor"\n[flows]\ninterval = "100ms"\ndns_names = true\n'
LOOKERS = {"tm_dns_question", "tm_dns_answer"}
BANK = "198.51.100.9"


@contextmanager
def resolver(lab: Lab) -> Iterator[str]:
    """dnsmasq outside, and the address to ask: web.lab.example is the other end of the wire, by two families and by an
    alias."""
    link = lab.links[0]
    command = ["dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--port=53"]
    command += ["--bind-interfaces", "--except-interface=lo", f"--interface={link.outside}", "--user=root"]
    command += [f"--host-record=web.lab.example,{link.outside_ip},{link.outside_ip6}"]
    command += ["--cname=www.shop.example,web.lab.example", f"--host-record=old.lab.example,{link.outside_ip}"]
    process = subprocess.Popen(lab.outside.argv(*command), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 5
        while not dig(lab, link.outside_ip, "web.lab.example", check=False):
            assert time.monotonic() < deadline, "dnsmasq does not answer"
            time.sleep(0.05)
        yield link.outside_ip
    finally:
        process.terminate()
        process.wait(10)


def dig(lab: Lab, server: str, *question: str, check: bool = True) -> str:
    done = lab.host.run("dig", f"@{server}", "+short", "+tries=1", "+time=1", *question, check=check)
    return done.stdout if done.returncode == 0 else ""


def names(daemon: Daemon, *addresses: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    with daemon.client() as client:
        for row in client.call("DnsNames", addresses=list(addresses))["names"]:
            found.setdefault(row["address"], []).append(row["name"])
    return found


def counted(daemon: Daemon) -> dict[str, int]:
    counters = daemon.status()["counters"]
    return {name.removeprefix("dns_"): count for name, count in counters.items() if name.startswith("dns_")}


def answer(number: int, name: str, address: str) -> bytes:
    question = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0\0\1\0\1"
    record = b"\xc0\x0c\0\1\0\1" + struct.pack(">IH", 60, 4) + socket.inet_aton(address)
    return struct.pack(">6H", number, 0x8180, 1, 1, 0, 0) + question + record


@pytest.mark.parametrize("loader", ["libbpf", "bcc"])
@pytest.mark.parametrize("kernel", ["this one", "one before 6.6"])
def test_either_loader_on_any_kernel(lab: Lab, loader: str, kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing is left where nothing is attached any more."""
    link, pins = lab.links[0], BPFFS / f"{lab.name}-dns"

    def without_tcx(*_: object) -> int:
        raise OSError(errno.EINVAL, "Invalid argument")

    def filters() -> list[str]:
        shown = [lab.host.run("tc", "filter", "show", "dev", link.host, side).stdout for side in ("ingress", "egress")]
        return re.findall(r"trafficmon-dns", "".join(shown))

    if kernel != "this one":
        monkeypatch.setattr(libbpf, "link_create", without_tcx)
    mount_bpffs()
    pins.mkdir()
    with resolver(lab) as server, contextlib.closing(NamesSeen(loader, pins)) as seen:
        with lab.host.entered():
            ifindex = socket.if_nametoindex(link.host)
            attached = Attachment(ifindex, link.host, XdpMode.NATIVE, EgressHook.TCX)
            seen.follow({ifindex: attached})
        assert attached.notes == []
        dig(lab, server, "web.lab.example")
        (row,) = seen.take()
        assert (row["name"], bytes(row["address"])[12:]) == (b"web.lab.example", socket.inet_aton(link.outside_ip))
        assert 0 <= time.monotonic_ns() - int(row["at_ns"]) < 60e9
        assert seen.counts() == NameCounts(answers=1)
        assert len(filters()) == (0 if kernel == "this one" else 2)
        with lab.host.entered():
            seen.follow({})
        dig(lab, server, "web.lab.example")
        assert (len(seen.take()), filters()) == (0, [])
    remove_pins(pins)


def test_what_was_asked_for_names_flows(lab: Lab) -> None:
    link = lab.links[0]
    with resolver(lab) as server, Daemon(lab, ON) as daemon:
        dig(lab, server, "WWW.shop.example")
        dig(lab, link.outside_ip6, "web.lab.example", "AAAA")
        dig(lab, server, "nothing.lab.example")
        daemon.wait(lambda: len(names(daemon, link.outside_ip, link.outside_ip6)) == 2, "two names")
        assert names(daemon, link.outside_ip, link.outside_ip6, BANK) == {
            link.outside_ip: ["www.shop.example"],
            link.outside_ip6: ["web.lab.example"],
        }
        with lab.host.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sending:
            sending.sendto(b"hello", (link.outside_ip, 4000))

        def flow() -> Any:
            return daemon.ask("flows", "--port", "4000", "--names")

        (row,) = daemon.wait(flow, "the flow")
        assert (row["dst_name"], row["dst_name_from"]) == ("www.shop.example", "dns")
        assert "www.shop.example:4000" in daemon.control("flows", "--port", "4000", "--names").stdout
        assert "(www.shop.example)" in daemon.control("explain", link.outside_ip, "--names").stdout
        top = daemon.control("top", "--names", "--interval", "200ms", "-o", "jsonl").stdout
        assert '"dst_name":"www.shop.example"' in top
        # Of an address that is asked for by another name since, each flow has the name of its time.
        time.sleep(1.5)
        dig(lab, server, "old.lab.example")
        daemon.wait(lambda: len(names(daemon, link.outside_ip)[link.outside_ip]) == 2, "another name")
        (row,) = flow()
        assert row["dst_name"] == "www.shop.example"
        assert counted(daemon) == {"answers": 4, "unasked": 0, "lost": 0, "unreadable": 0, "evicted_names": 0}
        assert verified(daemon.pid).keys() >= LOOKERS
        daemon.stop()
        stored = b"".join(path.read_bytes() for path in daemon.home.glob("state/**/*") if path.is_file())
        assert b"shop.example" not in stored


def test_what_nobody_asked_for_names_nothing(lab: Lab) -> None:
    link = lab.links[0]
    with (
        Daemon(lab, ON) as daemon,
        Sender(lab.outside, link.outside) as sender,
        lab.host.entered(),
        lab.outside.entered(),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent,
    ):
        silent.bind((link.outside_ip, 53))
        with lab.host.entered():
            asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        asking.bind((link.host_ip, 5353))

        def tell(payload: bytes, source: str = link.outside_ip, to: int = 5353, port: int = 53) -> None:
            sender.send([udp(source, link.host_ip, port, to, payload=payload)])

        tell(answer(7, "bank.example", BANK))  # nobody has asked at all
        question = (
            answer(7, "shop.example", BANK)[:2] + b"\1\0\0\1\0\0\0\0\0\0" + answer(7, "shop.example", BANK)[12:-16]
        )
        asking.sendto(question, (link.outside_ip, 53))
        assert silent.recv(512) == question
        tell(answer(8, "shop.example", BANK))  # another number
        tell(answer(7, "shop.example", BANK), to=5354)  # another port
        tell(answer(7, "shop.example", BANK), source="10.99.0.77")  # another server
        daemon.wait(lambda: counted(daemon)["unasked"] == 4, "four answers")
        tell(answer(7, "bank.example", BANK))  # another name
        daemon.wait(lambda: counted(daemon)["unreadable"] == 1, "one that is not what was asked for")
        tell(answer(7, "shop.example", BANK))  # right, but somebody was told already
        daemon.wait(lambda: counted(daemon)["unasked"] == 5, "the second")
        assert names(daemon, BANK) == {}
        asking.sendto(question, (link.outside_ip, 53))
        silent.recv(512)
        tell(answer(7, "shop.example", BANK))
        daemon.wait(lambda: names(daemon, BANK), "a name")
        assert names(daemon, BANK) == {BANK: ["shop.example"]}
        asking.close()
        with pytest.raises(Exception, match="addresses"), daemon.client() as client:
            client.call("DnsNames", addresses=["nonsense"])


def test_off_nothing_looks(lab: Lab) -> None:
    with resolver(lab) as server, Daemon(lab, ON.replace("true", "false")) as daemon:
        dig(lab, server, "web.lab.example")
        assert names(daemon, server) == {}
        assert not LOOKERS & verified(daemon.pid).keys()
        filters = lab.host.run("tc", "-j", "filter", "show", "dev", lab.links[0].host, "ingress").stdout
        assert json.loads(filters or "[]") == []
