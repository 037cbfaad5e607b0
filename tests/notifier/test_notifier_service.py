"""trafficmon-notify as a process, before a served daemon and real targets: killed, cut off, flooded, limited."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import notifier_targets
import pytest
from control_fake import Running
from notifier_targets import HttpTarget, wait_for

from trafficmond.notifier.outbox import MOST_NEWS, TargetState, states

ROOT = Path(__file__).parents[2]
# A webhook without Apprise, so that these tests need nothing but Python: what it posts is the message's data.
POST = """
import sys, urllib.request
request = urllib.request.Request(sys.argv[1], sys.stdin.buffer.read(), {"Content-Type": "application/json"})
urllib.request.urlopen(request, timeout=60)
"""


def threat(number: int, severity: str = "high", state: str = "opened", **more: Any) -> dict[str, Any]:
    """A record of now."""
    now = time.time()
    return notifier_targets.threat(number, severity, state, **{"first_seen": now, "last_seen": now} | more)


class Notify:
    """The process, its folder and its settings."""

    def __init__(self, home: Path, socket: Path) -> None:
        self.home, self.socket, self.process = home, socket, None
        self.log = home / "log"
        self._post = home / "post.py"
        self._post.write_text(POST)
        self.process: subprocess.Popen[bytes] | None = None

    def configure(self, *targets: str, **settings: Any) -> None:
        lines = [f'control_socket = "{self.socket}"', *(f"{name} = {value!r}" for name, value in settings.items())]
        (self.home / "notify.toml").write_text("\n".join([*lines, *targets]) + "\n")

    def webhook(self, target: HttpTarget, name: str = "hook") -> str:
        command = [sys.executable, "-S", str(self._post), f"http://127.0.0.1:{target.port}/"]
        return f'[[target]]\nname = "{name}"\ncommand = {command}'

    def start(self) -> None:
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "trafficmond.notifier", "-c", str(self.home / "notify.toml")]
            self.process = subprocess.Popen(
                [*command, "-d", str(self.home)], stdout=log, stderr=log, env=os.environ | {"PYTHONPATH": str(ROOT)}
            )
        before = self.said().count("sending threats")
        wait_for(lambda: self.said().count("sending threats") > before or self.process.poll() is not None, "its start")  # type: ignore[union-attr]

    def said(self) -> str:
        return self.log.read_text()

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(20)


@pytest.fixture
def notify(tmp_path: Path, daemon: Running) -> Iterator[Notify]:
    made = Notify(tmp_path, daemon.path)
    yield made
    if made.process is not None and made.process.poll() is None:
        made.process.kill()
        made.process.wait()


def publish(daemon: Running, *records: dict[str, Any]) -> None:
    """The daemon tells of threats, and remembers them."""
    known = {each["id"]: each for each in daemon.canned.replies["Threats"]["threats"]}  # type: ignore[index]
    known |= {each["id"]: each for each in records}
    daemon.canned.replies["Threats"] = {"threats": list(known.values())}
    daemon.do(daemon.broadcast.publish, "threats", list(records))


def watched(daemon: Running) -> bool:
    return bool(daemon.do(daemon.broadcast.wants, "threats"))


def reported(target: HttpTarget) -> Counter[tuple[str, str]]:
    """(id, news) of everything it got."""
    return Counter((each["id"], kind) for got in list(target.got) for each in got["threats"] for kind in each["news"])


def state_of(notify: Notify, name: str) -> TargetState:
    return next(each for each in states(notify.home) if each.name == name)


def test_a_situation_from_its_beginning_to_its_end(notify: Notify, daemon: Running, http: HttpTarget) -> None:
    notify.configure(notify.webhook(http), group_wait="1s")
    notify.start()
    wait_for(lambda: watched(daemon), "somebody who watches")
    began = time.time()
    publish(daemon, threat(1))
    wait_for(lambda: http.got, "the first message")
    assert http.times[0] - began < 2
    publish(daemon, threat(1, state="updated", count=500))  # no news
    publish(daemon, threat(1, "critical", "updated"))
    publish(daemon, threat(2, "medium"))  # not grave enough
    wait_for(lambda: len(http.got) > 1, "that it got worse")
    publish(daemon, threat(1, "critical", "closed"))
    wait_for(lambda: len(http.got) > 2, "that it ended")
    assert [[each["news"] for each in got["threats"]] for got in http.got] == [[["opened"]], [["worse"]], [["ended"]]]
    assert notify.end() == 0


def test_what_follows_the_first_word_is_grouped(notify: Notify, daemon: Running, http: HttpTarget) -> None:
    notify.configure(notify.webhook(http), group_wait="2s")
    notify.start()
    wait_for(lambda: watched(daemon), "somebody who watches")
    publish(daemon, *(threat(number) for number in range(5)))
    wait_for(lambda: http.got, "the first message")
    for number in range(5):
        publish(daemon, threat(number, "critical", "updated"))
        publish(daemon, threat(number, "critical", "closed"))
    wait_for(lambda: len(http.got) > 1, "the rest")
    assert [len(got["threats"]) for got in http.got] == [5, 5]
    assert http.got[1]["threats"][0]["news"] == ["worse", "ended"]
    assert 1.5 < http.times[1] - http.times[0] < 6


def test_what_happens_while_it_is_down_is_reported_afterwards(
    notify: Notify, daemon: Running, http: HttpTarget
) -> None:
    notify.configure(notify.webhook(http), group_wait="1s")
    notify.start()
    wait_for(lambda: watched(daemon), "somebody who watches")
    publish(daemon, threat(1), threat(2))
    wait_for(lambda: state_of(notify, "hook").messages, "the first message")
    assert notify.end(signal.SIGKILL) == -signal.SIGKILL
    publish(daemon, threat(1, state="closed"), threat(3))
    publish(daemon, threat(4), threat(4, state="closed"))
    notify.start()
    wait_for(lambda: len(reported(http)) == 5, "all of it")
    time.sleep(0.5)
    assert reported(http) == {
        (f"{1:012x}", "opened"): 1, (f"{2:012x}", "opened"): 1, (f"{1:012x}", "ended"): 1,
        (f"{3:012x}", "opened"): 1, (f"{4:012x}", "ended"): 1,
    }  # fmt: skip


def test_killed_at_any_moment_nothing_is_lost(notify: Notify, daemon: Running, http: HttpTarget) -> None:
    """A message that was under way may come twice, and none is missing."""
    notify.configure(notify.webhook(http), group_wait="1s", max_per_hour=3600)
    number = 0
    for round_ in range(6):
        notify.start()
        for _ in range(8):
            publish(daemon, threat(number))
            number += 1
            time.sleep(0.02 * round_)
        notify.end(signal.SIGKILL)
    notify.start()
    expected = {(f"{each:012x}", "opened") for each in range(number)}
    wait_for(lambda: set(reported(http)) == expected, "every one of them")
    assert max(reported(http).values()) <= 7


def test_a_target_that_is_down_gets_everything_later_and_holds_up_no_other(
    notify: Notify, daemon: Running, http: HttpTarget
) -> None:
    with HttpTarget() as other:
        http.status = 503
        notify.configure(notify.webhook(http), notify.webhook(other, "other"), group_wait="1s")
        notify.start()
        wait_for(lambda: watched(daemon), "somebody who watches")
        publish(daemon, threat(1))
        wait_for(lambda: other.got, "the target that is up")
        for number in range(2, 40):
            publish(daemon, threat(number))
        wait_for(lambda: len(reported(other)) == 39, "all at the target that is up")
        wait_for(lambda: "503" in state_of(notify, "hook").error, "the error of the target that is down")
        state = state_of(notify, "hook")
        assert (state.messages, state.waiting) == (0, 39)
        wait_for(lambda: state_of(notify, "other").waiting == 0, "it known that they have arrived")
        notify.end(signal.SIGKILL)
        notify.start()
        http.status = 200
        wait_for(lambda: len(reported(http)) == 39, "all at the target that was down", 30)
        assert max(reported(http).values()) == 1
        assert len(http.got) == 1  # one summary
        assert set(reported(other).values()) == {1}


def test_at_most_so_many_messages_an_hour(notify: Notify, daemon: Running, http: HttpTarget) -> None:
    notify.configure(notify.webhook(http), max_per_hour=3)
    notify.start()
    wait_for(lambda: watched(daemon), "somebody who watches")
    for number in range(3):
        publish(daemon, threat(number))
        wait_for(lambda: state_of(notify, "hook").messages == number + 1, "a message")  # noqa: B023
    publish(daemon, *(threat(number) for number in range(3, 6)))
    wait_for(lambda: state_of(notify, "hook").waiting == 3, "what is more to wait")
    notify.end()
    notify.start()  # the limit outlives a restart
    time.sleep(1)
    assert len(http.got) == 3
    assert state_of(notify, "hook").waiting == 3


def test_the_daemon_may_come_and_go(tmp_path: Path, http: HttpTarget) -> None:
    from control_fake import serving

    notify = Notify(tmp_path, tmp_path / "gone")
    notify.configure(notify.webhook(http))
    notify.start()
    wait_for(lambda: "trying again" in notify.said(), "a word of the daemon's absence")
    try:
        for number in (1, 2):
            with serving(tmp_path / "gone") as daemon:
                daemon.canned.replies["Threats"] = {"threats": [threat(number)]}
                wait_for(lambda: len(http.got) == number, "what the daemon remembers", 15)  # noqa: B023
        assert "answers again" in notify.said()
    finally:
        notify.end()


def test_it_ends_though_it_is_asked_to_in_the_middle_of_a_log_line(tmp_path: Path) -> None:
    """A log's handler swallows whatever is raised in it."""
    notify = Notify(tmp_path, tmp_path / "gone")
    notify.configure('[[target]]\nname = "none"\ncommand = ["/bin/true"]')
    script = """
import logging, os, signal, sys
from trafficmond.notifier.__main__ import main
class Asked(logging.Formatter):
    def format(self, record):
        if "trying again" in record.msg:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().format(record)
handler = logging.StreamHandler()
handler.setFormatter(Asked())
logging.getLogger().addHandler(handler)
sys.exit(main(sys.argv[1:]))
"""
    command = [sys.executable, "-c", script, "-c", str(tmp_path / "notify.toml"), "-d", str(tmp_path)]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, timeout=20)
    assert done.returncode == 0
    assert b"trying again" in done.stderr
    assert b"Traceback" not in done.stderr


