"""The daemon runs as a user of its own: folders that this user may not enter or list stop nothing but themselves."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from tmlab import Daemon, Lab

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

USER = 54321
POWERS = "+net_admin,+bpf,+perfmon"  # those of the service
AS_USER = (
    f"setpriv --reuid {USER} --regid {USER} --clear-groups --inh-caps {POWERS} --ambient-caps {POWERS} "
    f"--bounding-set -all,{POWERS}"
).split()
LIST = '[[list]]\npath = "{home}/%s/a.netset"\naction = "drop"\n'
LOG = '[[log]]\nformat = "%s"\npath = "{home}/closed/%s"\n'
CLOSED = LIST % "closed/lists" + LIST % "unlisted" + LOG % ("csv", "a.csv") + LOG % ("json", "a.json")
DROP = '[[rule]]\ncidr = "%s"\naction = "drop"\n'


class Unprivileged(Daemon):
    """A daemon that is not root, and folders in its home: `closed` to it, and `unlisted`, which it may only enter."""

    def __enter__(self) -> Daemon:
        for path in (self.cidr_dir, self.home / "state", self.pins):
            path.mkdir(exist_ok=True)
        for path in (self.home, self.cidr_dir, self.home / "state", self.pins):
            os.chown(path, USER, USER)
        for name, mode in (("closed", 0o700), ("unlisted", 0o711)):
            (self.home / name).mkdir()
            (self.home / name).chmod(mode)
        for name, cidr in (("closed/lists", "203.0.113.1"), ("unlisted", "203.0.113.2")):
            (self.home / name).mkdir(exist_ok=True)
            (self.home / name / "a.netset").write_text(cidr + "\n")
        return super().__enter__()


@pytest.fixture
def ready(lab: Lab) -> Iterator[Daemon]:
    with Unprivileged(lab, prefix=AS_USER) as daemon:
        yield daemon


def prefixes(daemon: Daemon, count: int) -> Mapping[str, object]:
    return daemon.wait_status(lambda s: s["rules"]["prefixes"] == count, f"{count} prefixes")


def test_a_list_in_a_closed_folder_stops_nothing_else(ready: Daemon) -> None:
    ready.configure(CLOSED)
    told = prefixes(ready, 1)["warnings"]
    assert any("closed/lists/a.netset: cannot be read: Permission denied" in each for each in told), told
    ready.write_rules("b.toml", DROP % "203.0.113.3")
    prefixes(ready, 2)
    (ready.home / "unlisted" / "a.netset").write_text("203.0.113.2\n203.0.113.4\n")  # nobody can be told of it
    prefixes(ready, 3)
    assert ready.stop(10) == 0
    ready.start()
    prefixes(ready, 3)
    (ready.home / "closed").chmod(0o755)
    prefixes(ready, 4)
    ready.configure("")
    prefixes(ready, 1)
    ready.write_rules("c.toml", DROP % "203.0.113.5")
    prefixes(ready, 2)
    assert ready.stop(10) == 0
    assert "Traceback" not in ready.said()


def test_a_closed_folder_of_rules_keeps_what_was_read_from_it(ready: Daemon) -> None:
    ready.write_rules("b.toml", DROP % "203.0.113.3")
    prefixes(ready, 1)
    os.chown(ready.cidr_dir, 0, 0)
    for mode, what in ((0o744, "b.toml: cannot be read: Permission denied"), (0o700, "cidr.d: cannot be read")):
        ready.cidr_dir.chmod(mode)
        told = ready.wait_status(lambda s, what=what: what in str(s["warnings"]), what, 20)  # type: ignore[misc]
        assert told["rules"]["prefixes"] == 1
    assert ready.stop(10) == 0
    ready.start()
    prefixes(ready, 1)


@pytest.mark.parametrize("place", ["closed/lists", "closed/rules.toml", "closed/a.txt", "n" * 256])
def test_a_closed_folder_cannot_be_tried_and_that_is_said(ready: Daemon, place: str) -> None:
    if Path(place).suffix:
        (ready.home / place).touch()
    done = ready.control("apply", str(ready.home / place), "--confirm-within", "10s", check=False)
    assert done.returncode == 2
    assert "cannot be read by the daemon" in done.stderr


def test_the_user_is_not_root(ready: Daemon) -> None:
    status = Path(f"/proc/{ready.pid}/status").read_text()
    assert f"Uid:\t{USER}" in status
    assert subprocess.run(
        [*AS_USER, "test", "-r", str(ready.home / "closed" / "lists" / "a.netset")], check=False
    ).returncode
