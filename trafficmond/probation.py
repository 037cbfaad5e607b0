"""Logs the beginning and end of a probation, and updates the parts when it ends."""

import asyncio
import os
import time
from collections.abc import Callable, Coroutine
from typing import Any

from trafficmond.config.settings import Settings
from trafficmond.dataclass import dataclass
from trafficmond.errors import TrafficmonError
from trafficmond.exposure import Exposure
from trafficmond.host import Host
from trafficmond.policy.trial import Trial
from trafficmond.rulebook import Rulebook
from trafficmond.sinks import messages
from trafficmond.sinks.fanout import SinkSet
from trafficmond.standing import BEGUN, CONFIRMED, RAN_OUT, RESET, ROLLED_BACK
from trafficmond.store.records import AuditEntry
from trafficmond.tasks import Tasks

_LATER_S = 0.02  # delay after the kernel has ended a probation
_TEXTS = {
    BEGUN: (messages.PROBATION_BEGUN, "on probation for {left:.0f} s, until somebody confirms it: {what}{by}"),
    CONFIRMED: (messages.PROBATION_CONFIRMED, "confirmed: {what}{by}"),
    ROLLED_BACK: (messages.PROBATION_OVER, "rolled back: {what}{by}; the rules confirmed before are in force"),
    RAN_OUT: (messages.PROBATION_OVER, "not confirmed in time: {what}{by}; the rules confirmed before are in force"),
    RESET: (
        messages.PROBATION_OVER,
        "ended by a reboot or a stop: {what}{by}; the rules confirmed before are in force",
    ),
}


@dataclass(eq=False)
class Probation:
    """Logs probations, and notices at once when one ends."""

    _rulebook: Rulebook
    _host: Host
    _exposure: Exposure
    _sinks: SinkSet
    _tasks: Tasks
    _audit: Callable[[AuditEntry], Coroutine[Any, Any, object]]
    over: Callable[[str], object] = lambda _why: None  # called when files that waited can be read

    def __post_init__(self) -> None:
        self._rulebook.standing.notify = self._log

    def _log(self, trial: Trial, turn: str) -> None:
        message, text = _TEXTS[turn]
        by = f" ({trial.user})" if trial.user else ""
        fields = {"what": trial.what, "user": trial.user}
        self._sinks.note(message, text.format(left=trial.until - time.time(), what=trial.what, by=by), fields)
        if turn == BEGUN:
            self.watch()
            return
        asyncio.get_running_loop().call_soon(self._after)
        if turn in (RAN_OUT, RESET):  # no client requested it, so it is recorded here
            who = os.getuid(), f"probation {turn}", os.getpid()
            self._tasks.spawn(self._audit(AuditEntry(time.time(), *who, "rollback", trial.what)))

    def _after(self) -> None:
        self._host.refresh_names()
        self._exposure.check()
        self.over("the probation is over")

    def watch(self) -> None:
        """Schedules a check for the end of the current probation."""
        if trial := self._rulebook.standing.trial:
            later = max(0.0, trial.until - time.time()) + _LATER_S
            asyncio.get_running_loop().call_later(later, lambda: self._tasks.spawn(self._notice()))

    async def _notice(self) -> None:
        if not await self._rulebook.expire_probation():
            self.watch()  # another probation has begun, or the clock was set

    async def take_up(self, on_disk: Settings) -> None:
        """Continues, at the start, the probation of an earlier daemon."""
        standing = self._rulebook.standing
        await standing.store_end()
        if standing.trial is None:
            return
        try:
            await self._rulebook.resume(on_disk)
        except TrafficmonError as error:
            standing.error = (
                f"the change on probation cannot be read; the kernel takes it back when its time is over: {error}"
            )
        if standing.base is None and not standing.error:
            standing.error = "the change on probation was not stored; the kernel takes it back when its time is over"
        self.watch()
