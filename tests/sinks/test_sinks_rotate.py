from __future__ import annotations

import gzip
import shutil
import threading
from pathlib import Path

import pytest

from trafficmond.sinks.rotate import Rotation, next_stamp, stamp_of

DAY = 86400.0


def compressed() -> None:
    """Waits for the compression that is running."""
    for thread in threading.enumerate():
        if thread.name == "log-gzip":
            thread.join()


def test_stamps_are_recognised(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    assert stamp_of(path, "t.csv.20260131T235959Z.gz") == "20260131T235959Z"
    assert stamp_of(path, "t.csv.20260131T235959Z") == "20260131T235959Z"
    for other in ("t.csv", "t.csv.1", "t.csv.20260131T235959Z.bz2", "u.csv.20260131T235959Z", ".t.csv.next"):
        assert stamp_of(path, other) is None


def test_the_order_survives_a_clock_that_jumps_back() -> None:
    first = next_stamp([], 10 * DAY)
    second = next_stamp([first], 9 * DAY)
    third = next_stamp([first, second], 9 * DAY)
    assert first < second < third


def test_the_oldest_are_removed_and_the_rest_compressed(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    (tmp_path / "unrelated").write_text("stays")
    rotation = Rotation(path, 3, compress=True)
    for number in range(5):
        path.write_text(f"{number}\n")
        path.chmod(0o640)
        rotation.take(path, number * 60.0)
        compressed()
    rotation.prune()
    compressed()
    files = rotation.files()
    assert [gzip.decompress(file.read_bytes()) for file in files] == [b"2\n", b"3\n", b"4\n"]
    assert {file.suffix for file in files} == {".gz"}
    assert {file.stat().st_mode & 0o777 for file in files} == {0o640}
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*(f.name for f in files), "unrelated"])


def test_none_are_kept_where_none_are_wanted(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text("x")
    Rotation(path, 0, compress=True).take(path, 0.0)
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_compressed_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "t.jsonl"
    path.write_text("x")
    rotation = Rotation(path, 5, compress=True)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfileobj", full)
        rotation.take(path, 0.0)
        compressed()
    assert [file.name for file in tmp_path.iterdir()] == ["t.jsonl.19700101T000000Z"]
    rotation.prune()
    compressed()
    assert [file.name for file in tmp_path.iterdir()] == ["t.jsonl.19700101T000000Z.gz"]
