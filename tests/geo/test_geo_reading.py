"""Databases that change and break while they are in use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from mmdb_writer import BUILT, country, mmdb

from trafficmond.geo.reading import Databases, open_geoip, outdated


def database(path: Path, count: int, code: str = "XX") -> Path:
    """So many networks of a country, none next to another; renamed into place."""
    fresh = path.with_suffix(".new")
    fresh.write_bytes(
        mmdb([(f"198.18.{number // 128}.{2 * (number % 128)}/32", country(code)) for number in range(count)])
    )
    fresh.replace(path)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return database(tmp_path / "country.mmdb", 100)


def code(databases: Databases) -> str:
    return databases.geoip.of(["198.18.0.0"])["198.18.0.0"].country


def test_a_file_is_read_when_it_changes_and_not_else(tmp_path: Path, path: Path) -> None:
    databases = Databases(tmp_path / "geo")
    first = databases.refresh([path])
    assert (code(databases), first.notes) == ("XX", ())
    assert databases.refresh([path]) is first
    database(path, 60, "YY")
    assert databases.refresh([path]) is not first
    assert code(databases) == "YY"


def gone(path: Path) -> None:
    path.unlink()


def damaged(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-60])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def half(path: Path) -> None:
    database(path, 49, "YY")


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def of_nothing(path: Path) -> None:
    path.write_bytes(mmdb([("203.0.113.0/24", {"city": "Example"})]))


@pytest.mark.parametrize("breaks", [gone, damaged, empty, half, folder, of_nothing])
def test_one_that_breaks_stays_what_it_was_over_restarts_too(tmp_path: Path, path: Path, breaks: object) -> None:
    databases = Databases(tmp_path / "geo")
    databases.refresh([path])
    breaks(path)  # type: ignore[operator]
    for _ in range(2):
        [note] = databases.refresh([path]).notes
        assert note.where == str(path)
        assert "its last good content stays in use (2026-06-17)" in note.what
        assert code(databases) == "XX"
        databases = Databases(tmp_path / "geo")
    if path.is_dir():
        path.rmdir()
    database(path, 90, "ZZ")
    assert not databases.refresh([path]).notes
    assert code(databases) == "ZZ"


def test_what_has_shrunk_on_purpose_is_taken_after_a_time_without(tmp_path: Path, path: Path) -> None:
    databases = Databases(tmp_path / "geo")
    databases.refresh([path])
    database(path, 10, "YY")
    assert "has shrunk from 100 networks to 10" in databases.refresh([path]).notes[0].what
    assert not databases.refresh([])
    assert not list((tmp_path / "geo").iterdir())
    assert not databases.refresh([path]).notes
    assert code(databases) == "YY"


def test_what_never_was_right_is_not_in_use(tmp_path: Path) -> None:
    databases = Databases(tmp_path / "geo")
    [note] = databases.refresh([tmp_path / "none.mmdb"]).notes
    assert note.what == "cannot be read: No such file or directory; this file is not used"
    assert not databases.geoip


def test_a_folder_that_cannot_be_written_is_reported(tmp_path: Path, path: Path) -> None:
    (tmp_path / "geo").write_text("")
    databases = Databases(tmp_path / "geo")
    assert "cannot be kept for the next start" in databases.refresh([path]).notes[0].what
    assert code(databases) == "XX"


def test_a_check_tells_what_is_wrong_and_what_is_old(tmp_path: Path, path: Path) -> None:
    os.truncate(database(tmp_path / "broken.mmdb", 5), 30)
    geoip = open_geoip([path, tmp_path / "broken.mmdb"])
    assert [note.where for note in geoip.notes] == [str(tmp_path / "broken.mmdb")]
    assert not outdated(geoip, BUILT + 30 * 86400)
    [note] = outdated(geoip, BUILT + 200 * 86400)
    assert note.what == "is from 2026-06-17, and networks have changed owners since; get a newer one"
