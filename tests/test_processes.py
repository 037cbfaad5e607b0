"""Which process a record is of: where it is looked for, whose note counts, what is counted where there is none."""

from __future__ import annotations

import socket

import numpy as np
import pytest

from trafficmond import processes
from trafficmond.datapath.processes_seen import ProcessCounts
from trafficmond.flows.batch import DELTA, Batch, split_address
from trafficmond.flows.owners import FORWARDED, KERNEL, NOBODY
from trafficmond.flows.processes import END, NOTE, cgroup_of
from trafficmond.processes import Process, Processes
from trafficmond.protocols import ACK, ICMP, SYN, TCP, UDP

NOW, TICKS = 1_700_000_000.0, 500.0  # both clocks
UNIT = 4711
HERE, THERE = "192.0.2.1", "198.51.100.9"


def octets(address: str) -> bytes:
    return bytes(10) + b"\xff\xff" + socket.inet_aton(address) if address else bytes(16)


class Noted:
    """A kernel's tables, by what their keys are made of."""

    def __init__(self) -> None:
        self.ends: dict[bytes, tuple[float, int, bytes]] = {}
        self.waits: dict[bytes, tuple[float, int, bytes]] = {}
        self.full, self.asked = False, 0

    def sent(self, ends: Batch) -> Batch:
        return self._of(self.ends, ends)

    def waiting(self, ends: Batch) -> Batch:
        return self._of(self.waits, ends)

    def may_lack(self) -> bool:
        return self.full

    def counts(self) -> ProcessCounts:
        return ProcessCounts(lost=0)

    def _of(self, table: dict[bytes, tuple[float, int, bytes]], ends: Batch) -> Batch:
        self.asked += len(ends)
        notes = np.zeros(len(ends), NOTE)
        for at, end in enumerate(ends):
            if (note := table.get(end.tobytes())) is not None:
                notes["at_ns"][at], notes["pid"][at], notes["name"][at] = int(note[0] * 1e9), *note[1:]
        return notes


def end(proto: int, local: str, port: int, remote: str = "", remote_port: int = 0) -> bytes:
    made = np.zeros(1, END)
    made["local"], made["remote"] = (np.frombuffer(octets(each), np.uint8) for each in (local, remote))
    made["local_port"], made["remote_port"], made["proto"] = port, remote_port, proto
    return made.tobytes()


def row(proto: int, sport: int, *, flags: int = 0, owner: int = UNIT, at: float = NOW, new: bool = True) -> Batch:
    rows = np.zeros(1, DELTA)
    for side, address in (("src", HERE), ("dst", THERE)):
        rows[f"{side}_hi"], rows[f"{side}_lo"] = split_address(socket.inet_aton(address))
    rows["sport"], rows["dport"], rows["proto"], rows["family"], rows["direction"] = sport, 443, proto, 4, 1
    rows["owner"], rows["first"], rows["last"], rows["first_flags"], rows["new"] = owner, at, at, flags, new
    return rows


@pytest.fixture
def noted() -> Noted:
    return Noted()


@pytest.fixture
def named(noted: Noted) -> Processes:
    made = Processes(lambda: NOW, lambda: TICKS)
    made.source = noted
    made.name(np.zeros(0, DELTA))  # the first reading has what was there before
    return made


def told(named: Processes, rows: Batch) -> list[Process | None]:
    named.name(rows)
    return [named.of(owner) for owner in rows["owner"].tolist()]


def counted(named: Processes) -> dict[str, int]:
    return {name.removeprefix("process_"): count for name, count in named.counters().items() if count}


def test_connections_datagrams_and_what_is_accepted(named: Processes, noted: Noted) -> None:
    noted.ends[end(TCP, HERE, 40000, THERE, 443)] = (TICKS - 1, 7, b"curl")
    noted.ends[end(UDP, "", 5353)] = (TICKS - 1, 8, b"mdns")
    noted.ends[end(UDP, HERE, 5354)] = (TICKS - 1, 9, b"dig")
    noted.waits[end(TCP, "", 80)] = (TICKS - 400, 10, b"nginx")
    noted.waits[end(TCP, HERE, 81)] = (TICKS - 400, 11, b"apache2")
    rows = np.concatenate(
        [
            row(TCP, 40000, flags=SYN),
            row(UDP, 5353),
            row(UDP, 5354),
            row(TCP, 80, flags=SYN | ACK),
            row(TCP, 81, flags=SYN | ACK),
            row(TCP, 80, flags=ACK),  # of a record that began again
            row(TCP, 40000, flags=ACK),
            row(TCP, 81, flags=SYN),  # of a connection that it opens: who waits there need not be whose it is
        ]
    )
    names = [process and process.name for process in told(named, rows)]
    assert names == ["curl", "mdns", "dig", "nginx", "apache2", "nginx", "curl", None]
    assert {cgroup_of(owner) for owner in rows["owner"].tolist()} == {UNIT}
    assert counted(named) == {"unseen": 1}


