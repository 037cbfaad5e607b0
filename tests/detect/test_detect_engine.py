from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from detect_traffic import T0, datagram, flow, flows, many, refused, talk

from trafficmond.detect.attempts import GRACE_S
from trafficmond.detect.engine import CLOSED, MOST_NEW, MOST_OPEN, OPENED, PART_ROWS, UPDATED, Engine
from trafficmond.detect.registry import DETECTORS, make_detectors, settings_classes
from trafficmond.flows.batch import FLOW, V4_MAPPED, Batch, empty
from trafficmond.model import Severity

A, B = "203.0.113.9", "192.0.2.20"


def scan(first: int, count: int, src: str = A, dst: str = B) -> Batch:
    return flows(flow(src, dst, port) for port in range(first, first + count))


def test_a_threat_is_opened_once_updated_as_it_doubles_and_closed_when_quiet() -> None:
    engine, states = Engine(), []
    for second in range(20):
        states += engine.feed(scan(1 + 30 * second, 30), T0 + second)
    states += engine.finish(T0 + 20)
    kinds = [update.state for update in states]
    assert kinds[0] == OPENED
    assert set(kinds[1:]) == {UPDATED}
    assert 3 <= len(kinds) <= 7  # 30, 60, 120, 240, 480 and a rise of severity
    assert len({update.threat.id for update in states}) == 1
    counts = [update.threat.count for update in states]
    assert counts == sorted(counts)
    assert engine.threats()[0].count == 600
    (end,) = engine.feed(empty(FLOW), T0 + 20 + DETECTORS["port_scan"].idle_timeout_s + 5)
    assert (end.state, end.threat.id) == (CLOSED, states[0].threat.id)
    assert engine.threats() == []


def test_a_situation_that_comes_back_within_hours_is_the_one_it_was() -> None:
    engine, later = Engine(), T0 + 3 * 3600
    (first,) = engine.feed(scan(1, 30), T0 + 5)
    assert [update.state for update in engine.feed(empty(FLOW), later)] == ["closed"]
    (again,) = engine.feed(flows(flow(A, B, port, first=later) for port in range(1, 31)), later + 5)
    assert (again.state, again.threat.id, again.threat.first_seen) == (
        "updated",
        first.threat.id,
        first.threat.first_seen,
    )
    assert engine.feed(empty(FLOW), later + 5 * 3600)  # its pauses are waited for twice as long, within bounds


def test_the_summary_tells_the_worst_of_it() -> None:
    engine = Engine()
    engine.feed(flows(flow(A, host, 25) for host in many(150)), T0 + 5)
    engine.feed(flows(flow(A, host, 6666, first=T0 + 60) for host in many(20)), T0 + 65)
    (threat,) = engine.threats()
    assert "port 25" in threat.summary


def test_a_situation_that_comes_back_after_days_is_another_threat() -> None:
    engine = Engine()
    (first,) = engine.feed(scan(1, 30), T0 + 5)
    engine.feed(empty(FLOW), T0 + 1e6)
    (second,) = engine.feed(flows(flow(A, B, port, first=T0 + 1e6) for port in range(1, 31)), T0 + 1e6 + 5)
    assert first.threat.id != second.threat.id


def test_updates_are_copies() -> None:
    engine = Engine()
    (update,) = engine.feed(scan(1, 30), T0 + 5)
    update.threat.evidence["sample"].clear()
    update.threat.count = 0
    assert engine.threats()[0].evidence["sample"]
    assert engine.threats()[0].count == 30


def test_a_scanner_of_many_hosts_is_one_threat() -> None:
    engine = Engine()
    opened = [
        update
        for n, host in enumerate(many(20))
        for update in engine.feed(scan(1, 30, dst=host), T0 + 5 + n)
        if update.state == OPENED and update.threat.detector == "port_scan"
    ]
    assert len(opened) == 1
    (threat,) = (threat for threat in engine.threats() if threat.detector == "port_scan")
    assert (threat.src_ip, threat.dst_ip) == (A, None)
    assert "more hosts" in threat.summary
    assert len(threat.evidence["targets"]) == 16


