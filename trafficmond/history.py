"""The numbered history of the rules, so that each change can be shown and undone.

It is a file in state_dir with a line of JSON for each change, after a line with the rules before the first change. The
daemon works without it: if it cannot be written there is a warning, and a file that cannot be read is set aside.
"""

import asyncio
import json
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain, groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

from trafficmond import files
from trafficmond.dataclass import dataclass, field, replace
from trafficmond.errors import TrafficmonError
from trafficmond.policy.entries import SOURCE, Entry, difference, entries, placed, replayed, without
from trafficmond.policy.load import Policy
from trafficmond.store.records import AuditEntry

# bound: numbered changes of the rules, in `state_dir` | when twice as many are stored, the older half is deleted
MOST_CHANGES = 1000
# bound: bytes of the rules' history in `state_dir` | the oldest changes are deleted
MOST_BYTES = 64 << 20
# bound: changes of rules that wait until a full disk has room | the latest ones are stored as one change
MOST_WAITING = 32
_ONE_COMMAND_S = 10.0  # calls of one process within this time are one change
_OF_SEVERAL = ("add-cidr", "remove-cidr")  # changes that may consist of several calls

Places = tuple[Path, Path]  # the folder or file on probation, and its place after it is confirmed
_Step = tuple[Policy | None, Policy, AuditEntry | None, tuple[Places | None, Places | None]]  # before, after, why


@dataclass(frozen=True, slots=True)
class Recorded:
    """One change: its author, and the removed and added rules."""

    number: int
    at: float  # epoch s
    user: str
    # As in the audit; "ended": a rule or probation expired; "start": changed while no daemon ran; "clock": it was set.
    change: str
    subject: str
    removed: list[Entry] = field(default_factory=list)
    added: list[Entry] = field(default_factory=list)
    pid: int = 0


_PLAIN = Recorded(0, 0.0, "", "", "")
_TYPES: dict[str, Any] = {
    **dict.fromkeys(("cidr", "allowlist", "ports", "country", "asn"), list),
    **dict.fromkeys(("expires", "burst"), int | float),
    **dict.fromkeys(("force", "shadow"), bool),
}  # of an entry; others are texts


