"""Rows by images of C against the same by tuples of Python: every column of any batch is the same."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pytest
from store_tuples import insert_tuples

from trafficmond import abi
from trafficmond.flows import compiled
from trafficmond.flows.batch import V4_MAPPED, Batch, empty
from trafficmond.flows.canonical import TYPE_UNKNOWN
from trafficmond.flows.names import Names
from trafficmond.flows.owners import FORWARDED, KERNEL, Owner
from trafficmond.flows.report import REPORT
from trafficmond.model import Action, Reason
from trafficmond.store import image, rollups
from trafficmond.store.schema import STORED
from trafficmond.verdict import verdict_word


def anything(pick: np.random.Generator, count: int) -> Batch:
    """Reports of every family, protocol, kind of ICMP and size of number, and of hosts that talk to themselves."""
    rows = empty(REPORT, count)
    v6 = pick.random(count) < 0.4
    some = np.array([0, 1, 9 << 8, 0x0A000001, 0xC0A80001, 0xFFFFFFFF], np.uint64)
    for side in ("src", "dst"):
        high = pick.choice(np.array([0, 1, 0x20010DB8 << 32, 0xFF02 << 48, (1 << 64) - 1], np.uint64), count)
        rows[f"{side}_hi"] = np.where(v6, high, 0)
        rows[f"{side}_lo"] = np.where(v6, np.uint64(0), V4_MAPPED) | pick.choice(some, count)
    rows["family"] = np.where(v6, 6, 4)
    rows["proto"] = pick.choice([6, 6, 17, 17, 132, 1, 1, 58, 58, 47, 255], count)
    kinds = [0, 8, 9, 13, 14, 128, 129, 133, 255, TYPE_UNKNOWN, 443, 65535]
    rows["sport"], rows["dport"] = pick.choice(kinds, count), pick.choice([0, 8, 53, 443, 65535], count)
    rows["direction"], rows["ifindex"] = pick.integers(0, 2, count), pick.integers(1, 5, count)
    rows["vlan"], rows["end"] = pick.choice([0, 5, 4094], count), 1
    words = [verdict_word(Action.MONITOR), verdict_word(Action.DROP, Reason.BAN), verdict_word(Action.ALLOW, rule=7)]
    rows["verdict"] = pick.choice(words, count)
    rows["inner"] = pick.choice([0, 0, 9 << 33 | 4, 77], count)
    rows["owner"] = pick.choice(np.array([0, KERNEL, FORWARDED, 4711, 4712], np.uint64), count)
    rows["first"], rows["last"] = 1.7e9 + pick.random(count), 1.8e9 + pick.random(count)
    for name in ("packets", "bytes", "reply_packets", "reply_bytes"):
        rows[name] = pick.choice(np.array([0, 1, 255, 1 << 32, (1 << 63) - 1], np.uint64), count)
    rows["tcp_flags"], rows["reply_tcp_flags"] = pick.integers(0, 256, count), pick.integers(0, 256, count)
    return rows


NGINX = Owner("nginx.service", "/system.slice/nginx.service", 33)


def all_names(*, inners: bool, owners: bool, processes: bool = False) -> Names:
    inside = np.zeros(1, abi.INNER)
    inside["tunnel"], inside["number"], inside["scope"] = abi.VXLAN, 42, abi.SCOPE_NUMBERED
    return Names(
        {1: "eth0", 2: "bréf\0x"},
        {7: "bad neighbours"},
        {9 << 33 | 4: inside.tobytes()} if inners else {},
        {4711: NGINX._replace(process="nginx", pid=42) if processes else NGINX} if owners else {},
    )


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    """With two empty tables of the columns of `flows`."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        for name in ("one", "other"):
            connection.execute(f"CREATE TABLE {name} ({STORED})")
        image.attach(connection)
        yield connection


COPY = f"INSERT INTO one SELECT * FROM {image.TABLE}"


