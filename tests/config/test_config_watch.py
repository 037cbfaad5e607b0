from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from trafficmond.config import inotify, watch
from trafficmond.config.watch import Matters, Watcher, plan

# The promise is 60 ms; what is asserted leaves room for a machine that is busy with other tests.
_SOON = 5.0
_STILL = 0.25


class Watched:
    """A watcher with a loop that counts the calls."""

    def __init__(self, files: list[Path], folders: list[Path], matters: Matters = lambda _: True) -> None:
        self.loop = asyncio.new_event_loop()
        self.calls: list[float] = []
        self.last = 0.0
        self.watcher = Watcher(matters)
        self.watcher.watch(files, folders)
        self.watcher.start(self.loop, lambda: self.calls.append(time.monotonic()))

    def run(self, seconds: float) -> None:
        self.loop.run_until_complete(asyncio.sleep(seconds))

    def wait(self, seconds: float = _SOON) -> bool:
        """Whether it is called within the time; then waits for the quiet, and forgets the calls."""
        end = time.monotonic() + seconds
        while not self.calls and time.monotonic() < end:
            self.run(0.005)
        called = bool(self.calls)
        self.last = self.calls[0] if called else 0.0
        self.run(0.1)
        self.calls.clear()
        return called

    def close(self) -> None:
        self.watcher.stop()
        self.loop.close()


@pytest.fixture
def watched() -> Iterator[Callable[..., Watched]]:
    made: list[Watched] = []

    def make(*args: Any) -> Watched:
        made.append(Watched(*args))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_what_cannot_be_looked_at_is_watched_through_the_folder_above(tmp_path: Path) -> None:
    hidden = tmp_path / ("n" * 256) / "lists" / "a.netset"  # a name that no file system takes: stat raises
    assert plan([hidden], [hidden.parent]) == {str(tmp_path): (frozenset(("n" * 256,)), False)}


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    (tmp_path / "cidr.d").mkdir()
    (tmp_path / "lists").mkdir()
    (tmp_path / "main.toml").write_text("a = 1")
    (tmp_path / "lists/a.netset").write_text("10.0.0.0/8")
    return tmp_path


def _rename_into_place(path: Path) -> None:
    path.with_name("." + path.name + ".swp").write_text("new")
    path.with_name("." + path.name + ".swp").replace(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda etc: (etc / "main.toml").write_text("a = 2"),
        lambda etc: _rename_into_place(etc / "main.toml"),
        lambda etc: (etc / "main.toml").unlink(),
        lambda etc: (etc / "lists/a.netset").write_text("192.0.2.0/24"),
        lambda etc: (etc / "cidr.d/new.toml").write_text("x"),
        lambda etc: (etc / "lists/a.netset").replace(etc / "cidr.d/a.netset"),
        lambda etc: shutil.rmtree(etc / "cidr.d"),
        lambda etc: (etc / "cidr.d").rename(etc / "old.d"),
    ],
    ids=["write", "rename into place", "unlink", "list", "new rule file", "move", "remove folder", "rename folder"],
)
def test_a_change_is_called_back(etc: Path, watched: Callable[..., Watched], change: Callable[[Path], object]) -> None:
    each = watched([etc / "main.toml", etc / "lists/a.netset"], [etc / "cidr.d"])
    each.run(0.05)
    assert not each.calls
    change(etc)
    assert each.wait()


def test_it_is_called_soon_after_the_last_write(etc: Path, watched: Callable[..., Watched]) -> None:
    each = watched([], [etc / "cidr.d"])
    delays = []
    for number in range(5):
        (etc / f"cidr.d/{number}.toml").write_text("x")
        written = time.monotonic()
        assert each.wait()
        delays.append(each.last - written)
    assert min(delays) <= 0.25


def test_what_is_beside_the_watched_is_nothing(etc: Path, watched: Callable[..., Watched]) -> None:
    each = watched([etc / "main.toml"], [etc / "cidr.d"])
    (etc / "other.toml").write_text("x")
    (etc / "lists/b.netset").write_text("x")
    (etc / "main.toml").read_text()
    list((etc / "cidr.d").iterdir())
    each.run(_STILL)
    assert not each.calls


