"""The flow table's loops in C against the same in numpy: every row of any traffic is the same, byte by byte."""

from __future__ import annotations

import base64
import ctypes
import hashlib
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from flow_referee import Table
from flow_rows import Row, make

from trafficmond import abi
from trafficmond.errors import TrafficmonError
from trafficmond.flows import batch, community_id, compiled
from trafficmond.flows.batch import DELTA, FLOW, V4_MAPPED, Batch
from trafficmond.flows.canonical import TYPE_UNKNOWN
from trafficmond.flows.community_id import flow_hashes
from trafficmond.flows.owners import FORWARDED, KERNEL
from trafficmond.flows.table import FlowTable
from trafficmond.model import Action
from trafficmond.verdict import verdict_word

ROOT = Path(__file__).resolve().parents[2]
T0 = 1_700_000_000.0
WORDS = [verdict_word(Action.MONITOR), verdict_word(Action.DROP), verdict_word(Action.ALLOW, rule=7)]


def tables(capacity: int = 1000, *, in_order: bool = False, reporting: bool = True) -> tuple[FlowTable, FlowTable]:
    """One with the loops in C, one with numpy, that name flows alike."""
    with_c = FlowTable(capacity, 30.0, 60.0, seed=7, in_order=in_order, reporting=reporting)
    return with_c, Table(capacity, 30.0, 60.0, seed=7, in_order=in_order, reporting=reporting)


def anything(pick: np.random.Generator, count: int, now: float, *, words: int) -> Batch:
    """Deltas of few hosts and ports, so that they meet: both directions, requests and answers, every flag and bit."""
    rows = np.zeros(count, DELTA)
    v6 = pick.random(count) < 0.3
    for side in ("src", "dst"):
        rows[f"{side}_hi"] = np.where(v6, np.uint64(0xFF02 << 48 if side == "dst" else 0x2001 << 48), 0)
        rows[f"{side}_lo"] = np.where(v6, np.uint64(0), V4_MAPPED) | pick.choice(
            np.array([0x0A000001, 0x0A000002, 0xC0A80001, 0xE0000001], np.uint64), count
        )
    rows["family"] = np.where(v6, 6, 4)
    rows["proto"] = pick.choice([6, 6, 6, 17, 17, 1, 58, 47], count)
    kinds = [0, 8, 13, 14, 128, 129, 133, 134, 255, TYPE_UNKNOWN]
    icmp = (rows["proto"] == 1) | (rows["proto"] == 58)
    rows["sport"] = np.where(icmp, pick.choice(kinds, count), pick.choice([22, 53, 443, 40000, 40001], count))
    rows["dport"] = np.where(icmp, 0, pick.choice([22, 53, 443, 40000, 40001], count))
    rows["direction"], rows["ifindex"] = pick.integers(0, 2, count), pick.integers(1, 3, count)
    rows["vlan"], rows["inner"] = pick.choice([0, 0, 5], count), pick.choice([0, 0, 0, 9 << 33 | 4], count)
    rows["verdict"] = pick.choice(WORDS[:words], count)
    rows["owner"] = pick.choice(np.array([0, 0, 0, KERNEL, FORWARDED, 4711, 4712], np.uint64), count)
    rows["packets"] = pick.integers(1, 4, count)
    rows["bytes"] = rows["packets"] * pick.integers(40, 1500, count)
    rows["payload_packets"] = np.minimum(pick.integers(0, 4, count), rows["packets"])
    rows["payload_bytes"] = rows["payload_packets"] * np.uint64(100)
    rows["first"] = now - pick.choice([0.0, 1e-5, 0.3, 0.9, 5.0, 40.0], count)
    rows["last"] = rows["first"] + pick.random(count) * (now - rows["first"])
    rows["first_len"], rows["last_len"], rows["ttl"] = pick.integers(40, 1500, count), 60, 64
    rows["first_flags"] = pick.choice([2, 18, 16, 17, 4, 24, 0], count)
    rows["tcp_flags"] = rows["first_flags"] | pick.choice([0, 16, 17, 4, 24, 1], count)
    rows["bits"] = pick.choice([0, abi.BIT_FRAGMENT, abi.BIT_FIRST_PAYLOAD, abi.BIT_SPOKE_FIRST, 0x0A], count)
    rows["new"] = pick.random(count) < 0.6
    return rows


