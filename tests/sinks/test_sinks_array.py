from __future__ import annotations

import itertools
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trafficmond.config.streams import Log
from trafficmond.sinks import array
from trafficmond.sinks.array import ArrayFile


def open_array(path: Path, rotate_size: int = 0) -> ArrayFile:
    log = Log(format="json", path=path, rotate_size=rotate_size, compress=False)
    return ArrayFile(log, clock=lambda: 0.0)


def load(path: Path) -> Any:
    return json.loads(path.read_bytes())


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_it_is_an_array_after_each_addition_and_over_restarts(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    expected = []
    for run in range(3):
        file = open_array(path)
        for number in range(4):
            file.append(b'{"a":%d},\n{"b":%d}' % (run, number))
            expected += [{"a": run}, {"b": number}]
            assert load(path) == expected
        file.close()
        assert names(tmp_path) == ["t.json"]
    assert path.read_text().startswith('[\n{"a":0},\n{"b":0},\n')


@pytest.mark.parametrize(
    ("left", "records"),
    [
        (b"", []),
        (b"[", []),
        (b"[\n]\n", []),
        (b"[]", []),
        (b'[\n{"a":1},\n]\n', [{"a": 1}]),
        (b'[{"a":1},\n{"b":2},\n', [{"a": 1}, {"b": 2}]),
        (b'[\n{"a":1},\n{"b":{"c":2}', [{"a": 1}]),
        (b'[\n{"a":1},\n{"b', [{"a": 1}]),
        (b'[\n{"half', []),
        (b'[{"a":1},{"b":[1]}]', [{"a": 1}, {"b": [1]}]),
        (b'[\n  {\n    "a": 1\n  }\n]\n', [{"a": 1}]),
    ],
)
def test_what_a_crash_or_another_writer_left_is_taken_up(tmp_path: Path, left: bytes, records: list[Any]) -> None:
    path = tmp_path / "t.json"
    path.write_bytes(left)
    file = open_array(path)
    file.append(b'{"new":1}')
    file.close()
    assert load(path) == [*records, {"new": 1}]
    assert names(tmp_path) == ["t.json"]


@pytest.mark.parametrize("left", [b'{"a":1}\n', b"text", b'[\n  {\n    "a": 1\n  },\n  {\n "b'])
def test_what_is_not_sure_to_be_ours_is_set_aside_whole(tmp_path: Path, left: bytes) -> None:
    path = tmp_path / "t.json"
    path.write_bytes(left)
    file = open_array(path)
    file.append(b'{"new":1}')
    assert load(path) == [{"new": 1}]
    assert (tmp_path / "t.json.19700101T000000Z").read_bytes() == left


def test_rotation_leaves_whole_arrays(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    file = open_array(path, 40)
    for number in range(7):
        file.append(b'{"number":%03d}' % (100 + number))
    file.close()
    found = [load(tmp_path / name) for name in [*names(tmp_path)[1:], "t.json"]]
    assert list(itertools.chain(*found)) == [{"number": 100 + number} for number in range(7)]
    assert len(found) >= 3


def test_a_file_moved_away_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    file = open_array(path)
    file.append(b'{"a":1}')
    file.append(b'{"a":2}')
    path.rename(tmp_path / "moved")
    file.append(b'{"a":3}')
    file.append(b'{"a":4}')
    assert load(tmp_path / "moved") == [{"a": 1}, {"a": 2}]
    assert load(path) == [{"a": 3}, {"a": 4}]


def test_leftovers_of_a_kill_are_removed(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_text('[\n{"a":1}\n]\n')
    (tmp_path / ".t.json.next").write_text("torn")
    os.link(path, tmp_path / ".t.json.last")
    file = open_array(path)
    file.append(b'{"a":2}')
    file.close()
    assert load(path) == [{"a": 1}, {"a": 2}]
    assert names(tmp_path) == ["t.json"]


def test_a_failed_write_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.json"
    file = open_array(path)
    file.append(b'{"a":1}')
    pwrite = os.pwrite

    def half(fd: int, data: bytes, offset: int) -> int:
        pwrite(fd, data[:3], offset)
        raise OSError(28, "full")

    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(array.os, "pwrite", half)
            with pytest.raises(OSError, match="full"):
                file.append(b'{"a":2}')
        assert load(path) == [{"a": 1}]
    for number in (2, 3, 4):
        file.append(b'{"a":%d}' % number)
    assert load(path) == [{"a": 1}, {"a": 2}, {"a": 3}, {"a": 4}]


def test_whoever_opens_it_while_it_is_written_finds_an_array(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    file = open_array(path)
    file.append(b'{"a":0}')
    begun = whole = 0
    done = threading.Event()
    torn: list[str] = []

    def look() -> None:
        nonlocal whole
        while not done.is_set():
            before = begun
            data = path.read_bytes()
            if begun != before:  # the next addition but one may have begun: beyond the promise
                continue
            try:
                json.loads(data)
                whole += 1
            except ValueError as error:
                torn.append(str(error))

    thread = threading.Thread(target=look)
    thread.start()
    for number in range(300):
        begun += 1
        file.append(b",\n".join(b'{"a":%d}' % number for _ in range(20)))
        time.sleep(0.001)
    done.set()
    thread.join()
    assert not torn
    assert whole > 0


def emptied(path: Path) -> None:
    os.truncate(path, 0)


def copied_and_truncated(path: Path) -> None:
    (path.parent / "copy").write_bytes(path.read_bytes())
    emptied(path)


def saved_shorter_in_place(path: Path) -> None:
    with path.open("r+") as file:
        file.write('[\n{"n":"edited"}\n]\n')
        file.truncate()


def cut_in_a_record(path: Path) -> None:
    os.truncate(path, 16)  # [\n{"n":0},\n{"n":


def emptied_by_a_redirection_and_written_to(path: Path) -> None:
    path.write_text("[]")


@pytest.mark.parametrize(
    ("change", "left"),
    [
        (emptied, []),
        (copied_and_truncated, []),
        (saved_shorter_in_place, [{"n": "edited"}]),
        (cut_in_a_record, [{"n": 0}]),
        (emptied_by_a_redirection_and_written_to, []),
    ],
)
@pytest.mark.parametrize("additions", [1, 2, 5])
@pytest.mark.parametrize("rotate_size", [0, 1 << 20])
def test_a_file_that_others_shorten_continues_with_what_is_left(
    tmp_path: Path,
    change: Callable[[Path], None],
    left: list[Any],
    additions: int,
    rotate_size: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = tmp_path / "t.json"
    file = open_array(path, rotate_size)
    for _ in range(additions):
        file.append(b'{"n":0},\n{"n":1},\n{"n":2}')
    change(path)
    for number in range(3):
        file.append(b'{"n":%d}' % number)
        assert load(path) == left + [{"n": each} for each in range(number + 1)]
    assert file.shortened == 1
    assert "shortened by another program" in caplog.text
    file.close()


def test_the_second_file_is_no_more_trusted_than_the_first(tmp_path: Path) -> None:
    """Who opened the log before an addition, and truncates it afterwards, truncates the second file."""
    path = tmp_path / "t.json"
    file = open_array(path)
    file.append(b'{"n":0}')
    with path.open("r+") as late:
        file.append(b'{"n":1}')
        late.truncate(0)
    file.append(b'{"n":2}')
    assert load(path) == [{"n": 0}, {"n": 1}, {"n": 2}]
    file.append(b'{"n":3}')
    assert load(path) == [{"n": 0}, {"n": 1}, {"n": 2}, {"n": 3}]


def test_one_shortened_while_it_is_copied_is_an_error_and_then_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "t.json"
    first = open_array(path)
    first.append(b'{"n":0},\n{"n":1}')
    first.close()
    file = open_array(path)
    pread = os.pread

    def late(fd: int, count: int, offset: int) -> bytes:
        if count == array._CHUNK or (offset == 0 and count > 4):
            os.truncate(path, 0)
        return pread(fd, count, offset)

    file.reopen()
    with monkeypatch.context() as patch:
        patch.setattr(array.os, "pread", late)
        with pytest.raises(OSError, match="shortened it"):
            file.append(b'{"n":2}')
    file.append(b'{"n":2}')
    assert load(path) == [{"n": 2}]
