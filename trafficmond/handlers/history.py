"""The methods for the history of the rules: the changes, the rules after each change, and undo."""

import json
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager

from trafficmond import networks
from trafficmond.config.settings import CONFIG_FILE
from trafficmond.control.bounds import number as bounded
from trafficmond.control.call import Call, Reply, Row, method
from trafficmond.dataclass import dataclass, field
from trafficmond.errors import NotFound, Refused, TrafficmonError
from trafficmond.handlers.handler import Handler, paged, parse_direction
from trafficmond.history import MOST_CHANGES, Recorded
from trafficmond.networks import shown
from trafficmond.policy.entries import DEFAULT, SOURCE, Entry, entries, source_line
from trafficmond.standing import Begin

_PAGE_ROWS = 20
_ENDS = {
    "rollback": "a rollback, which has taken back what was on probation",
    "ended": "the end of a probation that nobody confirmed",
}


@dataclass(slots=True)
class _Work:
    """An undo while it runs: its effects so far, and the edits and notes for the caller."""

    begin: Begin
    done: list[str] = field(default_factory=list)
    edits: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    on_probation: bool = False

    @contextmanager
    def reporting(self, entry: Entry) -> Iterator[None]:
        """Notes why a rule cannot be changed, and continues with the others."""
        try:
            yield
        except (TrafficmonError, OSError, ValueError) as error:  # ValueError: a prefix that is none
            self.notes.append(f"{_in_words(entry)}: {error}")


