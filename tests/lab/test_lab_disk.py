"""A disk that turns read-only under a running daemon, as ext4 does after an error, and is repaired: state and logs."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tmlab import Daemon, Lab, Listener, Sender
from tmlab.packets import udp

pytestmark = [pytest.mark.root, pytest.mark.timeout(180)]

BUFFER = 100
SETTINGS = """
[flows]
interval = "200ms"
idle_timeout = "1s"
""" + "".join(
    f"""
[[log]]
format = "{kind}"
path = "{{home}}/state/traffic.{kind}"
buffer_size = {BUFFER}
min_severity = "none"
prefixes = ["203.0.113.0/24", "198.51.100.0/24"]
"""
    for kind in ("jsonl", "json", "csv")
)


def command(*words: str | Path, codes: tuple[int, ...] = (0,)) -> None:
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode in codes, f"{words}: exit {done.returncode}: {done.stderr or done.stdout}"


class Disk:
    """An ext4 file system in a file, over a place where nothing can be written while it is away."""

    def __init__(self, image: Path, place: Path) -> None:
        self.image, self.place = image, place
        place.mkdir()
        with image.open("wb") as file:
            file.truncate(64 << 20)
        command("mkfs.ext4", "-q", image)
        command("mount", "-t", "tmpfs", "-o", "ro", "none", place)
        self.mount()

    def mount(self) -> None:
        command("mount", "-o", "loop,errors=remount-ro", self.image, self.place)

    def fail(self) -> None:
        """What the kernel does on an error of the disk: the file system is read-only, whoever has files open."""
        command("sync", "-f", self.place)
        command("mount", "-o", "remount,abort", self.place)
        with pytest.raises(OSError, match="Read-only"):
            (self.place / "probe").touch()

    def repair(self) -> None:
        """As an administrator would, which needs everybody to have let go of the file system. It is its copy that comes
        back: a mount namespace that was made meanwhile would keep the failed one alive."""
        end = time.monotonic() + 20
        while subprocess.run(["umount", self.place], capture_output=True, check=False).returncode:
            assert time.monotonic() < end, "somebody holds files open"
            time.sleep(0.05)
        self.image = shutil.copy(self.image, self.image.with_suffix(".repaired"))
        command("e2fsck", "-f", "-p", self.image, codes=(0, 1))  # 1: corrected
        self.mount()

    def remove(self) -> None:
        while self.place.is_mount():
            command("umount", "-l", self.place)


@pytest.fixture
def prepared(lab: Lab) -> Iterator[tuple[Daemon, Disk]]:
    daemon = Daemon(lab, SETTINGS, rules={"bad.toml": '[[rule]]\ncidr = "198.51.100.0/24"\naction = "drop"\n'})
    try:
        disk = Disk(daemon.home / "image", daemon.home / "state")
    except AssertionError as error:
        daemon.remove()
        pytest.skip(f"needs loop devices and ext4; run where they may be used ({error})")
    with daemon:
        yield daemon, disk
        disk.remove()
    disk.remove()


def test_a_file_system_that_turns_read_only_and_is_repaired(lab: Lab, prepared: tuple[Daemon, Disk]) -> None:
    daemon, disk = prepared
    link = lab.links[0]
    sent = 0
    with Sender(lab.outside, link.outside) as sender, Listener(lab.host, link.host_ip) as listener:

        def send(count: int) -> None:
            """So many flows of a packet each, every second of a source that is dropped."""
            nonlocal sent
            sources = ("203.0.113.7", "198.51.100.7")
            sender.send([udp(sources[at % 2], link.host_ip, 1024 + sent + at) for at in range(count)])
            sent += count
            assert listener.heard() == {sources[0]: count // 2}, "judged as ever"

        def logs(status: dict[str, Any], what: str) -> list[Any]:
            return [log[what] for log in status["logs"]]

        send(20)
        daemon.wait_status(lambda status: logs(status, "written") == [20] * 3, "20 lines in each log")
        daemon.wait(lambda: daemon.sql("SELECT count(*) FROM flows WHERE dst_port = 9") == [(20,)], "their rows")

        disk.fail()
        send(10 * BUFFER)
        failing = daemon.wait_status(
            lambda status: status["store"]["state"] != "ok" and min(logs(status, "lost")) > 0, "the trouble in status"
        )
        assert all(state.startswith("Read-only file system") for state in logs(failing, "state"))
        daemon.wait(lambda: "cannot write flows.db" in daemon.said(), "a word about the store", 15)
        assert daemon.said().count("cannot write log") == 3
        send(20)

        disk.repair()
        daemon.wait_status(
            lambda status: status["store"]["state"] == "ok" and not any(logs(status, "state")), "all to be well", 20
        )
        daemon.wait(lambda: "flows.db can be written again" in daemon.said(), "a word about the store", 15)
        assert daemon.said().count("is written again") == 3
        send(20)
        status = daemon.wait_status(
            lambda status: [log["written"] + log["lost"] for log in status["logs"]] == [sent] * 3,
            "all events to be logged",
        )

    assert status["store"]["lost_rows"] == 0, "they fitted the queue"
    rows = "SELECT count(*), sum(action = 'drop') FROM flows WHERE dst_port = 9"
    daemon.wait(lambda: daemon.sql(rows) == [(sent, sent // 2)], "all rows")
    assert status["accounting"]["dropped"]["packets"] == sent // 2
    assert daemon.stop() == 0
    lines = (disk.place / "traffic.csv").read_text().splitlines()
    found = {
        "jsonl": [json.loads(line) for line in (disk.place / "traffic.jsonl").read_text().splitlines()],
        "json": json.loads((disk.place / "traffic.json").read_text()),
        "csv": list(csv.DictReader(lines)),
    }
    assert {log["format"]: log["written"] for log in status["logs"]} == {
        kind: len(each) for kind, each in found.items()
    }
    ports = {kind: [int(row["src_port"]) for row in rows] for kind, rows in found.items()}
    last = 1024 + sent
    for each in ports.values():
        assert set(each[:20]) == set(range(1024, 1044))
        assert set(each[-20:]) == set(range(last - 20, last))
        assert len(set(each)) == len(each), "none twice"
