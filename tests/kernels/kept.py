"""Checks of what is seen, counted and kept, in an emulated kernel: units, egress, the ledger, restarts, the end."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from pathlib import Path

import numpy as np
import sharing
from booking import book_all
from cgrouped import TREE, Services
from kernel_rig import BAD, GOOD, LOADER, ONLY, ROOT, SETTINGS, SLOW, Rig, must, note_verified, tc_filters
from tmlab.packets import frame, udp, vxlan

from trafficmond.datapath.attach import Attachment
from trafficmond.datapath.names_seen import NameCounts, NamesSeen
from trafficmond.datapath.processes_seen import ProcessesSeen
from trafficmond.flows.processes import END


def units(on: Rig) -> None:
    """Packets of twenty services at once, a million with `--only units`: each byte is booked to the right one."""
    on.features["units"] = "yes" if TREE else "no: the kernel has no cgroup2"
    if TREE:
        packets = 1_000_000 if ONLY else 200_000 if LOADER == "libbpf" else 50_000  # bcc compiles for minutes as well
        with Services(on.lab) as services:
            print(book_all(services, on.daemon, packets, packets, SLOW), file=sys.stderr, flush=True)


def egress(on: Rig) -> None:
    """What the host answers is the other half of the same flow."""
    on.lab.outside.run("ping", "-q", "-c", "5", "-i", "0.2", on.link.host_ip, timeout=SLOW)
    on.daemon.stop(SLOW)
    rows = on.daemon.sql("SELECT sum(packets), sum(reply_packets) FROM flows WHERE protocol = 'ICMP'")
    on.daemon.start(SLOW)
    must(rows == [(5, 5)], "5 packets and 5 replies", rows)


def ledger(on: Rig) -> None:
    """4,000 flows of one packet in 1,024 slots: what is evicted is counted, the accounts add up to the packet."""
    before = on.accounting()
    frames = [udp(f"198.18.{n >> 8}.{n & 255}", on.link.host_ip, payload=bytes(n % 64)) for n in range(4000)]
    sent = on.sender.send(frames).packets
    on.daemon.wait(lambda: on.accounting()["seen"] >= before["seen"] + sent, f"{sent} packets more", SLOW)
    after = on.accounting()
    must(after["seen"] - before["seen"] <= sent + 50, f"{sent} packets and a few of the neighbours' own", after)
    parts = sum(after.get(name, 0) for name in ("in_flows", "unattributed", "not_ip", "malformed", "pending"))
    must(parts == after["seen"], "the accounts to add up to what was seen", after)


def restart(on: Rig) -> None:
    """Over a stop, a kill and two starts the filter stays, and every packet is counted."""
    on.ask("AddCidr", cidr="203.0.113.0/24", action="drop", save=True)
    before, sent = on.accounting()["seen"], 0
    for end in (on.daemon.stop, on.daemon.kill):
        for step in (end, lambda: on.daemon.start(SLOW)):
            step()
            must(on.heard(BAD, 50) == 0, "what is dropped stays dropped", "some passed")
            sent += 50
    counted = on.accounting()["seen"] - before
    must(sent <= counted <= sent + 100, f"{sent} packets counted and a few of the neighbours' own", counted)


def names_asked_for(on: Rig) -> None:
    """An answer of DNS to a question that went out names its address, another does not; nothing stays attached."""
    question = b"\3www\7example\0\0\1\0\1"
    answer = b"\0\7\x81\x80\0\1\0\1\0\0\0\0" + question + b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + socket.inet_aton(GOOD)
    link, filters = on.link, tc_filters(on)
    with on.lab.host.entered(), contextlib.closing(NamesSeen(LOADER, on.daemon.pins)) as seen:
        ifindex = socket.if_nametoindex(link.host)
        attached = Attachment(ifindex, link.host, "native", "")
        seen.follow({ifindex: attached})
        must(not attached.notes, "attached", attached.notes)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.bind((link.host_ip, 5353))
            asking.sendto(b"\0\7\1\0\0\1\0\0\0\0\0\0" + question, (link.outside_ip, 53))
            for port in (5354, 5353):
                on.sender.send([udp(link.outside_ip, link.host_ip, 53, port, payload=answer)])
            rows: list[tuple[bytes, bytes]] = []
            deadline = time.monotonic() + SLOW
            while not rows and time.monotonic() < deadline:
                rows += [(bytes(row["address"])[12:], bytes(row["name"])) for row in seen.take()]
        must(rows == [(socket.inet_aton(GOOD), b"www.example")], "one name", rows)
        must(seen.counts() == NameCounts(answers=2, unasked=1), "two answers", seen.counts())
        seen.follow({})
    must(tc_filters(on) == filters, "the filters as before", tc_filters(on))


def processes(on: Rig) -> None:
    """Who sends and who waits is noted by name and number, what the kernel cannot tell is known; nothing stays."""
    link, filters, me = on.link, tc_filters(on), (Path("/proc/self/comm").read_bytes().strip(), os.getpid())
    with on.lab.host.entered(), contextlib.closing(ProcessesSeen(LOADER, on.daemon.pins)) as seen:
        ifindex = socket.if_nametoindex(link.host)
        attached = Attachment(ifindex, link.host, "native", "")
        seen.follow({ifindex: attached})
        must(not attached.notes, "attached", attached.notes)
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sends,
            socket.create_server((link.host_ip, 0)) as waits,
        ):
            sends.sendto(b"x", (link.outside_ip, 9))
            ends = np.zeros(2, END)
            ends["proto"], ends["local_port"] = (17, 6), [each.getsockname()[1] for each in (sends, waits)]
            ends["local"][1] = tuple(socket.inet_pton(socket.AF_INET6, f"::ffff:{link.host_ip}"))
            sent, waiting = seen.sent(ends[:1])[0], seen.waiting(ends[1:])[0]
        on.features["processes that send"] = on.features["processes that wait"] = "yes"
        must((sent["name"], sent["pid"]) == me, "who sent", sent)
        if not seen.netns:
            on.features["processes that wait"] = "no: told since Linux 5.14"
            must(os.uname().release.startswith("5.10."), "a kernel that tells who waits", waiting)
        else:
            must((waiting["name"], waiting["pid"]) == me, "who waits", waiting)
        counts = seen.counts()
        must(counts.noted >= 2 and not counts.lost, "notes, and none lost", counts)
        seen.follow({})
    must(tc_filters(on) == filters, "the filters as before", tc_filters(on))


def look_inside(on: Rig) -> None:
    """With the setting on, what tunnels carry has columns of its own."""
    on.daemon.kill()
    on.daemon.configure(SETTINGS.replace("[flows]\n", "[flows]\nlook_inside = true\n"))
    on.daemon.start(SLOW)
    note_verified(on, ", looking inside")
    near, far = on.link.outside_ip, on.link.host_ip
    inside = udp("10.1.0.1", "10.1.0.2", 5000, 53, b"question")
    gre = [frame(near, far, 47, b"\x20\0\x65\x58\0\0\0\x07" + inside)] * 2
    on.sender.send([vxlan(near, far, 42, inside)] * 3 + gre)
    on.daemon.stop(SLOW)
    rows = on.daemon.sql(
        "SELECT tunnel, vni, inner_src_ip, inner_dst_ip, inner_src_port, inner_dst_port, inner_protocol, sum(packets) "
        "FROM flows WHERE tunnel IS NOT NULL GROUP BY 1, 2 ORDER BY 1"
    )
    inner = ("10.1.0.1", "10.1.0.2", 5000, 53, "UDP")
    must(rows == [("gre", 7, *inner, 2), ("vxlan", 42, *inner, 3)], "what two tunnels carry", rows)


def beside(on: Rig) -> None:
    """Beside xdp-filter in a libxdp dispatcher, over restarts, an upgrade, and out of it again."""
    must(not sharing.lacking(), "xdp-tools in the image", sharing.lacking())
    shared = sharing.Sharing(on.lab, on.daemon, on.sender, SETTINGS, SLOW)
    refused = sharing.refused(shared)
    on.features["beside xdp-filter"] = f"no: {refused}" if refused else "yes"
    if refused:
        must("this kernel refuses trafficmon's program in a dispatcher" in refused, "the kernel as the reason", refused)
        shared.through("a restart", shared.start)
        return
    sharing.joined(shared)
    sharing.left(shared)
    sharing.there_and_back(shared)


def detach(on: Rig) -> None:
    """The emergency exit, the daemon being dead, leaves nothing attached."""
    on.daemon.kill()
    command = ("env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "trafficmond", "-c", on.daemon.config, "--detach")
    on.lab.host.run(*command, timeout=SLOW)
    must("xdp" not in on.lab.host.link(on.link.host), "no XDP program", "one")
    must(not tc_filters(on), "no TC program", tc_filters(on))
