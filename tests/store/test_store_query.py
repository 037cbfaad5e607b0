"""Filters: the rows they mean, the SQL they print, and every mistake in them at once."""

from __future__ import annotations

import contextlib
import sqlite3
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from opened_store import flushed

from trafficmond.errors import ConfigError, StoreError
from trafficmond.flows.batch import V4_MAPPED, Batch
from trafficmond.flows.names import Names
from trafficmond.flows.owners import Owner
from trafficmond.model import FlowQuery
from trafficmond.store import reader as reader_module
from trafficmond.store.query import question
from trafficmond.store.reader import Reader
from trafficmond.store.schema import STORED_COLUMNS
from trafficmond.store.store import Store
from trafficmond.store.unstored import chosen

Make = Callable[..., Batch]
NOW = 1_700_000_000.0


@pytest.fixture
def filled(store: Store, names: Names, four: Batch) -> Store:
    store.put(four, names)
    assert flushed(store, 5)
    return store


@pytest.fixture
def four(make_reports: Make) -> Batch:
    batch = make_reports(4)
    batch["src_lo"] = [int(V4_MAPPED) | address for address in (0x0A000001, 0x0A010001, 0xC0000201, 0xC6336402)]
    batch["dport"] = 443, 53, 22, 443
    batch["proto"] = 6, 17, 6, 6
    batch["verdict"] = 1 << 28, 0, 2 << 28 | 2 << 24 | 6, 1 << 28
    batch["ifindex"] = 2, 3, 2, 2
    batch["last"] = NOW, NOW - 100, NOW - 200, NOW - 300
    batch["bytes"], batch["reply_bytes"] = (10, 20, 30, 40), (200, 400, 100, 300)
    batch["packets"], batch["reply_packets"] = (9, 1, 1, 1), (1, 4, 8, 1)
    return batch


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (FlowQuery(), [10, 20, 30, 40]),
        (FlowQuery(since=NOW - 150), [10, 20]),
        (FlowQuery(until=NOW - 150), [30, 40]),
        (FlowQuery(src="10.0.0.0/8"), [10, 20]),
        (FlowQuery(src="10.0.0.1"), [10]),
        (FlowQuery(src="10.0.0.1/16"), [10]),
        (FlowQuery(dst="198.51.100.2"), [10, 20, 30, 40]),
        (FlowQuery(host="10.1.0.0/16"), [20]),
        (FlowQuery(host="198.51.100.0/24", port=443), [10, 40]),
        (FlowQuery(port=40000), [10, 20, 30, 40]),
        (FlowQuery(port="22,53"), [20, 30]),
        (FlowQuery(port="20-53"), [20, 30]),
        (FlowQuery(port="!443,22"), [20]),
        (FlowQuery(src="!10.0.0.0/8"), [30, 40]),
        (FlowQuery(src="10.0.0.1,192.0.2.1"), [10, 30]),
        (FlowQuery(host="!10.1.0.0/16,192.0.2.0/24"), [10, 40]),
        (FlowQuery(src="!10.0.0.0/8", port="!22"), [40]),
        (FlowQuery(proto="udp"), [20]),
        (FlowQuery(proto="17"), [20]),
        (FlowQuery(proto="udp,6"), [10, 20, 30, 40]),
        (FlowQuery(proto="icmp,udp"), [20]),
        (FlowQuery(proto="!udp,icmp"), [10, 30, 40]),
        (FlowQuery(action="DROP"), [30]),
        (FlowQuery(rule="bad neighbours"), [30]),
        (FlowQuery(rule="x' OR '1'='1"), []),
        (FlowQuery(interface="wan0"), [20]),
        (FlowQuery(sort="bytes"), [20, 40, 10, 30]),
        (FlowQuery(sort="-bytes"), [30, 10, 40, 20]),
        (FlowQuery(sort="packets"), [10, 30, 20, 40]),
        (FlowQuery(sort="reply_bytes"), [20, 40, 10, 30]),
        (FlowQuery(sort="-time"), [40, 30, 20, 10]),
        (FlowQuery(limit=2), [10, 20]),
        (FlowQuery(src="2001:db8::/32"), []),
        (FlowQuery(src="10.0.0.0/8", proto="tcp", since=NOW - 1, action="monitor"), [10]),
    ],
)
def test_filters(filled: Store, wanted: FlowQuery, expected: list[int]) -> None:
    asked = question(wanted)
    with Reader(filled.path) as reader:
        rows = [row for page in reader.pages(asked) for row in page]
    assert [row["bytes"] for row in rows] == expected
    assert all(tuple(row) == tuple(STORED_COLUMNS) for row in rows)


