"""The store as the daemon uses it: what is put is there, what is lost is counted, what is audited is on the disk."""

from __future__ import annotations

import json
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from opened_store import flushed, kept_bans, opened

from trafficmond import abi
from trafficmond.errors import StoreError
from trafficmond.flows.batch import Batch
from trafficmond.flows.names import Names
from trafficmond.flows.owners import Owner
from trafficmond.model import Action, Reason, Severity, Threat
from trafficmond.store import queue as queue_module
from trafficmond.store.bans import LEFT_NAME
from trafficmond.store.records import AuditEntry, Ban
from trafficmond.store.store import Store
from trafficmond.store.writer import Limits
from trafficmond.verdict import verdict_word

Ask = Callable[..., list[tuple[Any, ...]]]
Make = Callable[..., Batch]

DOCUMENTED = [
    *("first_seen", "last_seen", "src_ip", "dst_ip", "src_port", "dst_port", "protocol", "protocol_num"),
    *("packets", "bytes", "reply_packets", "reply_bytes", "tcp_flags", "reply_tcp_flags"),
    *("action", "rule", "interface", "direction", "vlan", "community_id"),
    *("tunnel", "vni", "inner_src_ip", "inner_dst_ip", "inner_src_port", "inner_dst_port", "inner_protocol"),
    *("unit", "cgroup", "uid", "process", "pid"),
]


def test_a_report_becomes_a_row_of_text_and_numbers(store: Store, names: Names, make_reports: Make, ask: Ask) -> None:
    word = verdict_word(Action.DROP, Reason.RULE, 6)
    store.put(make_reports(verdict=word, direction=1, vlan=7, tcp_flags=0x1B, reply_tcp_flags=0x12), names)
    assert flushed(store, 5)
    assert [name for _, name, *_ in ask("PRAGMA table_info(flows)")] == DOCUMENTED
    (row,) = ask("SELECT * FROM flows")
    assert row == (
        1_699_999_999.0,
        1_700_000_000.0,
        "192.0.2.0",
        "198.51.100.2",
        40000,
        443,
        "TCP",
        6,
        3,
        300,
        2,
        200,
        0x1B,
        0x12,
        "drop",
        "bad neighbours",
        "eth0",
        "egress",
        7,
        row[19],
        *[None] * 12,
    )
    assert row[19].startswith("1:")


def test_whose_it_was_is_reported_as_far_as_it_is_known(
    store: Store, names: Names, make_reports: Make, ask: Ask
) -> None:
    batch = make_reports(4)
    batch["owner"] = [0, 7, 9, 8]
    owners = {7: Owner("cron.service", "/system.slice/cron.service"), 8: Owner("user-5.slice", "/user.slice", 5)}
    store.put(batch, replace(names, owners=owners))
    assert flushed(store, 5)
    told = [("cron.service", "/system.slice/cron.service", None), ("cgroup 9", None, None)]
    assert ask("SELECT unit, cgroup, uid FROM flows") == [(None,) * 3, *told, ("user-5.slice", "/user.slice", 5)]
    owners[7] = owners[7]._replace(process="cron", pid=815)
    batch["first"], batch["last"] = batch["first"] + 9, batch["last"] + 9
    store.put(batch, replace(names, owners=owners))
    assert flushed(store, 5)
    assert ask("SELECT process, pid FROM flows WHERE unit = 'cron.service'") == [(None, None), ("cron", 815)]


def test_what_a_tunnel_carried_is_reported_as_far_as_it_is_known(
    store: Store, names: Names, make_reports: Make, ask: Ask
) -> None:
    batch = make_reports(4)
    batch["inner"] = [0, 7, 9, 7]
    known = np.zeros(1, abi.INNER)
    known["src"][0, 15], known["dst"][0, 15], known["scope"] = 1, 2, abi.SCOPE_IPV6 | abi.SCOPE_NUMBERED
    known["tunnel"], known["sport"], known["dport"], known["proto"] = abi.GENEVE, 40000, 53, 17
    store.put(batch, replace(names, inners={7: known.tobytes()}))
    assert flushed(store, 5)
    rows = ask(f"SELECT {', '.join(DOCUMENTED[20:27])} FROM flows")
    told = ("geneve", 0, "::1", "::2", 40000, 53, "UDP")
    assert rows == [(None,) * 7, told, (None,) * 7, told]


def test_ipv6_and_ipv4_may_share_a_batch(store: Store, names: Names, make_reports: Make, ask: Ask) -> None:
    batch = make_reports(2)
    batch["family"][1], batch["src_hi"][1], batch["src_lo"][1] = 6, 0x20010DB8 << 32, 5
    batch["dst_hi"][1], batch["dst_lo"][1] = 0xFE80 << 48, 1
    store.put(batch, names)
    flushed(store, 5)
    assert ask("SELECT src_ip, dst_ip FROM flows") == [("192.0.2.0", "198.51.100.2"), ("2001:db8::5", "fe80::1")]


