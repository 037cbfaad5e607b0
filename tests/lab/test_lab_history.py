"""A start never waits for the history: whatever ails flows.db, rules and attachments are there, and status says so."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import door
import pytest
from tmlab import Daemon, Lab
from tmlab.daemon import remove_pins

from trafficmond.store.bans import LEFT_NAME

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

BAD, RULED, GOOD = "203.0.113.7", "203.0.113.200", "198.51.100.7"
SETTINGS = door.LOGGED.replace("[flows]", "[flows]\ncapacity = 1024")
RULES = {"a.toml": f'[[rule]]\ncidr = "{RULED}"\naction = "drop"\n'}


@pytest.fixture
def daemon(lab: Lab) -> Iterator[Daemon]:
    """One that has run, banned somebody, and been stopped with all it left in the kernel."""
    with Daemon(lab, SETTINGS, rules=RULES) as made:
        made.control("ban", BAD)
        made.stop()
        yield made


@contextlib.contextmanager
def mounted(place: Path, *how: str) -> Iterator[None]:
    subprocess.run(["mount", *how, place], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def filters(lab: Lab, daemon: Daemon, *, bans: bool) -> None:
    """The rule is in force at once, the ban where it could be read; the stop does not hang."""
    daemon.start(timeout=10)
    through = door.Wire(lab).passes(RULED, BAD, GOOD)
    assert through == {RULED: False, BAD: not bans, GOOD: True}
    waiting = "of its bans" in str(daemon.status()["warnings"])
    assert waiting is not bans


def well(daemon: Daemon) -> None:
    daemon.wait_status(lambda s: s["store"]["state"] == "ok" and "not in force" not in str(s["warnings"]), "health", 20)


@pytest.mark.parametrize("mode", ["IMMEDIATE", "EXCLUSIVE"])
def test_somebody_who_holds_a_lock(lab: Lab, daemon: Daemon, mode: str) -> None:
    with contextlib.closing(sqlite3.connect(daemon.database, isolation_level=None)) as other:
        if mode == "EXCLUSIVE":  # readers are kept out too
            other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute(f"BEGIN {mode}")
        filters(lab, daemon, bans=mode == "IMMEDIATE")
        other.execute("ROLLBACK")
    daemon.wait(lambda: door.Wire(lab).passes(BAD) == {BAD: False}, "the stored ban", 20)
    well(daemon)


def test_a_file_system_that_is_read_only(lab: Lab, daemon: Daemon) -> None:
    state = daemon.database.parent
    with mounted(state, "--bind", str(state)):
        subprocess.run(["mount", "-o", "remount,ro,bind", state], check=True)
        filters(lab, daemon, bans=True)
        status = daemon.wait_status(lambda s: s["store"]["state"] != "ok", "the reason")
        assert str(daemon.database) in status["store"]["state"]
        daemon.control("unban", BAD)
        subprocess.run(["mount", "-o", "remount,rw,bind", state], check=True)
        well(daemon)
        daemon.wait(lambda: daemon.sql("SELECT * FROM bans") == [], "the file without the ban", 20)
        daemon.stop()


@pytest.mark.parametrize("there", [True, False])
def test_a_disk_that_is_full(lab: Lab, daemon: Daemon, there: bool) -> None:
    state = daemon.database.parent
    kept = daemon.database.read_bytes()
    with mounted(state, "-t", "tmpfs", "-o", f"size={(len(kept) >> 10) + 1024}k", "none"):
        if there:
            daemon.database.write_bytes(kept)
        with contextlib.suppress(OSError), (state / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(bytes(4096))
        daemon.start(timeout=10)
        assert door.Wire(lab).passes(RULED, GOOD) == {RULED: False, GOOD: True}
        daemon.wait_status(lambda s: s["store"]["state"] != "ok" or there, "the reason", 15)
        (state / "filler").unlink()
        daemon.wait_status(
            lambda s: s["store"]["state"] == "ok" and "not in force" not in str(s["warnings"]), "health", 20
        )
        assert door.Wire(lab).passes(BAD) == {BAD: not there}
        daemon.stop()


def test_a_state_folder_that_cannot_be_made(lab: Lab) -> None:
    with Daemon(lab, SETTINGS, rules=RULES) as daemon:
        daemon.stop()
        state = daemon.database.parent
        state.rename(state.with_name("old"))
        state.write_text("a file")
        daemon.start(timeout=10)
        assert door.Wire(lab).passes(RULED, GOOD) == {RULED: False, GOOD: True}
        daemon.wait_status(lambda s: s["store"]["state"] != "ok", "the reason")
        state.unlink()
        daemon.wait_status(lambda s: s["store"]["state"] == "ok", "the store", 20)
        assert daemon.database.exists()


def newer(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA user_version = 9999")


def anothers(path: Path) -> None:
    path.unlink()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("CREATE TABLE theirs (x)")
        database.execute("PRAGMA application_id = 7")


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("there", "told", "bans"),
    [
        (newer, "was written by a newer trafficmond (schema 9999", True),
        (anothers, "is a database of another program", False),
        (pipe, "is not a regular file", False),
        (folder, "is not a regular file", False),
    ],
    ids=["newer", "another's", "pipe", "folder"],
)
def test_something_else_in_its_place(
    lab: Lab, daemon: Daemon, there: Callable[[Path], None], told: str, bans: bool
) -> None:
    """Nothing is stored, which is said, counted and answered; what lies there is left alone."""
    there(daemon.database)
    before = daemon.database.read_bytes() if daemon.database.is_file() else None
    filters(lab, daemon, bans=bans)
    daemon.wait_status(lambda s: told in s["warnings"][0], "the first warning")
    assert "history is not stored" in "".join(daemon.control("status").stdout.splitlines()[1:3])
    assert told.split(" (")[0] in daemon.control("flows", "--since", "1h", check=False).stderr
    assert "trafficmon_store_ok 0" in daemon.control("metrics").stdout
    assert "the audit entry is in the journal" in daemon.control("add-cidr", GOOD).stderr
    daemon.stop()
    assert "closed before" in daemon.said()
    assert "Traceback" not in daemon.said()
    assert before == (daemon.database.read_bytes() if daemon.database.is_file() else None)


def test_what_is_no_database(lab: Lab, daemon: Daemon) -> None:
    daemon.database.write_text("no database")
    daemon.start(timeout=10)
    assert door.Wire(lab).passes(RULED, GOOD) == {RULED: False, GOOD: True}
    well(daemon)
    assert any("bans of the last run are missing" in each for each in daemon.status()["warnings"])
    assert "was damaged; it was renamed to" in daemon.said()
    (aside,) = daemon.database.parent.glob("flows.db.broken-*")
    assert aside.read_text() == "no database"


def test_a_damaged_file_of_which_the_bans_can_be_read(lab: Lab, daemon: Daemon) -> None:
    with contextlib.closing(sqlite3.connect(daemon.database, isolation_level=None)) as other:
        (page,) = other.execute("SELECT rootpage FROM sqlite_master WHERE name = 'threats'").fetchone()
        other.execute(
            "INSERT INTO bans SELECT 'nonsense', * FROM (SELECT \"by\", reason, since, expires, threat, count,"
            " forced, owner, ports FROM bans)"
        )
    with daemon.database.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(bytes(4096))
    filters(lab, daemon, bans=True)
    well(daemon)
    assert list(daemon.database.parent.glob("flows.db.broken-*"))
    assert [each for each in daemon.status()["warnings"] if "of the last run" in each]


def test_a_ban_lifted_before_the_stored_ones_could_be_read_stays_lifted(lab: Lab, daemon: Daemon) -> None:
    with contextlib.closing(sqlite3.connect(daemon.database, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        daemon.start(timeout=10)
        refused = daemon.control("unban", BAD, check=False).stderr
        assert "of its bans" in refused, "it may be among those"
        daemon.control("ban", BAD)
        daemon.control("unban", BAD)
        other.execute("ROLLBACK")
    well(daemon)
    assert door.Wire(lab).passes(BAD) == {BAD: True}
    daemon.kill()
    daemon.start()
    assert door.Wire(lab).passes(BAD) == {BAD: True}


def test_bans_outlive_a_reboot_after_the_file_was_removed(lab: Lab, daemon: Daemon) -> None:
    daemon.start()
    daemon.wait(lambda: door.Wire(lab).passes(BAD) == {BAD: False}, "the stored ban")
    daemon.database.unlink()

    def stored() -> bool:
        with contextlib.suppress(sqlite3.Error):  # until it is made
            return (f"{BAD}/32",) in daemon.sql("SELECT cidr FROM bans")
        return False

    daemon.wait(stored, "the ban in the new file", 20)
    daemon.kill()
    remove_pins(daemon.pins)  # what a reboot leaves of them
    daemon.start()
    assert door.Wire(lab).passes(BAD) == {BAD: False}


def test_a_ban_made_while_the_file_is_locked_outlives_a_stop(lab: Lab, daemon: Daemon) -> None:
    daemon.start()
    with contextlib.closing(sqlite3.connect(daemon.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        daemon.control("ban", GOOD, "--owner", "ada")
        assert daemon.stop() == 0
        other.execute("ROLLBACK")
    daemon.start()
    assert door.Wire(lab).passes(GOOD, BAD) == {GOOD: False, BAD: False}
    assert {ban["owner"] for ban in daemon.ask("bans") if ban["cidr"].startswith(GOOD)} == {"ada"}
    daemon.wait(lambda: not daemon.database.with_name(LEFT_NAME).exists(), "it to be in flows.db")