@pytest.mark.parametrize(
    "wanted",
    [
        FlowQuery(port="22,53"),
        FlowQuery(port="!20-53"),
        FlowQuery(proto="tcp,udp"),
        FlowQuery(proto="!tcp"),
        FlowQuery(src="!10.0.0.0/8"),
        FlowQuery(host="10.0.0.1,192.0.2.1"),
        FlowQuery(host="!10.0.0.1,192.0.2.1"),
    ],
)
def test_what_is_not_stored_yet_is_chosen_alike(filled: Store, names: Names, four: Batch, wanted: FlowQuery) -> None:
    with Reader(filled.path) as reader:
        expected = sorted(row["bytes"] for page in reader.pages(question(wanted)) for row in page)
    assert sorted(chosen(four, names, wanted)["bytes"].tolist()) == expected


@pytest.mark.parametrize(
    ("unit", "found"),
    [("nginx", [1]), ("*x*", [1, 2]), ("nginx[!.]*", [2]), ("[^k]*", [1, 2]), ("kern?l", [4]), ("it's*", [])],
)
def test_units_by_name_and_pattern_stored_or_not(
    store: Store, names: Names, four: Batch, unit: str, found: list[int]
) -> None:
    units = {1: "nginx.service", 2: "nginx-proxy.service", 4: "kernel"}
    four["owner"], four["bytes"] = (1, 2, 0, 4), (1, 2, 3, 4)
    named = replace(names, owners={number: Owner(text) for number, text in units.items()})
    wanted = FlowQuery(unit=unit, sort="-bytes")
    assert chosen(four, named, wanted)["bytes"].tolist() == found
    store.put(four, named)
    assert flushed(store, 5)
    with Reader(store.path) as reader:
        assert [row["bytes"] for page in reader.pages(question(wanted)) for row in page] == found


def test_groups_of_hosts_count_each_side_and_of_days_the_last_packet(filled: Store) -> None:
    with Reader(filled.path) as reader:
        hosts = {row["host"]: row for page in reader.pages(question(FlowQuery(group_by=("host",)))) for row in page}
        days = [
            row for page in reader.pages(question(FlowQuery(group_by=("day", "host"), src="10.0.0.1"))) for row in page
        ]
        (hour,) = [row for page in reader.pages(question(FlowQuery(group_by=("hour",), since=NOW))) for row in page]
    assert (hosts["10.0.0.1"]["bytes"], hosts["10.0.0.1"]["reply_bytes"]) == (10, 200)
    assert (hosts["198.51.100.2"]["bytes"], hosts["198.51.100.2"]["reply_bytes"]) == (1040, 400)  # it began one itself
    assert hosts["198.51.100.2"]["flows"] == 5
    assert {row["host"] for row in days} == {"10.0.0.1", "198.51.100.2"}
    assert {row["day"] for row in days} == {time.strftime("%Y-%m-%d", time.localtime(NOW))}
    assert hour["hour"] == time.strftime("%Y-%m-%d %H:00", time.localtime(NOW))


def test_a_word_that_is_nearly_right_is_guessed_and_short_names_are_reported() -> None:
    with pytest.raises(ConfigError) as caught:
        question(FlowQuery(sort="byte", group_by=("hots",)))
    group, sort = (str(mistake) for mistake in caught.value.mistakes)
    for word, meant in (("service", "unit"), ("command", "process"), ("ip", "host")):
        with pytest.raises(ConfigError, match=f"did you mean {meant}"):
            question(FlowQuery(group_by=(word,)))
    assert "did you mean bytes" in sort or "bytes" in sort.partition(";")[0]
    assert "host" in group.partition("; use")[0]
    assert group.endswith("or a short name: src, dst, sport, dport, port, proto")  # time, up and down are no groups
    for word in ("time", "up"):
        with pytest.raises(ConfigError) as caught:
            question(FlowQuery(group_by=(word,)))
        assert f"did you mean {word}" not in str(caught.value)


def test_groups_have_totals_and_the_largest_first(filled: Store) -> None:
    asked = question(FlowQuery(group_by=("dport", "proto")))
    assert asked.columns[:3] == ("dst_port", "protocol", "flows")
    with Reader(filled.path) as reader:
        (page,) = reader.pages(asked)
    assert [(row["dst_port"], row["flows"], row["bytes"]) for row in page] == [(443, 2, 50), (53, 1, 20), (22, 1, 30)]
    assert page[0]["first_seen"] == NOW - 1


