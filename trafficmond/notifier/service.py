"""The running service: one thread follows the daemon, and one for each target sends."""

import logging
import os
import signal
import socket
import threading
import time
from pathlib import Path

from trafficmond.errors import TrafficmonError
from trafficmond.model import Severity
from trafficmond.notifier.follow import follow
from trafficmond.notifier.outbox import Outbox
from trafficmond.notifier.sender import Sender
from trafficmond.notifier.settings import Settings
from trafficmond.notifier.transports import Transport
from trafficmond.sdnotify import ServiceManager

log = logging.getLogger(__name__)

_FINISH_S = 15.0  # for messages that are being sent at the end


def serve(settings: Settings, transports: dict[str, Transport], folder: Path) -> None:
    """Runs until SIGTERM or SIGINT. Raises TrafficmonError if the outbox cannot be written."""
    manager, outbox, host = ServiceManager(), Outbox(folder), socket.gethostname()
    broken: list[Exception] = []

    def give_up(error: Exception) -> None:
        broken.append(error)
        os.kill(os.getpid(), signal.SIGTERM)

    def wake() -> None:
        for sender in senders:
            sender.wake()

    def follow_daemon() -> None:
        try:
            follow(settings.control_socket, outbox, Severity.parse(settings.min_severity), wake)
        except Exception as error:  # noqa: BLE001 - it is raised where the service ends
            give_up(error)

    outbox.begin(list(transports))
    senders = [Sender(name, transport, outbox, settings, host, give_up) for name, transport in transports.items()]
    asked_to_end = _signals()
    for sender in senders:
        sender.start()
    telling = f"sending threats of severity {settings.min_severity} and above to {', '.join(transports)}"
    log.info(telling)
    manager.ready(telling)
    threading.Thread(target=follow_daemon, name="daemon", daemon=True).start()
    os.read(asked_to_end, 1)
    manager.stopping()
    for sender in senders:
        sender.end()
    deadline = time.monotonic() + _FINISH_S
    for sender in senders:
        sender.join(max(deadline - time.monotonic(), 0.0))
    if broken:
        raise TrafficmonError(str(broken[0])) from broken[0]


def _signals() -> int:
    """A descriptor with a byte to read after SIGTERM or SIGINT. A handler that raises would not do: Python ignores the
    exception in a destructor, and the service would never end."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    return reader
