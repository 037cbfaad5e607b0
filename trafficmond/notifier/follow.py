"""Follows the daemon's threats: first those since the last contact, then new ones, also across restarts."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from trafficmond.control.client import Client
from trafficmond.errors import ControlError
from trafficmond.model import Severity
from trafficmond.notifier.outbox import MOST_NEWS, Outbox

log = logging.getLogger(__name__)

RESYNC_S = 300.0  # after so long without a record the daemon is asked for threats again
_AGAIN_S, _LONGEST_AGAIN_S = 0.2, 5.0


def follow(socket: Path, outbox: Outbox, least: Severity, wake: Callable[[], None]) -> NoReturn:
    """Keeps `outbox` up to date; calls `wake` when there is news. Never returns; raises the errors of the outbox."""
    again_s, reported = _AGAIN_S, False
    while True:
        try:
            # The stream begins before the query: it holds the threats that are found during the query.
            with Client(str(socket), timeout_s=RESYNC_S) as watching:
                stream = watching.stream("Watch", topics=["threats"])
                _catch_up(socket, outbox, least, wake)
                if reported:
                    log.info("the daemon answers again")
                again_s, reported = _AGAIN_S, False
                for reply in stream:
                    if outbox.note(reply["records"], least, time.time()):
                        wake()
                    if reply["lost"]:
                        _catch_up(socket, outbox, least, wake)
        except ControlError as error:
            if isinstance(error.__cause__, TimeoutError):
                continue
            if not reported:
                log.warning("%s; trying again until it answers", error)
            reported = True
            time.sleep(again_s)
            again_s = min(2 * again_s, _LONGEST_AGAIN_S)


def _catch_up(socket: Path, outbox: Outbox, least: Severity, wake: Callable[[], None]) -> None:
    since = outbox.asked_since()
    asked = {"open_only": True} if since is None else {"since": since}
    with Client(str(socket)) as asking:
        threats = asking.call("Threats", **asked, min_severity=str(least), limit=MOST_NEWS)["threats"]
    if len(threats) >= MOST_NEWS:
        log.warning("more than %d threats were missed; the oldest are not sent: see trafficctl threats", MOST_NEWS)
    if outbox.note(reversed(threats), least, time.time()):
        wake()
