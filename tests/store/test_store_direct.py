"""Rows by the virtual table in C against the same by tuples of Python: every column of any batch is the same."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from trafficmond import abi
from trafficmond.flows import compiled
from trafficmond.flows.batch import V4_MAPPED, Batch, empty
from trafficmond.flows.canonical import TYPE_UNKNOWN
from trafficmond.flows.names import Names
from trafficmond.flows.owners import FORWARDED, KERNEL, Owner
from trafficmond.flows.report import REPORT
from trafficmond.model import Action, Reason
from trafficmond.store import direct, rollups
from trafficmond.store.file import File
from trafficmond.store.rows import insert_tuples
from trafficmond.store.schema import STORED_COLUMNS
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
def connection(tmp_path: Path) -> sqlite3.Connection:
    file = File(tmp_path / "flows.db")
    file.reopen()
    if not direct.load(file.connection):
        pytest.fail("SQLite takes no extensions, so nothing can be compared")
    return file.connection


def copies(connection: sqlite3.Connection) -> tuple[str, str]:
    """Two empty tables of the columns of `flows`."""
    columns = ", ".join(f"{name} {kind}" for name, kind in STORED_COLUMNS.items())
    for name in ("one", "other"):
        connection.execute(f"CREATE TEMP TABLE {name} ({columns})")
    return "one", "other"


@pytest.mark.parametrize("inners", [False, True])
@pytest.mark.parametrize("told", [(), ("owners",), ("owners", "processes")])
def test_every_column_is_the_same(connection: sqlite3.Connection, inners: bool, told: tuple[str, ...]) -> None:
    one, other = copies(connection)
    pick, names = (
        np.random.default_rng(3),
        all_names(inners=inners, **dict.fromkeys(("owners", *told), "owners" in told)),
    )
    for count in (1, 2, 3000):
        batch = anything(pick, count)
        direct.insert(connection, one, batch, names)
        insert_tuples(connection, other, batch, names)
    found = [connection.execute(f"SELECT * FROM {table} ORDER BY rowid").fetchall() for table in (one, other)]
    assert len(found[0]) == 3003
    assert found[0] == found[1]
    kinds = {tuple(map(type, row)) for row in found[0]}
    assert kinds == {tuple(map(type, row)) for row in found[1]}


def test_a_part_of_a_batch_goes_in_alone(connection: sqlite3.Connection) -> None:
    one, other = copies(connection)
    batch = anything(np.random.default_rng(4), 100)
    for rows in (batch[10:20], batch[::7]):
        direct.insert(connection, one, rows, all_names(inners=False, owners=False))
        insert_tuples(connection, other, rows, all_names(inners=False, owners=False))
    assert connection.execute(f"SELECT * FROM {one} EXCEPT SELECT * FROM {other}").fetchall() == []
    assert connection.execute(f"SELECT count(*) FROM {one}").fetchone() == (25,)


def test_a_number_beyond_63_bits_is_an_error_and_nothing_is_added(connection: sqlite3.Connection) -> None:
    one, _ = copies(connection)
    batch = anything(np.random.default_rng(5), 9)
    batch["bytes"][4] = 1 << 63
    with pytest.raises(sqlite3.IntegrityError, match="63 bits"):
        direct.insert(connection, one, batch, all_names(inners=False, owners=False))
    assert connection.execute(f"SELECT count(*) FROM {one}").fetchone() == (0,)


def test_nothing_is_there_between_batches_and_no_view_reaches_it(connection: sqlite3.Connection) -> None:
    direct.insert(
        connection, copies(connection)[0], anything(np.random.default_rng(6), 9), all_names(inners=False, owners=False)
    )
    assert connection.execute("SELECT count(*) FROM tm_rows").fetchone() == (0,)
    connection.execute("CREATE VIEW spy AS SELECT * FROM tm_rows")
    with pytest.raises(sqlite3.OperationalError, match="unsafe use"):
        connection.execute("SELECT * FROM spy")
    with pytest.raises(sqlite3.OperationalError, match="not authorized"):
        connection.execute("SELECT load_extension('anything')")


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