def test_only_records_of_cgroups_that_begin_are_asked_about(named: Processes, noted: Noted) -> None:
    rows = np.concatenate(
        [row(UDP, 1, owner=owner) for owner in (0, KERNEL, FORWARDED, NOBODY, 1 << 40)] + [row(UDP, 1, new=False)]
    )
    before = rows.copy()
    named.name(rows)
    assert (rows == before).all()
    assert noted.asked == 0
    assert counted(named) == {}
    named.name(row(ICMP, 8))
    assert counted(named) == {"protocols": 1}


def test_records_from_before_the_daemon_are_asked_about_once(noted: Noted) -> None:
    """When they go on, which need not be at the first reading."""
    named = Processes(lambda: NOW, lambda: TICKS)
    before = NOW - 9
    named.name(row(UDP, 1, new=False, at=before))
    assert counted(named) == {}  # off
    named.source = noted
    named.name(row(UDP, 1, new=False, at=before))
    named.name(row(UDP, 1, new=False, at=before))
    assert counted(named) == {"unseen": 1}
    noted.ends[end(TCP, HERE, 40000, THERE, 443)] = (TICKS - 10, 7, b"curl")
    assert told(named, row(TCP, 40000, flags=SYN, new=False, at=before)) == [Process(7, "curl")]
    noted.full = True
    named.name(row(UDP, 1))
    assert counted(named) == {"unseen": 1, "given_way": 1}


def test_however_many_records_are_from_before_each_is_looked_up_once(
    noted: Noted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "MOST_ASKED", 10)
    named = Processes(lambda: NOW, lambda: TICKS)
    named.source = noted
    many = np.concatenate([row(UDP, port, new=False, at=NOW - 9) for port in range(1, 51)])
    named.name(many.copy())
    asked = noted.asked
    named.name(many.copy())
    assert asked
    assert noted.asked == asked
    named.name(np.concatenate([many[:5], row(UDP, 60, new=False, at=NOW - 9)]))
    named.name(many[:5].copy())
    assert counted(named) == {"given_way": 40, "unseen": 11}


def test_who_has_the_port_later_is_not_whose_it_was(named: Processes, noted: Noted) -> None:
    noted.ends[end(UDP, "", 5000)] = (TICKS, 8, b"later")
    assert told(named, row(UDP, 5000, at=NOW - 0.5)) == [None]
    assert counted(named) == {"reused": 1}
    noted.waits[end(UDP, "", 5000)] = (TICKS - 9, 7, b"earlier")
    assert told(named, row(UDP, 5000, at=NOW - 0.5)) == [Process(7, "earlier")]
    assert told(named, row(UDP, 5000)) == [Process(8, "later")]


def test_who_waits_for_what_got_no_answer(named: Processes, noted: Noted) -> None:
    noted.waits[end(UDP, "", 514)] = (TICKS - 9, 7, b"rsyslogd")
    rows = np.concatenate([row(UDP, 1), row(UDP, 1), row(ICMP, 8)])
    for name in ("hi", "lo"):
        rows[f"dst_{name}"], rows[f"src_{name}"] = rows[f"src_{name}"].copy(), rows[f"dst_{name}"].copy()
    rows["dport"], rows["direction"] = (514, 515, 0), 0
    found = named.wait(rows, np.array([UNIT, UNIT, KERNEL], np.uint64)).tolist()
    assert [named.of(owner) for owner in found] == [Process(7, "rsyslogd"), None, None]
    assert found[1:] == [UNIT, KERNEL]
    assert named.at(np.frombuffer(end(UDP, "", 514) * 2, END)) == [Process(7, "rsyslogd")]


def test_a_name_that_could_steer_a_terminal_is_made_visible(named: Processes, noted: Noted) -> None:
    for port, name in enumerate((b"\x1b[31m", b"\xff\xfe", b"a b", "bäcker".encode())):
        noted.ends[end(UDP, "", port)] = (TICKS - 1, port + 1, name)
        (found,) = told(named, row(UDP, port))
        assert found
        assert found.name == ("\\x1b[31m", "\\xff\\xfe", "a b", "bäcker")[port]


def test_what_is_asked_and_kept_is_bounded(named: Processes, noted: Noted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "MOST", 2)
    monkeypatch.setattr(processes, "MOST_ASKED", 3)
    rows = np.concatenate([row(UDP, port) for port in range(5)])
    for port in range(5):
        noted.ends[end(UDP, "", port)] = (TICKS - 1, port + 1, b"many")
    found = told(named, rows)
    assert found == [None, Process(2, "many"), Process(3, "many"), None, None]
    assert {cgroup_of(owner) for owner in rows["owner"].tolist()} == {UNIT}
    assert counted(named) == {"given_way": 2, "forgotten": 1}
    again = row(UDP, 2)
    named.name(again)
    assert again["owner"][0] == rows["owner"][2]
