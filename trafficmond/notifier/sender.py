"""The thread of a target: waits until a message is due, and tries to deliver it until that succeeds."""

import logging
import threading
import time
from collections.abc import Callable

from trafficmond.notifier.command import Undelivered
from trafficmond.notifier.message import compose
from trafficmond.notifier.outbox import Outbox
from trafficmond.notifier.schedule import due, retry_after
from trafficmond.notifier.settings import Settings
from trafficmond.notifier.transports import Transport

log = logging.getLogger(__name__)


class Sender(threading.Thread):
    """Sends to one target. A target that is slow or down does not delay the others."""

    def __init__(
        self,
        name: str,
        transport: Transport,
        outbox: Outbox,
        settings: Settings,
        host: str,
        broken: Callable[[Exception], None],
    ) -> None:
        """`broken` is called with an exception that ends the thread, for example of the outbox."""
        super().__init__(name=f"target-{name}", daemon=True)
        self._target, self._host = name, host
        self._transport, self._outbox, self._settings = transport, outbox, settings
        self._broken = broken
        self._wake = threading.Event()
        self._ended = False
        self._failures = 0
        self._retry_at = 0.0  # monotonic

    def wake(self) -> None:
        self._wake.set()

    def end(self) -> None:
        """Ends the thread after the message that it is sending."""
        self._ended = True
        self._wake.set()

    def run(self) -> None:
        try:
            while not self._ended:
                self._wake.wait(self.step())
                self._wake.clear()
        except Exception as error:  # noqa: BLE001 - a thread that ends must be noticed
            self._broken(error)

    def step(self) -> float | None:
        """Delivers a message if one is due. Returns the seconds until the next step; None: when there are news."""
        if (wait_s := self._retry_at - time.monotonic()) > 0:
            return wait_s
        now = time.time()
        waiting = self._outbox.waiting(self._target)
        if not waiting:
            return None
        sent = self._outbox.sent(self._target, now)
        at = due(waiting, sent, now, self._settings.group_wait, self._settings.max_per_hour)
        if at > now:
            return at - now
        lost = self._outbox.lost(self._target)
        try:
            self._transport.deliver(compose(self._host, waiting, lost))
        except Undelivered as error:
            return self._fail(error)
        self._outbox.delivered(self._target, waiting[-1], lost, time.time())
        if self._failures:
            log.info("target %s accepts messages again", self._target)
        self._failures = 0
        return 0.0

    def _fail(self, error: Undelivered) -> float:
        self._failures += 1
        wait_s = retry_after(self._failures, error.wait_s)
        self._retry_at = time.monotonic() + wait_s
        if self._failures == 1:
            log.warning("target %s: %s; messages wait, and are tried again", self._target, error)
        self._outbox.failed(self._target, str(error), time.time())
        return wait_s
