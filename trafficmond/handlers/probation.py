"""The methods for changes on probation, which the kernel takes back unless they are confirmed."""

from pathlib import Path

from trafficmond.control.call import Call, Reply, method
from trafficmond.control.idl import Mismatch
from trafficmond.dataclass import asdict
from trafficmond.handlers.handler import Handler, parse_probation
from trafficmond.policy.trial import DEFAULT_COPY
from trafficmond.status import probation

_USUAL_S = 60.0


class Probation(Handler):
    @method("Apply", changes=True)
    async def apply(self, call: Call, folder: str | None = None, confirm_within_s: float = _USUAL_S) -> Reply:
        within_s = parse_probation(confirm_within_s)
        if folder is not None and not Path(folder).is_absolute():
            raise Mismatch("folder", "must be an absolute path, for example /etc/trafficmon/cidr.new")
        copy = DEFAULT_COPY.fullmatch(folder or "")
        what = f"--default {copy[1]}" if copy else folder or ""
        notes = await self._reloader.try_out(f"apply {what}".strip(), call.caller, folder or "", within_s)
        self._parts.host.refresh_names()
        rules = asdict(self._in_force().policy.counts)
        return {**rules, "probation": probation(self._parts), "notes": [*notes, *self._parts.exposure.applied()]}

    @method("Confirm", changes=True)
    async def confirm(self, call: Call) -> Reply:
        parts = self._parts
        trial = parts.rulebook.standing.known_trial()
        notes = await parts.rulebook.confirm()
        if trial.tried:  # for settings that do not concern rules, and for the rules' new places
            await self._reloader.reload("confirmed", call.caller)
        notes += await self._audit(call.caller, "confirm", trial.what, None, None)
        return {"confirmed": trial.what, "notes": notes}

    @method("Rollback", changes=True)
    async def rollback(self, call: Call) -> Reply:
        trial = await self._parts.rulebook.roll_back()
        notes = await self._audit(call.caller, "rollback", trial.what, None, None)
        return {"rolled_back": trial.what, "notes": notes}
