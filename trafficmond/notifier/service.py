"""The service at work: one thread follows the daemon, one for each target tells."""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from pathlib import Path
from types import FrameType
from typing import NoReturn

from trafficmond.errors import TrafficmonError
from trafficmond.model import Severity
from trafficmond.notifier.book import Book
from trafficmond.notifier.follow import follow
from trafficmond.notifier.outlets import Outlet
from trafficmond.notifier.sender import Sender
from trafficmond.notifier.settings import Settings
from trafficmond.sdnotify import ServiceManager

log = logging.getLogger(__name__)

_FINISH_S = 15.0  # for messages that are under way at the end


class Ended(Exception):
    """Somebody asked it to end."""


def serve(settings: Settings, outlets: dict[str, Outlet], folder: Path) -> None:
    """Until SIGTERM or SIGINT. Raises TrafficmonError if its own file cannot be kept."""
    manager, book, host = ServiceManager(), Book(folder), host_name()
    broken: list[Exception] = []

    def give_up(error: Exception) -> None:
        broken.append(error)
        os.kill(os.getpid(), signal.SIGTERM)

    def wake() -> None:
        for sender in senders:
            sender.wake()

    book.begin(list(outlets))
    senders = [Sender(name, outlet, book, settings, host, give_up) for name, outlet in outlets.items()]
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    try:
        for sender in senders:
            sender.start()
        telling = f"telling {', '.join(outlets)} of threats from {settings.min_severity} on"
        log.info(telling)
        manager.ready(telling)
        least = Severity[settings.min_severity.upper()]
        follow(settings.control_socket, book, least, wake)
    except Ended:
        manager.stopping()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        _finish(senders)
    if broken:
        raise TrafficmonError(str(broken[0])) from broken[0]


def host_name() -> str:
    """What this host is called in messages."""
    return socket.gethostname()


def _finish(senders: list[Sender]) -> None:
    for sender in senders:
        sender.end()
    deadline = time.monotonic() + _FINISH_S
    for sender in senders:
        sender.join(max(deadline - time.monotonic(), 0.0))


def _end(_: int, __: FrameType | None) -> NoReturn:
    raise Ended
