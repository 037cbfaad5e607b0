"""A start that is told to stop, or to read again, before it is over: nothing is left behind."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tmlab import Daemon, Lab

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

RULES = "".join(f'[[rule]]\ncidr = "10.{n >> 8}.{n & 255}.0/24"\naction = "drop"\n' for n in range(4000))


@pytest.fixture
def prepared() -> Iterator[Daemon]:
    with Lab() as lab:
        daemon = Daemon(lab, rules={"many.toml": RULES})
        yield daemon
        daemon.remove()


def begun(daemon: Daemon) -> None:
    """Launches it and waits for its first sign of life: the database, made just before the signals are heeded."""
    process = daemon.launch()
    while not daemon.database.exists():
        assert process.poll() is None, daemon.said()
        time.sleep(0.001)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
@pytest.mark.parametrize("after_s", [0.05, 0.2, 0.5])
def test_a_stop_in_mid_start_leaves_nothing_attached(prepared: Daemon, number: signal.Signals, after_s: float) -> None:
    begun(prepared)
    time.sleep(after_s)
    prepared.send_signal(number)
    assert prepared.process is not None
    assert prepared.process.wait(20) == 0, prepared.said()
    assert "Traceback" not in prepared.said()
    assert prepared.lab.host.link(prepared.lab.links[0].host).get("xdp") is None
    assert not prepared.socket.exists()
    assert not prepared.pins.exists() or not list(prepared.pins.iterdir())


def test_a_reload_in_mid_start_is_done_after_it(prepared: Daemon) -> None:
    begun(prepared)
    time.sleep(0.05)
    prepared.write_rules("late.toml", '[[rule]]\ncidr = "203.0.113.0/24"\naction = "drop"\n')
    prepared.send_signal(signal.SIGHUP)
    prepared.wait(prepared.answers, "an answer on its socket")
    prepared.wait_status(lambda status: status["rules"]["prefixes"] == 4001, "the rule that came late")


def test_pipes_in_place_of_its_files_hold_up_neither_start_nor_end() -> None:
    """Opening a pipe waits for its other end, which nobody has."""
    with Lab() as lab, Daemon(lab) as daemon:
        daemon.control("add-cidr", "203.0.113.0/24", "--ttl", "1h")
        daemon.control("add-cidr", "198.51.100.0/24", "--save")
        daemon.stop()
        daemon.start()  # it keeps a copy of the saved rules
        daemon.stop()
        state = daemon.database.parent
        names = {path.name for path in state.iterdir() if path.is_file()} | {"probation.json"}
        assert {"learned", "rules-by-hand.jsonl", "rules-history.jsonl", "rules.toml"} <= names
        for name in names - {"flows.db"}:  # tests/store has its own
            (state / name).unlink(missing_ok=True)
            os.mkfifo(state / name)
        daemon.start()
        warnings = " ".join(daemon.status()["warnings"])
        assert {name for name in names if name in warnings} == names - {"flows.db"}
        assert daemon.control("rules", "198.51.100.0/24").stdout, "the last good copy"
        daemon.control("add-cidr", "192.0.2.0/24", "--ttl", "1h")
        assert daemon.stop() == 0


def test_the_daemon_does_not_load_tls(prepared: Daemon) -> None:
    prepared.start()
    assert prepared.process is not None
    assert "libssl" not in Path(f"/proc/{prepared.process.pid}/maps").read_text()