def same(connection: sqlite3.Connection, count: int) -> None:
    found = [connection.execute(f"SELECT * FROM {table} ORDER BY rowid").fetchall() for table in ("one", "other")]
    assert len(found[0]) == count
    assert found[0] == found[1]
    assert [list(map(type, row)) for row in found[0]] == [list(map(type, row)) for row in found[1]]
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.parametrize("inners", [False, True])
@pytest.mark.parametrize("told", [(), ("owners",), ("owners", "processes")])
def test_every_column_is_the_same(connection: sqlite3.Connection, inners: bool, told: tuple[str, ...]) -> None:
    pick, names = (
        np.random.default_rng(3),
        all_names(inners=inners, **dict.fromkeys(("owners", *told), "owners" in told)),
    )
    for count in (1, 2, 3000):
        batch = anything(pick, count)
        image.set_rows(connection, [(batch, names)])
        assert connection.execute("PRAGMA image.integrity_check").fetchall() == [("ok",)]
        connection.execute(COPY)
        insert_tuples(connection, "other", batch, names)
    same(connection, 3003)


def test_batches_and_parts_of_them_share_an_image(connection: sqlite3.Connection) -> None:
    pick, names = np.random.default_rng(4), all_names(inners=True, owners=False)
    whole = anything(pick, 30000)
    parts = [(whole[10:20], names), (whole[:0], names), (whole[::7], all_names(inners=False, owners=True))]
    image.set_rows(connection, parts)
    connection.execute(COPY)
    for batch, known in parts:
        insert_tuples(connection, "other", batch, known)
    same(connection, 4296)
    image.set_rows(connection, [])
    assert connection.execute(f"SELECT count(*) FROM {image.TABLE}").fetchone() == (0,)


def test_names_of_any_length_are_stored_as_long_as_a_page_holds_them(connection: sqlite3.Connection) -> None:
    batch = anything(np.random.default_rng(7), 5)
    batch["verdict"] = verdict_word(Action.ALLOW, rule=7)
    for length in (57, 58, 8000, 60000):
        names = Names(rules={7: "é" * (length // 2) + "x" * (length % 2)})
        image.set_rows(connection, [(batch, names)])
        connection.execute(COPY)
        insert_tuples(connection, "other", batch, names)
    same(connection, 20)
    with pytest.raises(ValueError, match="too long"):
        image.set_rows(connection, [(batch, Names(rules={7: "x" * 70000}))])


EDGES = [sign * (1 << bits) + more for bits in (7, 15, 23, 31, 47, 62) for more in (-1, 0) for sign in (1, -1)]


@pytest.mark.parametrize("number", EDGES)
def test_a_number_takes_the_fewest_bytes_that_hold_it(connection: sqlite3.Connection, number: int) -> None:
    batch = anything(np.random.default_rng(8), 1)
    batch["owner"] = 4711
    names = Names(owners={4711: NGINX._replace(uid=number)})
    image.set_rows(connection, [(batch, names)])
    connection.execute(COPY)
    insert_tuples(connection, "other", batch, names)
    same(connection, 1)


def test_a_number_that_sqlite_cannot_store_is_an_error(connection: sqlite3.Connection) -> None:
    batch = anything(np.random.default_rng(5), 9)
    names = all_names(inners=False, owners=False)
    image.set_rows(connection, [(batch, names)])
    for field, value in (("bytes", 1 << 63), ("first", np.nan)):
        wrong = batch.copy()
        wrong[field][4] = value
        with pytest.raises(ValueError, match="63 bits"):
            image.set_rows(connection, [(wrong, names)])


def test_sqlite_copies_whole_records(connection: sqlite3.Connection) -> None:
    image.set_rows(connection, [])
    steps = [step for _, step, *_ in connection.execute(f"EXPLAIN {COPY}")]
    assert "RowCell" in steps or "RowData" in steps
    assert "Column" not in steps
    assert "MakeRecord" not in steps


@pytest.mark.parametrize("count", [1, 2, 700])
def test_sums_are_those_of_numpy(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    def sum_up(of: np.ndarray, values: np.ndarray, sums: np.ndarray) -> None:
        np.add.at(sums, of, np.tile(values, (len(of) // len(values), 1)))

    pick, names = np.random.default_rng(count), all_names(inners=False, owners=True)
    for mixed in (False, True):
        batch = anything(pick, count)
        if not mixed:
            batch["family"], batch["src_hi"], batch["dst_hi"] = 4, 0, 0
        with_c = list(rollups._sums(batch, names))
        with monkeypatch.context() as without:
            without.setattr(compiled, "sum_up", sum_up)
            assert list(rollups._sums(batch, names)) == with_c
        total = next(row for row in with_c if row[0] == "total")
        hosts = [row for row in with_c if row[0] == "host"]
        assert sum(row[2] for row in hosts) == 2 * total[2] == 2 * count