class History:
    """Records changes of the rules in force. For the event loop's thread."""

    def __init__(self, path: Path) -> None:
        self.trouble = ""  # why changes cannot be stored
        self.number = 0  # of the latest change
        self._path = path
        self._seen: Policy | None = None
        self._seen_tried: Places | None = None
        self._last: Recorded | None = None
        self._waiting: deque[_Step] = deque()  # not stored yet
        self._lines = 0
        self._lock = asyncio.Lock()

    async def follow(self, policy: Policy, change: AuditEntry | None = None, tried: Places | None = None) -> None:
        """Records the difference since the last call as an effect of `change`. Never raises.

        Rules of a folder that is `tried` are recorded with their place after it is confirmed. So confirming is not a
        change, and undo names the right file.
        """
        if policy is self._seen and not self._waiting:
            return
        async with self._lock:
            if policy is not self._seen:
                before, tried_before = self._seen, self._seen_tried
                if len(self._waiting) == MOST_WAITING:
                    before, _, change, (tried_before, _) = self._waiting.pop()
                self._waiting.append((before, policy, change, (tried_before, tried)))
                self._seen, self._seen_tried = policy, tried
            try:
                while self._waiting:
                    await asyncio.to_thread(self._follow, *self._waiting[0])
                    self._waiting.popleft()
                self.trouble = ""
            except OSError as error:  # the next call tries again
                self.trouble = (
                    f"changes of the rules cannot be numbered and stored ({self._path}: {error.strerror or error})"
                )

    async def changes(self) -> list[Recorded]:
        """All recorded changes in order, those with the same number joined."""
        async with self._lock:
            _, _, recorded = await self._readable()
            return list(self._together(recorded))

    async def at(self, number: int) -> list[Entry] | None:
        """The rules after a change; None if it is no longer stored, or in the future."""
        async with self._lock:
            base, first, recorded = await self._readable()
            if not first <= number <= self.number:
                return None
            return replayed(base, ((each.removed, each.added) for each in recorded if each.number <= number))

    async def _readable(self) -> tuple[list[Entry], int, list[Recorded]]:
        """The same as `_base`, but empty if there is no file. Raises TrafficmonError."""
        try:
            return await asyncio.to_thread(self._base)
        except FileNotFoundError:
            return [], self.number + 1, []
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TrafficmonError(f"{self._path} cannot be read: {error}", hint="move it away") from error

    def _follow(
        self,
        before: Policy | None,
        policy: Policy,
        change: AuditEntry | None,
        tried: tuple[Places | None, Places | None],
    ) -> None:
        if before is None:
            self._begin(_placed(entries(policy), tried[1]))
            return
        removed, added = map(_placed, difference(before, policy), tried)
        removed, added = without(removed, added), without(added, removed)
        if removed or added:
            if not self._path.exists():  # somebody has removed it
                self._write(self.number, _placed(entries(before), tried[0]), [])
            self._append(self._next(change, removed, added))

    def _begin(self, now: list[Entry]) -> None:
        """Compares the first rules of this daemon with the last recorded ones; a difference is a change "start"."""
        try:
            base, first, recorded = self._base()
        except FileNotFoundError:
            self._write(0, now, [])
            return
        except (ValueError, KeyError, TypeError):
            self._path.replace(self._path.with_name(self._path.name + ".broken"))
            self._write(0, now, [])
            return
        self.number = recorded[-1].number if recorded else first
        self._lines = len(recorded)
        last = replayed(base, ((each.removed, each.added) for each in recorded))
        removed, added = without(last, now), without(now, last)
        if removed or added:
            self._append(self._next(AuditEntry(time.time(), 0, "", 0, "start", ""), removed, added))

    def _next(self, change: AuditEntry | None, removed: list[Entry], added: list[Entry]) -> Recorded:
        made = change or AuditEntry(time.time(), 0, "", 0, "clock" if _only_ends(removed, added) else "ended", "")
        last, number = self._last, self.number + 1
        of_several = made.pid and made.change in _OF_SEVERAL
        if (
            last
            and of_several
            and (last.pid, last.change) == (made.pid, made.change)
            and made.at - last.at < _ONE_COMMAND_S
        ):
            number = self.number  # a command that adds several rules is one change
        return Recorded(number, made.at, made.user, made.change, made.subject, removed, added, made.pid)

    def _append(self, recorded: Recorded) -> None:
        size = files.append(self._path, _line(recorded) + "\n")
        self.number, self._last = recorded.number, recorded
        self._lines += 1
        if self._lines > 2 * MOST_CHANGES or size > MOST_BYTES:
            with suppress(OSError):  # the next change tries again
                self._shorten(MOST_CHANGES if size <= MOST_BYTES else self._lines // 4)

    def _shorten(self, most: int) -> None:
        base, _, recorded = self._base()
        gone, kept = recorded[: len(recorded) - most], recorded[len(recorded) - most :]
        state = replayed(base, ((each.removed, each.added) for each in gone))
        self._write(gone[-1].number if gone else 0, state, kept)

    def _write(self, number: int, base: list[Entry], recorded: list[Recorded]) -> None:
        lines = [json.dumps({"number": number, "rules": base}), *map(_line, recorded)]
        self._path.parent.mkdir(parents=True, exist_ok=True)  # at the first start, the store may not have made it yet
        files.replace(self._path, "".join(f"{line}\n" for line in lines).encode(), durable=True)
        self._lines = len(recorded)
        self.number = recorded[-1].number if recorded else number

    def _base(self) -> tuple[list[Entry], int, list[Recorded]]:
        """The rules before the first change, its number, and the changes; an incomplete last line is left out."""
        lines = files.read(self._path).decode("ascii").split("\n")
        first, recorded = json.loads(lines[0]), [Recorded(**json.loads(line)) for line in lines[1:-1]]
        every = chain(first["rules"], *((*each.removed, *each.added) for each in recorded))
        if not all(map(_is_sound, recorded)) or not all(map(_is_entry, every)):
            raise ValueError("it was damaged, or changed by another program")
        return first["rules"], int(first["number"]), recorded

    @staticmethod
    def _together(recorded: list[Recorded]) -> Iterator[Recorded]:
        """The changes, those with one number as one."""
        for _, (held, *others) in groupby(recorded, attrgetter("number")):
            for each in others:
                subject = held.subject if held.subject == each.subject else f"{held.subject}, {each.subject}"
                removed, added = [*held.removed, *each.removed], [*held.added, *each.added]
                held = replace(held, subject=subject, removed=removed, added=added)
            yield held


def _line(recorded: Recorded) -> str:
    # dataclasses.asdict copies each entry, of which a file may have a hundred thousand
    return json.dumps({name: getattr(recorded, name) for name in Recorded.__slots__})


def _placed(found: list[Entry], tried: Places | None) -> list[Entry]:
    return [placed(each, *tried) for each in found] if tried else found


def _only_ends(removed: list[Entry], added: list[Entry]) -> bool:
    """Whether they are the same rules with other ends: those of durations move with a clock that is set."""
    old, new = ([each | {"expires": 0} for each in found] for found in (removed, added))
    return not (without(old, new) or without(new, old))


def _is_sound(recorded: Recorded) -> bool:
    return all(type(getattr(recorded, name)) is type(getattr(_PLAIN, name)) for name in Recorded.__slots__)


def _is_entry(entry: Any) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get(SOURCE), str):
        return False
    for key, value in entry.items():
        if not isinstance(value, _TYPES.get(key, str)):
            return False
        if isinstance(value, list) and not (value and all(isinstance(each, str) or key == "asn" for each in value)):
            return False
    return True