def test_type_and_code_of_icmp_are_no_ports(store: Store, names: Names, four: Batch) -> None:
    four["proto"] = 6, 1, 58, 47
    four["sport"], four["dport"] = (40000, 8, 128, 0), (443, 0, 0, 0)
    store.put(four, names)
    assert flushed(store, 5)

    def groups(*by: str, **wanted: Any) -> list[tuple[Any, ...]]:
        asked = question(FlowQuery(group_by=by, **wanted))
        with Reader(store.path) as reader:
            return sorted((row[: len(by)] for row in reader.rows(asked.sql)), key=str)

    assert groups("dst_port") == [(443,), (None,)]
    assert groups("src_port", "host") == [
        *((40000, "10.0.0.1"), (40000, "198.51.100.2")),
        *((None, host) for host in ("10.1.0.1", "192.0.2.1", "198.51.100.2")),
    ]
    assert groups("protocol", "src_port") == [("GRE", 0), ("ICMP", 8), ("ICMPv6", 128), ("TCP", 40000)]
    assert groups("protocol", port="0-200") == []
    assert groups("protocol", port="8") == []
    assert groups("protocol", port="!443") == [("GRE",), ("ICMP",), ("ICMPv6",)]
    assert len(chosen(four, names, FlowQuery(port="0-200"))) == 0
    assert len(chosen(four, names, FlowQuery(port="!443"))) == 3


def test_groups_sort_by_any_of_their_columns(filled: Store) -> None:
    with Reader(filled.path) as reader:
        (page,) = reader.pages(question(FlowQuery(group_by=("src",), sort="-src", limit=2)))
    assert [row["src_ip"] for row in page] == ["10.0.0.1", "10.1.0.1"]


def test_the_printed_sql_runs_as_it_stands(filled: Store) -> None:
    wanted = FlowQuery(since=NOW - 150, src="10.0.0.0/8", rule="it's", group_by=("src",), sort="packets", limit=7)
    plain = sqlite3.connect(f"file:{filled.path}?mode=ro", uri=True)
    assert plain.execute(question(wanted).sql).fetchall() == []
    plain.close()


def test_every_mistake_is_reported_at_once() -> None:
    wanted = FlowQuery(
        src="10.0.0", port=70000, proto="tpc", action="block", rule="\0", sort="size", group_by=("color",), limit=0
    )
    with pytest.raises(ConfigError) as told:
        question(wanted)
    assert [mistake.where for mistake in told.value.mistakes] == [
        "group_by",
        "src",
        "port",
        "proto",
        "action",
        "rule",
        "sort",
        "limit",
    ]


@pytest.mark.parametrize("since", [float("nan"), float("inf")])
def test_times_that_are_no_times(since: float) -> None:
    with pytest.raises(ConfigError):
        question(FlowQuery(since=since))


def test_pages_hold_so_many_rows(filled: Store) -> None:
    with Reader(filled.path) as reader:
        assert [len(page) for page in reader.pages(question(FlowQuery()), page_rows=3)] == [3, 1]


def test_who_takes_a_large_answer_slowly_holds_neither_a_transaction_nor_memory(
    path: Path, store: Store, names: Names, make_reports: Make
) -> None:
    for _ in range(50):
        store.put(make_reports(1000), names)
    assert flushed(store, 20)
    with Reader(path) as reader:
        tracemalloc.start()
        pages = reader.pages(question(FlowQuery(limit=50_000)))
        count = len(next(pages))
        store.put(make_reports(100), names)
        assert flushed(store, 5)
        with contextlib.closing(sqlite3.connect(path)) as other:
            assert other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone() == (0, 0, 0), "nobody is in the way"
        count += sum(map(len, pages))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert count == 50_000
    assert peak < 8 << 20, "what would be 60 MiB of rows"
    assert not list(path.parent.glob("tmp*"))


def test_an_answer_that_cannot_be_kept_is_a_clear_error(
    filled: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(reader_module, "_KEPT_BYTES", 10)
    with Reader(filled.path) as reader:
        assert len(next(reader.pages(question(FlowQuery())))) == 4
        reader._path = tmp_path / "gone" / "flows.db"
        with pytest.raises(StoreError, match="cannot be stored"):
            next(reader.pages(question(FlowQuery())))


def test_an_endless_question_is_ended(filled: Store) -> None:
    with Reader(filled.path) as reader:
        begin = time.monotonic()
        with pytest.raises(StoreError, match=r"more than 0.2 s"):
            reader.rows("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n", (), 0.2)
        assert time.monotonic() - begin < 5
        assert reader.rows("SELECT 1") == [(1,)]


@pytest.mark.parametrize(
    "sql", ["DELETE FROM threats", "DROP VIEW flows", "INSERT INTO audit DEFAULT VALUES", "nonsense"]
)
def test_a_reader_changes_nothing(filled: Store, sql: str) -> None:
    with Reader(filled.path) as reader, pytest.raises(StoreError):
        reader.rows(sql)


def test_no_file_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be read"):
        Reader(tmp_path / "flows.db")


def test_values(filled: Store) -> None:
    with Reader(filled.path) as reader:
        row: tuple[Any, ...] = reader.rows("SELECT ?, ?", ("a", 1))[0]
    assert row == ("a", 1)