def conversations(pick: np.random.Generator, count: int, now: float) -> Batch:
    """Deltas of a few TCP connections, so that each goes on, ends, is opened again and told by several CPUs."""
    rows = anything(pick, count, now, words=2)
    turned = pick.random(count) < 0.5
    rows["src_hi"] = rows["dst_hi"] = rows["vlan"] = rows["inner"] = 0
    rows["src_lo"], rows["dst_lo"] = np.where(turned, 2, 1), np.where(turned, 1, 2)
    client, rows["ifindex"] = pick.choice([40000, 40001, 40002], count), 1
    rows["sport"], rows["dport"] = np.where(turned, 5001, client), np.where(turned, client, 5001)
    rows["family"], rows["proto"], rows["direction"] = 6, 6, turned
    rows["verdict"] = np.where(pick.random(count) < 0.1, WORDS[1], WORDS[0])
    rows["first_flags"] = pick.choice([2, 18, 16, 24], count, p=[0.3, 0.3, 0.2, 0.2])
    rows["tcp_flags"] = rows["first_flags"] | pick.choice([0, 16, 17, 4], count, p=[0.5, 0.3, 0.15, 0.05])
    rows["first"] = now - pick.choice([0.0, 1e-5, 0.3, 0.9], count)
    rows["last"] = np.maximum(rows["first"], now - 0.5 * pick.random(count))
    return rows


def told(rows: Batch) -> list[bytes]:
    return sorted(row.tobytes() for row in rows)


def same(with_c: FlowTable, with_numpy: FlowTable, deltas: Batch, now: float) -> None:
    one, other = with_c.update(deltas, now), with_numpy.update(deltas, now)
    assert one.tobytes() == other.tobytes()
    assert told(with_c.due(now)) == told(with_numpy.due(now))
    assert told(with_c.pending()) == told(with_numpy.pending())
    assert (len(with_c), with_c.evicted) == (len(with_numpy), with_numpy.evicted)


@pytest.mark.parametrize("in_order", [False, True])
@pytest.mark.parametrize("words", [1, 3])
@pytest.mark.parametrize("capacity", [40, 1000])
@pytest.mark.parametrize("seed", range(4))
def test_any_traffic_makes_the_same_rows(seed: int, capacity: int, words: int, *, in_order: bool) -> None:
    pick = np.random.default_rng(seed)
    pair = tables(capacity, in_order=in_order)
    now = T0
    for _ in range(40):
        now += float(pick.choice([0.5, 1.0, 3.0, 31.0, 400.0, -20.0], p=[0.3, 0.4, 0.15, 0.09, 0.05, 0.01]))
        same(*pair, anything(pick, int(pick.choice([0, 1, 3, 60])), now, words=words), now)
    same(*pair, np.zeros(0, DELTA), now + 8000)
    assert told(pair[0].due(now + 8000, everything=True)) == told(pair[1].due(now + 8000, everything=True))


def same_table(one: FlowTable, other: FlowTable) -> None:
    """Every row at the same place, with the same deadline."""
    for name in ("_rows", "_deadline", "_quiet", "_ids", "_slots"):
        assert getattr(one, name)[: len(one)].tobytes() == getattr(other, name)[: len(other)].tobytes(), name