def test_a_burst_of_many_files_is_one_call(
    etc: Path, watched: Callable[..., Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_QUIET_SECONDS", 1.5)
    monkeypatch.setattr(watch, "_PATIENCE_SECONDS", 30.0)
    each = watched([], [etc / "cidr.d"])
    for number in range(1000):
        (etc / f"cidr.d/{number}.toml").write_text("x")
    each.run(3.0)
    assert len(each.calls) == 1


def test_a_burst_without_end_is_called_back_meanwhile(
    etc: Path, watched: Callable[..., Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_PATIENCE_SECONDS", 0.2)
    each = watched([], [etc / "cidr.d"])
    end = time.monotonic() + 0.7
    while time.monotonic() < end:
        (etc / "cidr.d/busy.toml").write_text("x")
        each.run(0.005)
    assert len(each.calls) >= 2


def test_a_folder_that_is_replaced_is_still_watched(etc: Path, watched: Callable[..., Watched]) -> None:
    each = watched([], [etc / "cidr.d"])
    shutil.rmtree(etc / "cidr.d")
    assert each.wait()
    (etc / "cidr.d").mkdir()
    assert each.wait()
    (etc / "cidr.d/a.toml").write_text("x")
    assert each.wait()
    (etc / "staged").mkdir()
    (etc / "cidr.d").rename(etc / "old")
    (etc / "staged").rename(etc / "cidr.d")
    assert each.wait()
    (etc / "cidr.d/b.toml").write_text("x")
    assert each.wait()
    (etc / "old/a.toml").write_text("y")
    each.run(_STILL)
    assert not each.calls


def test_a_folder_that_does_not_exist_yet(tmp_path: Path, watched: Callable[..., Watched]) -> None:
    each = watched([tmp_path / "etc/main.toml"], [tmp_path / "etc/cidr.d"])
    (tmp_path / "etc").mkdir()
    assert each.wait()
    (tmp_path / "etc/cidr.d").mkdir()
    assert each.wait()
    (tmp_path / "etc/cidr.d/a.toml").write_text("x")
    assert each.wait()
    (tmp_path / "etc/main.toml").write_text("x")
    assert each.wait()


def test_a_link_is_watched_at_both_ends(etc: Path, watched: Callable[..., Watched]) -> None:
    (etc / "link.toml").symlink_to(etc / "lists/a.netset")
    each = watched([etc / "link.toml"], [])
    (etc / "lists/a.netset").write_text("x")
    assert each.wait()
    (etc / "link.toml").unlink()
    assert each.wait()


def test_other_targets_take_the_place_of_the_first(etc: Path, watched: Callable[..., Watched]) -> None:
    each = watched([etc / "main.toml"], [])
    each.watcher.watch([], [etc / "cidr.d"])
    assert each.wait()
    each.watcher.watch([], [etc / "cidr.d"])
    (etc / "main.toml").write_text("x")
    each.run(_STILL)
    assert not each.calls
    (etc / "cidr.d/a.toml").write_text("x")
    assert each.wait()


def test_at_the_limits_of_inotify_it_polls_and_reports_it(
    etc: Path, watched: Callable[..., Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Exhausted(inotify.InotifyObserver):  # type: ignore[misc]
        def schedule(self, *_args: object, **_kwargs: object) -> None:
            raise OSError(24, "inotify instance limit reached")

    monkeypatch.setattr(inotify, "InotifyObserver", Exhausted)
    monkeypatch.setattr(watch, "_POLL_SECONDS", 0.05)
    each = watched([etc / "main.toml"], [etc / "cidr.d"])
    assert "inotify instance limit reached" in each.watcher.note
    assert "fs.inotify.max_user_instances" in each.watcher.note
    each.run(0.2)
    assert not each.calls
    (etc / "cidr.d/a.toml").write_text("x")
    assert each.wait()
    (etc / "main.toml").unlink()
    assert each.wait()


def test_a_change_that_inotify_does_not_tell_is_found(
    etc: Path, watched: Callable[..., Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Deaf(inotify.InotifyObserver):  # type: ignore[misc]
        def dispatch_events(self, *args: object) -> None:
            self._handlers.clear()
            super().dispatch_events(*args)

    monkeypatch.setattr(inotify, "InotifyObserver", Deaf)
    monkeypatch.setattr(watch, "_CHECK_SECONDS", 0.1)
    each = watched([etc / "main.toml"], [])
    (etc / "main.toml").write_text("other")
    assert each.wait()


def test_the_plan_names_folders_and_what_matters_in_them(etc: Path) -> None:
    found = plan([etc / "main.toml", etc / "lists/a.netset"], [etc / "cidr.d", etc / "none/cidr.d"])
    assert found == {
        str(etc): (frozenset({"main.toml", "cidr.d", "none"}), False),
        str(etc / "lists"): (frozenset({"a.netset"}), False),
        str(etc / "cidr.d"): (frozenset(), True),
    }


def test_what_does_not_matter_may_grow_unseen_and_a_named_file_beside_it_is_seen(
    etc: Path, watched: Callable[..., Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_CHECK_SECONDS", 0.05)
    (etc / "cidr.d/big.netset").write_text("10.0.0.0/8")
    each = watched([etc / "cidr.d/big.netset"], [etc / "cidr.d"], lambda name: name.endswith(".toml"))
    (etc / "cidr.d/other.netset").touch()
    assert each.wait()  # what is new there is worth a note, once
    for name in (".big.netset.tmp", "other.netset"):
        for _ in range(5):
            with (etc / "cidr.d" / name).open("a") as file:
                file.write("192.0.2.0/24\n")
            each.run(0.05)
    each.run(_STILL)
    assert not each.calls
    _rename_into_place(etc / "cidr.d/big.netset")
    assert each.wait()
    (etc / "cidr.d/rules.toml").write_text("x")
    assert each.wait()