def test_rows_of_a_batch_are_stored_in_the_order_of_time(
    store: Store, names: Names, make_reports: Make, ask: Ask
) -> None:
    batch = make_reports(4)
    batch["last"], batch["sport"] = [1.7e9 + 5, 1.7e9, 1.7e9 + 5, 1.7e9 + 2], [1, 2, 3, 4]
    store.put(batch, names)
    assert flushed(store, 5)
    assert ask("SELECT src_port FROM flows_1 ORDER BY rowid") == [(2,), (4,), (1,), (3,)]


def test_status_counts(store: Store, names: Names, make_reports: Make) -> None:
    store.put(make_reports(10), names)
    flushed(store, 5)
    status = store.status()
    assert (status.rows, status.written_rows, status.queue, status.lost_rows, status.state) == (10, 10, 0, 0, "ok")
    assert status.size_bytes > 0


def test_what_does_not_fit_is_lost_and_counted(path: Path, names: Names, make_reports: Make, ask: Ask) -> None:
    store = opened(path, Limits(3600, 1 << 24, queue_rows=100), clock=lambda: 0.0)
    lock = sqlite3.connect(path, isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")  # the writer cannot write
    assert store.put(make_reports(60), names) == 0
    assert store.put(make_reports(60), names) == 20
    assert store.put(make_reports(60), names) == 60
    lock.execute("ROLLBACK")
    lock.close()
    assert flushed(store, 10)
    assert (store.status().lost_rows, store.status().rows) == (80, 100)
    store.close(5)
    assert store.put(make_reports(5), names) == 5
    assert store.status().lost_rows == 85
    assert ask("SELECT count(*) FROM flows") == [(100,)]


def test_a_number_beyond_sqlite_is_lost_alone(store: Store, names: Names, make_reports: Make, ask: Ask) -> None:
    store.put(make_reports(3), names)
    store.put(make_reports(1, bytes=1 << 63), names)
    store.put(make_reports(2), names)
    assert flushed(store, 5)
    assert (store.status().lost_rows, store.status().state) == (1, "ok")
    assert ask("SELECT count(*), sum(bytes) FROM flows") == [(5, 1500)]
    assert ask("SELECT sum(flows) FROM rollups WHERE period = 'day' AND kind = 'total'") == [(5,)]


def test_closing_writes_what_is_queued(path: Path, limits: Limits, names: Names, make_reports: Make, ask: Ask) -> None:
    store = opened(path, limits)
    for _ in range(20):
        store.put(make_reports(1000), names)
    store.close(10)
    assert ask("SELECT count(*) FROM flows") == [(20000,)]
    assert store.status().state == "closed"


def test_reopening_continues(path: Path, limits: Limits, names: Names, make_reports: Make) -> None:
    for turn in range(1, 4):
        store = opened(path, limits)
        store.put(make_reports(10), names)
        flushed(store, 5)
        assert store.status().rows == 10 * turn
        store.close(5)


def test_a_threat_is_replaced_by_its_id(store: Store, ask: Ask) -> None:
    threat = Threat(
        "port_scan", Severity.HIGH, "T1046", "192.0.2.9", None, 1.0, 2.0, 20, "20 ports", {"ports": [1, 2]}, "t1"
    )
    store.put_threat(threat, "opened").result(5)
    threat.count = 40
    store.put_threat(threat, "updated").result(5)
    ((count, severity, evidence, state, dst),) = ask("SELECT count, severity, evidence, state, dst_ip FROM threats")
    assert (count, severity, json.loads(evidence), state, dst) == (40, "high", {"ports": [1, 2]}, "updated", None)


def test_the_audit_is_kept_in_order(store: Store, ask: Ask) -> None:
    for number in range(3):
        store.audit(
            AuditEntry(float(number), 1000, "ada", 42, "add-cidr", f"192.0.2.{number}/32", None, "drop")
        ).result(5)
    assert ask('SELECT "at", user, change, subject, "before", "after" FROM audit ORDER BY id')[1] == (
        1.0,
        "ada",
        "add-cidr",
        "192.0.2.1/32",
        None,
        "drop",
    )


def test_bans_are_replaced_whole_and_read_back(store: Store) -> None:
    first = Ban("192.0.2.1/32", "port_scan", "20 ports", 1.0, 601.0, "t1", 2)
    second = Ban("192.0.2.2/32", "ada", "", 1.0, None, forced=True)
    store.save_bans([first, second, Ban("192.0.2.3/32", "ada", "", 1.0, None)]).result(5)
    store.save_bans([first, second]).result(5)
    assert kept_bans(store) == [first, second]


def test_text_that_is_no_unicode_fails_its_task_only(store: Store, names: Names, make_reports: Make) -> None:
    change = AuditEntry(1.0, 0, "root", 1, "ban", "\udcff")
    with pytest.raises(StoreError):
        store.audit(change).result(5)
    store.put(make_reports(), names)
    assert flushed(store, 5)
    assert (store.status().rows, store.status().state) == (1, "ok")


def test_a_record_that_nobody_waits_for_is_said_and_counted_when_it_is_lost(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    threat = Threat("port_scan", Severity.HIGH, "T1046", "192.0.2.9", None, 1.0, 2.0, 20, "\udcff", {}, "t-9")
    store.put_threat(threat, "opened")
    store.save_bans([Ban("192.0.2.1/32", "\udcff", "", 1.0, None), Ban("192.0.2.2/32", "ada", "", 1.0, None)])
    assert flushed(store, 5)
    assert store.status().lost_rows == 2
    assert "threat t-9 was not written" in caplog.text
    assert "a list of 2 bans was not written" in caplog.text
    assert kept_bans(store) == []


def test_records_that_wait_are_bounded(path: Path, limits: Limits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_module, "_MOST_TASKS", 10)
    store = opened(path, limits)
    lock = sqlite3.connect(path, isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")  # the writer cannot write
    made = [store.audit(AuditEntry(float(number), 0, "root", 1, "ban", "x")) for number in range(15)]
    lock.execute("ROLLBACK")
    lock.close()
    assert flushed(store, 10)
    store.close(5)
    assert [number for number, each in enumerate(made) if each.exception()] == [10, 11, 12, 13, 14]
    assert store.status().lost_rows == 5


def test_changes_of_bans_while_the_file_is_locked_are_there_after_two_stops(path: Path, limits: Limits) -> None:
    stays, lifted, made, brief = (Ban(f"192.0.2.{n}/32", "ada", "", 1.0, None, owner="ada") for n in range(4))
    again = replace(stays, reason="again", forced=True)
    store = opened(path, limits)
    store.save_bans([stays, lifted]).result(5)
    with closing(sqlite3.connect(path, isolation_level=None)) as lock:
        lock.execute("BEGIN IMMEDIATE")
        store.change_bans([made, brief], [])
        store.change_bans([again], [(lifted.cidr, lifted.owner), (brief.cidr, brief.owner)])
        store.close(0.1)
        store._writer.join()  # as when its process has ended
        store = Store.open(path, limits)
        store.change_bans([brief], [(made.cidr, made.owner)])
        store.close(0.1)
        store._writer.join()
    for whole in (False, True):
        store = opened(path, limits)
        assert kept_bans(store) == [again, brief]
        if whole:
            store.save_bans([again]).result(5)
        store.close(5)
    store = opened(path, limits)
    assert kept_bans(store) == [again]
    assert not path.with_name(LEFT_NAME).exists()
    store.close(5)


def test_changes_of_bans_that_found_no_room_are_made_good_by_the_whole_list(
    path: Path, limits: Limits, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(queue_module, "_MOST_TASKS", 10)
    store = opened(path, limits)
    bans = [Ban(f"192.0.2.{number}/32", "ada", "", 1.0, None) for number in range(15)]
    store.save_bans(bans)
    assert flushed(store, 10)
    lock = sqlite3.connect(path, isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    for ban in bans:
        store.change_bans((), [(ban.cidr, ban.owner)])
    lock.execute("ROLLBACK")
    lock.close()
    assert flushed(store, 10)
    assert caplog.text.count("a change of 1 ban was not written") == 1, "not a line for each"
    assert (len(kept_bans(store)), store.lost_bans) == (5, True)
    store.save_bans([]).result(5)
    assert (kept_bans(store), store.lost_bans) == ([], False)
    store.close(5)


def test_a_task_after_closing_fails_with_the_reason(path: Path, limits: Limits) -> None:
    store = opened(path, limits)
    store.close(5)
    with pytest.raises(StoreError, match="closed"):
        store.audit(AuditEntry(1.0, 0, "root", 1, "ban", "x")).result(5)
    assert store.status().lost_rows == 1


@pytest.mark.usefixtures("store")
def test_the_file_is_readable_by_the_group_and_nobody_else(path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_nothing_to_put_is_nothing_to_do(store: Store, names: Names, make_reports: Make) -> None:
    assert store.put(make_reports(0), names) == 0
    assert store.status().queue == 0