def test_a_storm_of_threats_becomes_one_that_counts_the_rest() -> None:
    engine = Engine()
    updates = [
        update
        for n in range(60)
        for update in engine.feed(scan(1, 20, f"203.0.113.{n}", dst=f"192.0.2.{n}"), T0 + 5 + n / 10)
    ]
    opened = [update.threat for update in updates if update.state == OPENED]
    assert len(opened) == MOST_NEW + 1
    (rest,) = (threat for threat in engine.threats() if threat.src_ip is None)
    assert rest.count == 60 - MOST_NEW
    assert engine.status()["overflowed"] == 60 - MOST_NEW


def test_many_notes_leave_room_for_a_threat() -> None:
    engine = Engine()
    for n in range(40):
        engine.feed(scan(1, 9, f"203.0.113.{n}", dst=f"192.0.2.{n}"), T0 + 5 + n / 10)
    engine.feed(scan(1, 60, "198.51.100.7"), T0 + 10)
    engine.finish(T0 + 11)
    severities = {threat.src_ip: threat.severity for threat in engine.threats()}
    assert list(severities.values()).count(Severity.LOW) > MOST_NEW
    assert severities["198.51.100.7"] > Severity.LOW


def test_after_the_clock_was_set_back_new_threats_are_reported_one_by_one() -> None:
    engine = Engine()
    for n in range(MOST_NEW):
        engine.feed(scan(1, 20, f"203.0.113.{n}", dst=f"192.0.2.{n}"), T0 + 60 * n)
    late = flows(flow("198.51.100.7", B, port, first=T0 - 86400) for port in range(1, 21))
    updates = engine.feed(late, T0 - 86400 + 5)
    assert [update.threat.src_ip for update in updates if update.state == OPENED] == ["198.51.100.7"]