class History(Handler):
    @method("History")
    async def history(self, _: Call, limit: int = 100) -> Reply:
        most = bounded("limit", limit, 1, MOST_CHANGES)
        found = (await self._parts.history.changes())[::-1][:most]
        return {"changes": [_row(each) for each in found]}

    @method("RulesAt")
    async def rules_at(self, call: Call, number: int | None = None) -> AsyncGenerator[Reply, None]:
        found = entries(self._in_force().policy) if number is None else await self._parts.history.at(number)
        if found is None:
            raise NotFound(f"what was in force after change {number} is not known", hint="see trafficctl history")
        async for page in paged(call, _pages(found)):
            yield {"rules": page}

    @method("Undo", changes=True)
    async def undo(self, call: Call, number: int | None = None) -> Reply:
        parts = self._parts
        change = await self._undoable(call.caller.user, number)
        work = _Work(self._begin(call, f"undo {change.number}", None))
        back = [each for each in change.removed if not _ended(each)]
        places = [_place(each) for each in back]
        files: list[tuple[Entry, bool]] = []  # and whether it is taken out
        for entry in change.added:
            if not self._by_hand(entry):
                files.append((entry, True))
            elif _place(entry) not in places:  # else the rule that comes back replaces it
                with work.reporting(entry):
                    await self._take_out(entry, work)
        for entry in back:
            if not self._by_hand(entry):
                files.append((entry, False))
                continue
            with work.reporting(entry):
                await self._put_back(entry, work)
        self._propose(files, work)
        notes = work.notes
        if change.change == "undo":
            what = f"change {change.number} was an undo itself: what change {change.subject} did is in force again"
            notes.append(f"{what}; to undo an earlier change, give its number: trafficctl history shows it")
        notes += [f"has ended meanwhile: {_in_words(each)}" for each in change.removed if _ended(each)]
        parts.host.refresh_names()
        notes += parts.exposure.check()
        if work.done:
            after = "; ".join(work.done)[:400]
            notes += await self._audited(call, "undo", str(change.number), None, after, work.on_probation)
        return {"undone": change.number, "done": work.done, "edits": work.edits, "notes": notes}

    async def _undoable(self, user: str, number: int | None) -> Recorded:
        """The change of that number, or the latest. Raises NotFound, or Refused if it may not be taken back now."""
        changes = {each.number: each for each in await self._parts.history.changes()}
        if not changes:
            raise NotFound("no change of the rules is recorded", hint="see trafficctl history")
        wanted = max(changes) if number is None else number
        if wanted not in changes:
            raise NotFound(f"change {wanted} is not known", hint="see trafficctl history")
        change, trial = changes[wanted], self._parts.rulebook.standing.trial
        if change.change == "clock":
            what = f"change {wanted} cannot be undone: the clock was set, and the ends of rules moved with it"
            raise Refused(what, hint="for others see trafficctl history")
        if number is None:
            self._refuse_after_a_ban(user, change)
            self._refuse_after_an_end(change)
        if trial and trial.folder and not all(map(self._by_hand, [*change.added, *change.removed])):
            what = f"change {wanted} changed files, but {trial.folder} is on probation in place of these files"
            raise Refused(what, hint="first end the probation: trafficctl confirm, or trafficctl rollback")
        return change

    async def _take_out(self, entry: Entry, work: _Work) -> None:
        """Removes a rule made by hand that the change added. Raises TrafficmonError, OSError."""
        cidr, way = _prefix(entry), parse_direction(entry.get("direction", "ingress"))
        saved, ports = entry[SOURCE] != "runtime", entry.get("ports", [])
        result = await self._parts.rulebook.remove(cidr, way, ports, saved=saved, begin=work.begin)
        work.on_probation |= result.on_probation
        if result.before:
            work.done.append(f"removed: {_in_words(entry)}")
        else:
            work.notes.append(f"no longer exists: {_in_words(entry)}")

    async def _put_back(self, entry: Entry, work: _Work) -> None:
        """Adds a rule made by hand that the change removed. Raises TrafficmonError, OSError."""
        table = {key: value for key, value in entry.items() if key != SOURCE} | {"cidr": _prefix(entry)}
        if entry["action"] in ("drop", "limit") and not entry.get("force") and not entry.get("ports"):
            self._spared().refuse(networks.parse(table["cidr"]), f"{entry['action']} rule")
        keep = entry[SOURCE] != "runtime"
        result = await self._parts.rulebook.add({"direction": "ingress", **table}, keep=keep, begin=work.begin)
        work.on_probation |= result.on_probation
        if result.already:
            work.notes.append(f"is there already: {_in_words(entry)}")
        else:
            work.done.append(f"put back: {_in_words(entry)}")

    def _by_hand(self, entry: Entry) -> bool:
        return entry[SOURCE] in ("runtime", str(self._parts.rulebook.saved_path))

    def _propose(self, files: list[tuple[Entry, bool]], work: _Work) -> None:
        """Adds the edits of files to the work, except those that the rules in force have already."""
        there = {json.dumps(each, sort_keys=True) for each in entries(self._in_force().policy)} if files else set()
        for entry, out in files:
            if (json.dumps(entry, sort_keys=True) in there) is not out:
                work.notes.append(f"{'no longer exists' if out else 'is there already'}: {_in_words(entry)}")
            else:
                work.edits.append(self._edit(entry, out=out))

    def _edit(self, entry: Entry, *, out: bool) -> Row:
        line = source_line(self._in_force().policy, entry) if out else 0
        rule = {key: value for key, value in entry.items() if key != SOURCE}
        of_settings = {"list", "allowlist", DEFAULT} & rule.keys()
        path = str(self._parts.settings.source or CONFIG_FILE) if of_settings else entry[SOURCE]
        return {"path": path, "line": line or None, "take_out": out, "rule": rule}

    def _refuse_after_an_end(self, change: Recorded) -> None:
        """Raises Refused if the change is the end of a probation, which may have locked users out."""
        what = _ENDS.get(change.change)
        if what and any(self._by_hand(each) and not _ended(each) for each in change.removed):
            hint = f"to bring it back for good: trafficctl undo {change.number}; for others see trafficctl history"
            raise Refused(f"the latest change, {change.number}, is {what}", hint=hint)

    def _refuse_after_a_ban(self, user: str, change: Recorded) -> None:
        """Raises Refused if the user's latest change is a ban, which undo does not lift: the user means the ban."""
        mine = (ban for ban in self._parts.bans.all() if ban.owner == user and ban.since > change.at)
        latest = next(mine, None)
        if latest is not None:
            address, last = shown(latest.cidr), f"trafficctl undo {change.number} undoes the last change of the rules"
            what = f"your latest change is the ban of {address}, and bans are not among the numbered changes"
            hint = f"trafficctl unban {address} lifts it; {last}"
            raise Refused(what, hint=hint)


async def _pages(found: Sequence[Entry]) -> AsyncGenerator[Sequence[Entry], None]:
    for at in range(0, len(found), _PAGE_ROWS):
        yield found[at : at + _PAGE_ROWS]


def _row(change: Recorded) -> Row:
    row = {"number": change.number, "at": change.at, "user": change.user or None, "change": change.change}
    sizes = {"removed": len(change.removed), "added": len(change.added)}
    return {**row, "subject": change.subject or None, **sizes}


def _ended(entry: Entry) -> bool:
    return bool(entry.get("expires")) and float(entry["expires"]) <= time.time()


def _prefix(entry: Entry) -> str:
    """The prefix of a rule made by hand in the form of the rulebook: a host has its length."""
    return str(networks.parse(entry["cidr"][0]))


def _place(entry: Entry) -> tuple[object, ...]:
    return str(entry.get("cidr")), entry.get("direction", "ingress"), str(entry.get("ports", [])), entry[SOURCE]


def _in_words(entry: Entry) -> str:
    words = [entry.get("action", ""), ", ".join(entry.get("ports", ())), entry.get("label", "")]
    return " ".join(filter(None, [*entry.get("cidr", ())[:1], *words]))
