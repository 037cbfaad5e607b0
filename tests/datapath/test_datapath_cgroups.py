"""Cgroups by number: a tree of ordinary folders, which inotify tells of just the same."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from trafficmond.datapath.cgroups import Cgroups, root
from trafficmond.datapath.origins import service_of
from trafficmond.errors import DatapathError


@pytest.fixture
def cgroups(top: Path) -> Iterator[Cgroups]:
    found = Cgroups(top, most=6)
    found.start()
    yield found
    found.close()


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def number(path: Path) -> int:
    return path.stat().st_ino


def test_what_is_there_has_its_path(top: Path, cgroups: Cgroups) -> None:
    assert cgroups.path(number(top)) == "/"
    assert cgroups.path(number(top / "system.slice" / "cron.service")) == "/system.slice/cron.service"
    assert cgroups.path(1) is None
    assert (len(cgroups), cgroups.unwatched, cgroups.forgotten) == (3, 0, 0)


def test_what_comes_is_named_and_keeps_its_name_when_it_goes(top: Path, cgroups: Cgroups) -> None:
    short = top / "system.slice" / "short.service" / "inside"
    short.mkdir(parents=True)
    made = [number(short.parent), number(short)]
    until(lambda: cgroups.path(made[1]))
    short.rmdir()
    short.parent.rmdir()
    until(lambda: cgroups._gone.keys() >= set(made))
    assert [cgroups.path(each) for each in made] == [
        "/system.slice/short.service",
        "/system.slice/short.service/inside",
    ]


def test_short_ones_are_named_before_any_is_read(top: Path, cgroups: Cgroups, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading a folder may take until others that came with it are gone."""
    going, scan, here = threading.Event(), os.scandir, [top / f"{at}.scope" for at in range(2)]

    def slow(folder: str) -> Iterator[os.DirEntry[str]]:
        assert going.wait(5)
        if Path(folder) in here:
            for each in here:
                each.rmdir()
        return scan(folder)

    monkeypatch.setattr("os.scandir", slow)
    (top / "first.slice").mkdir()
    until(lambda: cgroups.path(number(top / "first.slice")))
    for each in here:
        each.mkdir()
    made = list(map(number, here))
    going.set()
    until(lambda: cgroups.path(made[1]))
    assert [cgroups.path(each) for each in made] == ["/0.scope", "/1.scope"]


def test_the_names_that_went_first_give_way_and_living_ones_stay(top: Path, cgroups: Cgroups) -> None:
    living = [number(top / "system.slice"), number(top / "system.slice" / "cron.service")]
    for at in range(12):
        folder = top / f"{at}.scope"
        folder.mkdir()
        made = number(folder)
        until(lambda made=made: cgroups.path(made))
        (top / f"{at}.scope" / "keep").touch()  # inodes of ordinary folders are used again at once
        folder.rename(top.parent / f"{top.name}-{at}")
        cgroups._leave(next(watch for watch, (of, _) in cgroups._watched.items() if of == made))
    assert len(cgroups) == 6
    assert cgroups.forgotten == 9
    assert all(map(cgroups.path, living))


def test_more_than_there_is_room_for_is_counted(top: Path) -> None:
    for at in range(5):
        (top / f"{at}.scope").mkdir()
    found = Cgroups(top, most=4)
    found.start()
    assert (len(found), found.forgotten) == (4, 4)
    found.close()


def test_where_nothing_can_be_watched_the_tree_is_read_again(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trafficmond.datapath.cgroups._REST_S", 0.05)
    found = Cgroups(top)
    monkeypatch.setattr(found, "_watch", lambda _: -1)
    found.start()
    assert found.unwatched == 3
    (top / "later.scope").mkdir()
    until(lambda: found.path(number(top / "later.scope")))
    found.close()


def test_long_paths_that_users_make_up_are_kept_in_part(top: Path) -> None:
    """A path may have 4,096 octets, of which one letter makes Python keep four for each."""
    deep = top.joinpath(*(f"{at}".ljust(190, "x") + "\N{GRINNING FACE}" for at in range(8)))
    deep.mkdir(parents=True)
    found = Cgroups(top)
    found.start()
    path = found.path(number(deep)) or ""
    found.close()
    assert len(os.fsencode(path)) == 1024
    assert f"/{deep.relative_to(top)}".startswith(path)


def test_a_watch_whose_end_was_lost_is_forgotten(cgroups: Cgroups) -> None:
    """As many as end while more happens than the kernel keeps for us."""
    cgroups._watched[9999] = (4711, "/system.slice/gone.service")
    living = {watch: seen for watch, seen in cgroups._watched.items() if watch != 9999}
    cgroups._walk()
    assert cgroups._watched == living


def test_a_host_without_such_a_tree_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert root(tmp_path) is None
    (tmp_path / "unified").mkdir()
    (tmp_path / "unified" / "cgroup.controllers").touch()
    assert root(tmp_path) == tmp_path / "unified"
    monkeypatch.setattr("trafficmond.datapath.cgroups.root", lambda: None)
    found = Cgroups()
    with pytest.raises(DatapathError, match=r"no tree of cgroup2"):
        found.start()
    found.close()


@pytest.mark.parametrize(
    ("text", "dropped", "service"),
    [
        (None, None, "web.service"),
        ("[Socket]\nListenStream=80\n", None, "web.service"),
        ("[Socket]\nService=nginx.service\n", None, "nginx.service"),
        ("[Socket]\nAccept=yes\n", None, "web@.service"),
        ("[Socket]\nService=nginx.service\n", "[Socket]\nService=\nService = caddy.service\n", "caddy.service"),
        ("[Socket]\nService=nginx.service\n", "[Socket]\nService=\n", "web.service"),
        ("\xff\x00garbage", None, "web.service"),
    ],
)
def test_the_service_of_a_socket_unit(tmp_path: Path, text: str | None, dropped: str | None, service: str) -> None:
    etc, lib = tmp_path / "etc", tmp_path / "lib"
    (etc / "web.socket.d").mkdir(parents=True)
    lib.mkdir()
    if text is not None:
        (lib / "web.socket").write_text(text)
    if dropped is not None:
        (etc / "web.socket.d" / "10-mine.conf").write_text(dropped)
    assert service_of("web.socket", (etc, lib)) == service


def test_the_service_of_a_template_has_the_instance(tmp_path: Path) -> None:
    (tmp_path / "web@.socket").write_text("[Socket]\nService=site@%i.service\n")
    assert service_of("web@one.socket", (tmp_path,)) == "site@one.service"