@pytest.mark.parametrize("words", [1, 3])
@pytest.mark.parametrize("capacity", [40, 1000, 100_000])
@pytest.mark.parametrize("seed", range(4))
def test_a_table_that_reports_nothing_takes_ticks_at_once_and_is_the_same(seed: int, capacity: int, words: int) -> None:
    pick = np.random.default_rng(seed)
    pair = tables(capacity, in_order=True, reporting=False)
    ticks = pair[0]._ticks
    assert ticks is not None
    taken = []
    take = ticks.take
    ticks.take = lambda *given: taken.append(take(*given)) or taken[-1]  # type: ignore[method-assign]
    now = T0
    for _ in range(40):
        now += float(pick.choice([0.5, 1.0, 3.0, 31.0, 400.0, -20.0], p=[0.3, 0.4, 0.15, 0.09, 0.05, 0.01]))
        count = int(pick.choice([0, 1, 3, 60, 1100], p=[0.2, 0.3, 0.3, 0.18, 0.02]))
        some = anything(pick, count, now, words=words) if pick.random() < 0.7 else conversations(pick, count, now)
        same(*pair, some, now)
        same_table(*pair)
    assert sum(each is not None for each in taken) > 10


def test_a_connection_that_closes_is_forgotten_in_time_by_a_table_where_nothing_else_is_due() -> None:
    pair = tables(in_order=True, reporting=False)
    for at, flags in ((T0, [2, 18]), (T0 + 1, [17, 17]), (T0 + 2, []), (T0 + 8, [])):
        deltas = make(DELTA, [{"sport": 1000, "dport": 80}, {"sport": 80, "dport": 1000}][: len(flags)])
        deltas["family"], deltas["proto"], deltas["packets"] = 4, 6, 1
        deltas["src_lo"][:2], deltas["dst_lo"][:2] = [1, 2][: len(flags)], [2, 1][: len(flags)]
        deltas["tcp_flags"], deltas["first_flags"], deltas["new"] = flags, [2, 18][: len(flags)], at == T0
        deltas["first"], deltas["last"] = T0, at
        same(*pair, deltas, at)
        same_table(*pair)
    assert len(pair[0]) == 0


def test_a_tick_of_more_rows_than_one_call_takes_is_merged_all_the_same() -> None:
    pair = tables(1 << 17, in_order=True, reporting=False)
    for at, most in ((T0, 40_000), (T0 + 1, 32_768), (T0 + 2, 32_769)):
        deltas = np.zeros(most, DELTA)
        deltas["src_lo"], deltas["proto"], deltas["family"] = np.arange(most), 17, 4
        deltas["packets"], deltas["first"], deltas["last"], deltas["new"] = 1, at, at, True
        same(*pair, deltas, at)
        same_table(*pair)


@pytest.mark.parametrize("seed", range(20))
def test_connections_that_continue_end_and_come_again_make_the_same_rows(seed: int) -> None:
    pick = np.random.default_rng(seed)
    pair = tables(in_order=seed % 2 == 0)
    now = T0
    for _ in range(60):
        now += float(pick.choice([0.5, 1.0, 3.0, 31.0], p=[0.4, 0.4, 0.15, 0.05]))
        same(*pair, conversations(pick, int(pick.integers(1, 5)), now), now)


def call(at: float, **fields: object) -> list[Row]:
    """A finished connection, a row a side."""
    there = {
        "sport": 40000,
        "dport": 443,
        "first": at,
        "last": at + 0.2,
        "packets": 6,
        "tcp_flags": 0x1B,
        "first_flags": 2,
    }
    back = {**there, "turned": True, "first": at + 0.01, "first_flags": 18, "tcp_flags": 0x1B}
    return [{**there, "new": True, **fields}, {**back, "new": True, **fields}]


@pytest.mark.parametrize("gap", [0.0, 1e-5, 0.5, 3.0])
@pytest.mark.parametrize("together", [True, False])
def test_calls_that_follow_one_another_on_the_same_ports(gap: float, *, together: bool) -> None:
    pair = tables()
    rows = np.zeros(8, DELTA)
    for number, row in enumerate(each for turn in range(4) for each in call(T0 + turn * (0.3 + gap))):
        turned = bool(row.pop("turned", False))
        for name, value in row.items():
            rows[name][number] = value
        rows["src_lo"][number], rows["dst_lo"][number] = (2, 1) if turned else (1, 2)
        if turned:
            rows["sport"][number], rows["dport"][number] = 443, 40000
    rows["family"], rows["proto"], rows["payload_packets"] = 6, 6, 2
    for part in [rows] if together else np.split(rows, 4):
        same(*pair, part, float(part["last"].max()) + 0.05)


