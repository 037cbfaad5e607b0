"""Word to the service manager, over a real socket."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from trafficmond.sdnotify import ServiceManager


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield listening


def test_each_word_is_what_systemd_reads(manager: socket.socket) -> None:
    told = ServiceManager()
    told.ready("watching eth0")
    assert manager.recv(4096) == b"READY=1\nSTATUS=watching eth0"
    told.status("busy")
    assert manager.recv(4096) == b"STATUS=busy"
    told.alive()
    assert manager.recv(4096) == b"WATCHDOG=1"
    told.stopping()
    assert manager.recv(4096) == b"STOPPING=1"


def test_a_reload_tells_its_time_as_notify_reload_asks(manager: socket.socket) -> None:
    before = time.monotonic_ns() // 1000
    ServiceManager().reloading()
    first, second = manager.recv(4096).decode().split("\n")
    assert first == "RELOADING=1"
    name, _, usec = second.partition("=")
    assert name == "MONOTONIC_USEC"
    assert before <= int(usec) <= time.monotonic_ns() // 1000


@pytest.mark.usefixtures("manager")
@pytest.mark.parametrize(
    ("usec", "pid", "expected"),
    [
        ("30000000", None, 30.0),
        ("30000000", "mine", 30.0),
        ("30000000", "1", None),  # the watchdog of another process
        ("", None, None),
        ("soon", None, None),
    ],
)
def test_the_watchdog_is_fed_only_where_it_waits_for_us(
    usec: str, pid: str | None, expected: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    if pid:
        monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()) if pid == "mine" else pid)
    assert ServiceManager().watchdog_s == expected


def test_without_a_manager_there_is_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")
    told = ServiceManager()
    assert told.watchdog_s is None
    told.ready("x")
    told.stopping()


def test_a_manager_that_is_gone_ends_nothing(manager: socket.socket, tmp_path: Path) -> None:
    told = ServiceManager()
    manager.close()
    (tmp_path / "notify").unlink()
    told.alive()
    told.ready("x")
