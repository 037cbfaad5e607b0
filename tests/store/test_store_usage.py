"""Usage adds up to the flows, by any period and kind, over the end of hours and the upgrade."""

from __future__ import annotations

import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[1] / "geo"))

from mmdb_writer import country, mmdb, system
from opened_store import flushed

from trafficmond.errors import ConfigError
from trafficmond.flows.batch import V4_MAPPED, Batch
from trafficmond.flows.names import Names
from trafficmond.flows.owners import Owner
from trafficmond.geo.reading import open_geoip
from trafficmond.store.reader import Reader
from trafficmond.store.rollups import prune
from trafficmond.store.store import Store
from trafficmond.store.usage import UsageQuery, rows_of, usage_sql

Make = Callable[..., Batch]
DAY = 86400.0
NOW = 1_700_000_000.0  # 2023-11-14 22:13:20 UTC


@pytest.fixture(autouse=True)
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two hours ahead of UTC: 22:13 is the next day there."""
    monkeypatch.setenv("TZ", "XXX-2")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def used(path: Path, **wanted: Any) -> list[tuple[Any, ...]]:
    with Reader(path) as reader:
        rows = rows_of(reader.rows(usage_sql(UsageQuery(**wanted))))
    return [(row["period"], row["key"], row["up_bytes"], row["down_bytes"]) for row in rows]


def flow(make: Make, at: float, out: bool, sent: int, received: int, **more: Any) -> Batch:
    return make(1, at=at, direction=int(out), bytes=sent, reply_bytes=received, **more)


def test_up_is_what_went_out_whoever_began(store: Store, names: Names, make_reports: Make, path: Path) -> None:
    store.put(flow(make_reports, NOW, True, 10, 1000), names)
    store.put(flow(make_reports, NOW, False, 7, 300), names)
    flushed(store, 5)
    assert used(path, period="day") == [("2023-11-15", "all", 310, 1007)]
    assert used(path, period="month") == [("2023-11", "all", 310, 1007)]
    assert used(path, period="hour") == [("2023-11-15 00:00", "all", 310, 1007)]
    assert used(path, period="", kind="protocol") == [(None, "TCP", 310, 1007)]


def test_days_add_up_over_the_end_of_hours(store: Store, names: Names, make_reports: Make, path: Path) -> None:
    for day in range(100):
        store.put(flow(make_reports, NOW - day * DAY, True, 1, 100), names)
    flushed(store, 5)
    with sqlite3.connect(path) as connection:
        prune(connection, NOW)
    rows = used(path, period="day")
    assert len(rows) == 100
    assert {row[2:] for row in rows} == {(1, 100)}
    assert sum(row[3] for row in used(path, period="month")) == 10_000
    assert used(path, period="") == [(None, "all", 100, 10_000)]
    recent = used(path, period="day", since=NOW - 5 * DAY)
    assert [row[0] for row in recent] == [f"2023-11-{day}" for day in (15, 14, 13, 12, 11, 10)]


@pytest.mark.parametrize("zone_name", ["XXX5", "XXX-2", "XXX-12", "XXX11", "EST5EDT"])
def test_a_day_whose_hours_are_gone_has_its_date_in_every_zone(
    store: Store, names: Names, make_reports: Make, path: Path, monkeypatch: pytest.MonkeyPatch, zone_name: str
) -> None:
    """In America, each of them was shown as the day before, and the first of a month in the month before."""
    monkeypatch.setenv("TZ", zone_name)
    time.tzset()
    first = 1_672_574_400.0  # 2023-01-01 12:00 UTC
    for day in range(31):
        store.put(flow(make_reports, first + day * DAY, True, 1, 100), names)
    store.put(flow(make_reports, NOW, True, 7, 700), names)
    flushed(store, 5)
    with sqlite3.connect(path) as connection:
        prune(connection, NOW)
    since = time.mktime((2023, 1, 1, 0, 0, 0, 0, 0, -1))
    assert used(path, period="month", since=since)[1:] == [("2023-01", "all", 31, 3100)]
    days = [row[0] for row in used(path, period="day", since=since, until=since + 30.5 * DAY)]
    assert days == [f"2023-01-{day:02}" for day in range(31, 0, -1)]
    assert used(path, period="", since=since, until=since + DAY / 2) == [(None, "all", 1, 100)]


@pytest.mark.parametrize("zone_name", ["Asia/Kolkata", "Asia/Kathmandu", "Australia/Adelaide"])
def test_an_hour_that_midnight_is_in_is_of_one_day_only(
    store: Store, names: Names, make_reports: Make, path: Path, monkeypatch: pytest.MonkeyPatch, zone_name: str
) -> None:
    """In India, usage since the first of a month showed half an hour of the month before as a month of its own."""
    monkeypatch.setenv("TZ", zone_name)
    time.tzset()
    since = time.mktime((2023, 11, 1, 0, 0, 0, 0, 0, -1))
    assert since % 3600
    for minutes in (-90, 10, 90):
        store.put(flow(make_reports, since + 60 * minutes, True, 1, 100), names)
    flushed(store, 5)
    assert used(path, period="month", since=since) == [("2023-11", "all", 2, 200)]
    assert used(path, period="day", since=since) == [("2023-11-01", "all", 2, 200)]
    hours = [row[0] for row in used(path, period="hour", since=since)]
    assert hours == [
        f"{time.strftime('%Y-%m-%d %H:%M', time.localtime((since + 60 * m) // 3600 * 3600))}" for m in (90, 10)
    ]


@pytest.mark.parametrize("zone_name", ["Africa/Cairo", "Asia/Beirut", "America/Santiago", "Pacific/Apia"])
def test_a_day_without_a_midnight_is_itself(
    store: Store, names: Names, make_reports: Make, path: Path, monkeypatch: pytest.MonkeyPatch, zone_name: str
) -> None:
    """In Cairo, the day on which clocks go forward was shown as the day before once its hours were gone."""
    monkeypatch.setenv("TZ", zone_name)
    time.tzset()
    first = 1_672_574_400.0  # 2023-01-01 12:00 UTC
    store.put(np.concatenate([flow(make_reports, first + day * DAY, True, 1, 100) for day in range(365)]), names)
    assert flushed(store, 30)
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM rollups WHERE period = 'hour' AND start < ?", (first + 364 * DAY,))
    rows = used(path, period="day")
    assert len(rows) == 365
    assert {row[2:] for row in rows} == {(1, 100)}


def test_what_was_summed_before_has_only_who_began(store: Store, names: Names, make_reports: Make, path: Path) -> None:
    store.put(flow(make_reports, NOW, False, 7, 300), names)
    flushed(store, 5)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE rollups SET up_bytes = NULL, down_bytes = NULL")
    store.put(flow(make_reports, NOW + 1, False, 1, 2), names)
    flushed(store, 5)
    assert used(path, period="day") == [("2023-11-15", "all", 9, 301)]
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE rollups SET up_bytes = NULL, down_bytes = NULL")
    with Reader(path) as reader:
        [row] = rows_of(reader.rows(usage_sql(UsageQuery())))
    assert (row["up_bytes"], row["down_bytes"], row["unsided_bytes"]) == (8, 302, 310)


def test_places_are_those_of_the_far_end_and_add_up(
    store: Store, names: Names, make_reports: Make, path: Path, tmp_path: Path
) -> None:
    database = tmp_path / "all.mmdb"
    said = country("XX") | system(64500, "Example")
    database.write_bytes(mmdb([("203.0.113.0/25", said), ("203.0.113.128/25", country("YY"))]))
    store.use(open_geoip([database]))
    far = np.uint64(0xCB007100) | V4_MAPPED
    store.put(flow(make_reports, NOW, True, 10, 1000, dst_lo=far | np.uint64(5)), names)
    store.put(flow(make_reports, NOW, False, 7, 300, src_lo=far | np.uint64(200)), names)
    store.put(flow(make_reports, NOW, False, 1, 1, src_lo=V4_MAPPED | np.uint64(0x0A000001)), names)
    flushed(store, 5)
    assert used(path, period="", kind="country") == [(None, "XX", 10, 1000), (None, "YY", 300, 7), (None, "", 1, 1)]
    assert used(path, period="", kind="asn")[0] == (None, "64500", 10, 1000)
    assert used(path, period="day", kind="country", key="YY") == [("2023-11-15", "YY", 300, 7)]
    [total] = used(path, period="")
    for kind in ("country", "asn", "interface", "protocol"):
        rows = used(path, period="", kind=kind)
        assert (sum(row[2] for row in rows), sum(row[3] for row in rows)) == total[2:]


def test_units_are_summed_up_by_name_whatever_their_cgroups(
    store: Store, names: Names, make_reports: Make, path: Path
) -> None:
    store.put(flow(make_reports, NOW, True, 5, 5), names)
    owners = {7: Owner("nginx.service", "/a"), 8: Owner("nginx.service", "/b"), 9: Owner("forwarded")}
    batch = make_reports(4, at=NOW, direction=1, bytes=[1, 2, 4, 8], reply_bytes=0, owner=[7, 8, 9, 0])
    store.put(batch, replace(names, owners=owners))
    flushed(store, 5)
    rows = used(path, period="", kind="unit")
    assert rows == [(None, "", 8, 0), (None, "forwarded", 4, 0), (None, "nginx.service", 3, 0)]
    for key in ("nginx", "nginx.service"):
        assert used(path, period="", kind="unit", key=key) == [(None, "nginx.service", 3, 0)]
    assert used(path, period="", kind="unit", key="forwarded") == [(None, "forwarded", 4, 0)]
    assert used(path, period="", kind="unit", key="*r[!x]*") == rows[1:]
    assert used(path, period="day", kind="unit", key="*r*") == [("2023-11-15", "*r*", 7, 0)]
    assert used(path, period="", kind="unit", key="") == [(None, "", 8, 0)]


def test_what_makes_no_sense_is_named() -> None:
    with pytest.raises(ConfigError) as raised:
        usage_sql(UsageQuery(period="year", kind="host", limit=0))
    assert [mistake.where for mistake in raised.value.mistakes] == ["period", "kind", "limit"]


@pytest.mark.usefixtures("store")
def test_a_key_cannot_leave_its_text(path: Path) -> None:
    assert used(path, kind="interface", key="x' OR '1'='1") == []