def test_what_was_lost_on_the_way_is_asked_for(notify: Notify, daemon: Running, http: HttpTarget) -> None:
    """A flood of records that the daemon could not hand over: nothing of it is missing in the end."""
    notify.configure(notify.webhook(http), max_per_hour=3600)
    notify.start()
    wait_for(lambda: watched(daemon), "somebody who watches")
    assert notify.process is not None
    notify.process.send_signal(signal.SIGSTOP)
    many = [threat(number) for number in range(6000)]
    publish(daemon, *many)
    daemon.canned.replies["Threats"] = {"threats": many[-4000:]}
    notify.process.send_signal(signal.SIGCONT)
    wait_for(lambda: sum(got["count"] for got in http.got) >= 5000, "all that it was told or remembers", 30)
    asked = [given["limit"] for name, given in daemon.canned.asked if name == "Threats"]
    assert set(asked) == {MOST_NEWS}  # what is more than that is counted as lost; it asked for the latest 5,000


def test_wrong_settings_end_it_with_words(notify: Notify) -> None:
    notify.configure('[[target]]\ncommand = ["told"]')
    notify.start()
    assert notify.process is not None
    assert notify.process.wait(10) == 2
    assert "notify.toml:3: target[0].command: begins with a program without its path" in notify.said()


def test_a_disk_that_does_not_write_ends_it_with_words(notify: Notify, daemon: Running, http: HttpTarget) -> None:
    notify.configure(notify.webhook(http))
    notify.start()
    wait_for(lambda: watched(daemon), "somebody who watches")
    (notify.home / "notify.db").unlink()
    (notify.home / "notify.db").mkdir()
    publish(daemon, threat(1))
    assert notify.process is not None
    assert notify.process.wait(10) == 1
    assert "check that its folder is writable" in notify.said()