def test_never_more_open_threats_than_a_bound() -> None:
    engine = Engine()
    for n in range(MOST_OPEN // 5 + 40):
        rows = [scan(1, 20, f"10.{n}.{k}.1", dst=f"10.{n}.{k}.2") for k in range(5)]
        engine.feed(np.concatenate(rows), T0 + 35 * n)
    assert MOST_OPEN <= len(engine.threats()) <= MOST_OPEN + 1


def test_the_weakest_threat_ends_for_a_more_severe_one_if_there_is_no_room() -> None:
    before, engine = Engine(), Engine()
    before.feed(scan(1, 30), T0 + 5)
    (one,) = before.threats()
    assert one.severity is Severity.MEDIUM
    filled = [replace(one, src_ip=f"203.0.{n >> 8}.{n & 255}", last_seen=T0 + 5 + n / 1000) for n in range(MOST_OPEN)]
    engine.resume(filled, T0 + 6)
    late = [update for update in engine.feed(scan(1, 30, "198.51.100.8"), T0 + 7) if update.state == OPENED]
    assert [update.threat.src_ip for update in late] == [None]  # as severe as the others: counted
    updates = engine.feed(scan(1, 300, "198.51.100.7"), T0 + 8)
    assert [(each.state, each.threat.src_ip) for each in updates] == [(CLOSED, "203.0.0.0"), (OPENED, "198.51.100.7")]
    assert len(engine.threats()) == MOST_OPEN + 1


@pytest.mark.parametrize(
    ("reflectors", "expected"),
    [
        ("11.0.0.0/8", {"amplification": Severity.HIGH}),
        ("10.0.0.0/8", {"amplification": Severity.LOW, "volume": Severity.MEDIUM}),  # a note hides no threat
    ],
    ids=["outside", "ours"],
)
def test_the_broader_explanation_wins_unless_it_is_weaker(reflectors: str, expected: dict[str, Severity]) -> None:
    engine = Engine()
    reflected = [
        datagram(source, B, 1000 + n, sport=123, bytes=482, first_len=482)
        for n, source in enumerate(many(3000, reflectors))
    ]
    updates = engine.feed(flows([talk(flow(A, B, 443)), *reflected]), T0 + 1) + engine.finish(T0 + 1)
    assert {update.threat.detector: update.threat.severity for update in updates} == expected
    assert engine.status()["redundant"] == (len(expected) == 1)


def test_what_one_client_does_hides_no_flood_by_many() -> None:
    """As one whose connections are refused without end, which is a note."""
    engine = Engine()
    for second in range(20):
        at = T0 + second
        rows = [refused(flow(A, B, 81, sport=2000 + 300 * second + n, first=at)) for n in range(300)]
        if second >= 10:
            rows += [datagram(s, B, 8080, sport=1024 + 13 * n, first=at) for n, s in enumerate(many(4000, "8.0.0.0/8"))]
        engine.feed(flows(rows), at + 1)
    assert {(threat.detector, threat.src_ip) for threat in engine.threats()} == {("syn_flood", A), ("volume", None)}


def test_live_ticks_and_one_offline_batch_agree() -> None:
    rows = [flow(A, B, port, first=T0 + port / 100) for port in range(1, 500)]
    offline, live = Engine(), Engine()
    offline.feed(flows(rows), T0 + 5)
    offline.finish(T0 + 5)
    for second in range(6):
        live.feed(flows(row for row in rows if second <= row["first"] - T0 < second + 1), T0 + second + 1)
    live.finish(T0 + 6)
    one, other = offline.threats(), live.threats()
    assert [(threat.detector, threat.src_ip, threat.dst_ip, threat.count) for threat in one] == [
        (threat.detector, threat.src_ip, threat.dst_ip, threat.count) for threat in other
    ]


def test_detection_within_two_seconds_of_the_evidence() -> None:
    engine = Engine()
    assert engine.feed(scan(1, 20), T0 + 0.9) == []
    assert [update.state for update in engine.feed(empty(FLOW), T0 + 1.9)] == [OPENED]
    assert GRACE_S <= 1.0


def test_a_detector_can_be_switched_off_and_set() -> None:
    classes = settings_classes()
    settings = {"port_scan": classes["port_scan"](enabled=False), "syn_flood": classes["syn_flood"](unfinished=16)}
    engine = Engine(settings)
    assert "port_scan" not in {detector.name for detector in make_detectors(settings)}
    assert engine.feed(scan(1, 500), T0 + 5) == []
    assert engine.feed(flows(flow(source, B, 80) for source in many(40)), T0 + 6)[0].threat.detector == "syn_flood"


def test_names_are_the_registered_ones_and_yields_name_detectors() -> None:
    for name, detector in DETECTORS.items():
        assert detector.name == name
        assert detector.__module__ == f"trafficmond.detect.detectors.{name}"
        assert set(detector.suppressed_by) <= set(DETECTORS)
        assert set(detector.dedup_key) <= {"src_ip", "dst_ip", "summary"}


def flood(count: int, now: float, source: np.random.Generator, *, spread: bool) -> Batch:
    """Forged SYNs: a source each, to one host, or to anyone at any port."""
    batch = empty(FLOW, count)
    batch["id"] = source.integers(1, 1 << 63, count)
    batch["family"], batch["proto"], batch["first_flags"], batch["tcp_flags"] = 4, 6, 2, 2
    batch["src_lo"] = V4_MAPPED | source.integers(0, 1 << 32, count).astype(np.uint64)
    batch["dst_lo"] = V4_MAPPED | (source.integers(0, 1 << 32, count) if spread else np.full(count, 0xC0000201)).astype(
        np.uint64
    )
    batch["dport"] = source.integers(1, 65536, count) if spread else 443
    batch["sport"] = source.integers(1024, 65536, count)
    batch["first"] = batch["last"] = now - 0.5
    batch["packets"] = batch["d_packets"] = 1
    batch["bytes"] = batch["d_bytes"] = 60
    batch["new"] = True
    return batch


@pytest.mark.parametrize("spread", [False, True])
def test_a_flood_of_forged_sources_is_a_handful_of_threats_in_bounded_tables(spread: bool) -> None:
    engine, source = Engine(), np.random.default_rng(1)
    updates = []
    for second in range(10):
        updates += engine.feed(flood(50_000, T0 + second, source, spread=spread), T0 + second)
    assert {update.threat.detector for update in updates} == (set() if spread else {"syn_flood"})
    assert len(engine.threats()) <= 1
    for name, counters in engine.status()["detectors"].items():
        assert counters["entities"] <= counters["capacity"], name
    # A scanner is still seen through it, and so is the end of the flood.
    found = engine.feed(np.concatenate([flood(50_000, T0 + 11, source, spread=spread), scan(1, 200)]), T0 + 11)
    found += engine.feed(empty(FLOW), T0 + 13)
    assert "port_scan" in {update.threat.detector for update in found}


def test_any_rows_whatever_leave_it_standing() -> None:
    noise = random.Random(1)
    engine = Engine()
    for turn in range(30):
        batch = np.frombuffer(noise.randbytes(FLOW.itemsize * 200), FLOW).copy()
        for name in ("new", "ended"):
            batch[name] = batch[name].view(np.uint8) & 1
        batch["family"] = np.where(batch["family"] & 1, 4, 6)
        for name in ("first", "last", "reply_first"):
            batch[name] = T0 + noise.random() * 100
        for name in ("packets", "bytes", "payload_bytes", "reply_packets", "reply_bytes", "reply_payload_bytes"):
            batch[name] &= np.uint64(0xFFFFFFFFFF)
        for name in ("d_packets", "d_bytes", "d_reply_packets", "d_reply_bytes"):
            batch[name] &= np.uint64(0xFFFFFFFFFF)
        engine.feed(batch, T0 + turn)
    engine.feed(scan(1, 30), T0 - 5000)  # and a clock set back
    assert engine.feed(empty(FLOW), T0 - 4000) is not None
    assert any(threat.src_ip == A for threat in engine.threats())


def test_a_large_batch_is_looked_at_in_parts_without_a_seam() -> None:
    rows = scan(1, 500)
    padding = flows([talk(flow("10.0.0.1", "10.0.0.2", 80))])
    batch = np.concatenate([np.repeat(padding, PART_ROWS - 250), rows])
    batch["id"] = np.arange(1, len(batch) + 1)
    engine = Engine()
    engine.feed(batch, T0 + 5)
    assert [(threat.detector, threat.count, threat.severity) for threat in engine.threats()] == [
        ("port_scan", 500, Severity.HIGH)
    ]


def test_a_restart_continues_with_the_open_threats_and_no_count_goes_back() -> None:
    before = Engine()
    before.feed(scan(1, 300), T0 + 5)
    (open_then,) = before.threats()
    after = Engine()
    assert after.resume([open_then], T0 + 20) == []
    assert after.feed(scan(400, 30), T0 + 21) == []  # known: no second opening, no news before it has doubled
    (now,) = after.threats()
    assert (now.id, now.count, now.first_seen) == (open_then.id, open_then.count, open_then.first_seen)
    assert now.summary == open_then.summary
    (end,) = after.feed(empty(FLOW), T0 + 21 + DETECTORS["port_scan"].idle_timeout_s + 5)
    assert (end.state, end.threat.id) == (CLOSED, open_then.id)


def test_what_was_over_while_nobody_looked_is_closed_and_not_reported() -> None:
    before = Engine()
    before.feed(scan(1, 30), T0 + 5)
    after, late = Engine(), T0 + 5 + DETECTORS["port_scan"].idle_timeout_s + 60
    assert [threat.id for threat in after.resume(before.threats(), late)] == [before.threats()[0].id]
    assert after.feed(empty(FLOW), late + 1) == []


def test_stored_threats_that_come_late_keep_their_id() -> None:
    before = Engine()
    before.feed(scan(1, 300), T0 + 5)
    (stored,) = before.threats()
    after = Engine()
    later = flows(flow(A, B, port, first=T0 + 25) for port in range(400, 430))
    (again,) = after.feed(later, T0 + 30)
    assert [threat.id for threat in after.resume([stored], T0 + 31)] == [again.threat.id]
    assert after.resume([stored], T0 + 31) == []
    (merged,) = after.threats()
    assert (merged.id, merged.count, merged.summary) == (stored.id, stored.count, stored.summary)


def test_no_more_than_can_be_open_are_taken_up() -> None:
    before = Engine()
    before.feed(scan(1, 30), T0 + 5)
    (one,) = before.threats()
    many = [replace(one, src_ip=f"203.0.{n >> 8}.{n & 255}", id=str(n)) for n in range(MOST_OPEN + 3)]
    unknown = replace(one, detector="of_another_version", id="x")
    after = Engine()
    assert len(after.resume([unknown, *many], T0 + 6)) == 4
    assert len(after.threats()) == MOST_OPEN