def test_turned_guesses_and_changed_verdicts() -> None:
    pair = tables()
    for step, (first_flags, word) in enumerate([(24, 0), (24, 1), (18, 1), (16, 2), (4, 2)]):
        deltas = make(DELTA, [{"src_lo": 1, "dst_lo": 2, "sport": 50000, "dport": 443, "family": 6, "proto": 6}])
        deltas["first"] = deltas["last"] = T0 + step
        deltas["packets"], deltas["bytes"], deltas["new"] = 1, 60, step in (0, 2)
        deltas["first_flags"] = deltas["tcp_flags"] = first_flags
        deltas["verdict"] = WORDS[word]
        same(*pair, deltas, T0 + step + 0.5)


@pytest.mark.parametrize(
    ("found", "said"), [([], "cannot find libtmparse.so"), ([__file__], "cannot load"), (["older"], "another version")]
)
def test_a_library_that_is_not_there_or_not_ours_is_said(
    found: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "PLACES", [Path(path) for path in found] if found != ["older"] else compiled.PLACES)
    if found == ["older"]:
        monkeypatch.setattr(compiled, "STATE", FLOW)
    with pytest.raises(TrafficmonError, match=f"{said}.*; run make build, or install"):
        compiled.library.__wrapped__()


def test_addresses_and_community_ids_are_those_of_python() -> None:
    pick = np.random.default_rng(3)
    rows = anything(pick, 3000, T0, words=1)
    rows["src_lo"][:1000] = V4_MAPPED | pick.integers(0, 1 << 32, 1000, dtype=np.uint64)
    rows["dst_lo"][:6] = V4_MAPPED | np.array(
        [0, 0xFFFFFFFF, 0x0A000001, 0x01020304, 0x64646464, 0x09630A0B], np.uint64
    )
    for part in (rows[rows["family"] == 4], rows, rows[:0]):
        for side in ("src", "dst"):
            ends = part[f"{side}_hi"], part[f"{side}_lo"], part["family"]
            assert compiled.addresses(*ends) == batch.addresses(*ends)
        texts = community_id._texts(part).tolist()
        for chosen, text, length in community_id._hashed(part):
            for row, hashed in zip(chosen.tolist(), text, strict=True):
                digest = hashlib.sha1(hashed.tobytes()[:length]).digest()
                assert texts[row] == "1:" + base64.b64encode(digest).decode()
                assert flow_hashes(part[row : row + 1]) == [digest[:4].hex()]


@pytest.mark.skipif(shutil.which("clang") is None, reason="needs clang; run: make deps")
def test_sha_1_without_the_instructions_of_the_cpu_is_that_of_python(tmp_path: Path) -> None:
    plain = tmp_path / "plain.so"
    source = '#include "host_texts.h"\nvoid plain(__u32 *h, const __u8 *block) { tm_sha1_block(h, block); }\n'
    command = ["clang", "-O2", "-shared", "-fPIC", f"-I{ROOT / 'bpf'}", "-x", "c", "-", "-o", str(plain)]
    subprocess.run(command, input=source, text=True, check=True)
    loaded, pick = ctypes.CDLL(str(plain)), np.random.default_rng(5)
    for length in range(56):
        message = pick.bytes(length)
        state = np.array([0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0], np.uint32)
        block = message + b"\x80" + bytes(55 - length) + (8 * length).to_bytes(8, "big")
        loaded.plain(ctypes.c_void_p(state.ctypes.data), block)
        assert state.astype(">u4").tobytes() == hashlib.sha1(message, usedforsecurity=False).digest()
