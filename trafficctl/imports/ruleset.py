"""What the readers of other firewalls' rules make of them: chains of lines, in which the first that fits decides."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from trafficmond.networks import Network
from trafficmond.services import Places

ACCEPT, DROP, RETURN = "accept", "drop", "return"
FORWARDED = "forwarded packets are checked by the same rules as incoming ones"
_MOST_SHOWN = 100  # characters of a line


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a chain. `target`: ACCEPT, DROP, RETURN, or the chain that it jumps to.

    It fits where every one of `addresses` and `services` does: those named, or with True all but those. Addresses are
    the other host's: the source of what comes in, the destination of what goes out.
    """

    where: str  # "rules.v4:12"
    text: str  # as it stands there
    target: str
    goes: bool = False  # the chain that it jumps to does not come back
    family: int = 0  # 4 or 6, 0: both
    addresses: tuple[tuple[frozenset[Network], bool], ...] = ()
    services: tuple[tuple[Places, bool], ...] = ()
    label: str = ""


@dataclass(frozen=True, slots=True)
class Base:
    """Where packets enter. What an earlier base accepts goes on to the next one."""

    chain: str
    egress: bool
    policy: str  # ACCEPT or DROP
    families: tuple[int, ...] = (4, 6)


@dataclass(frozen=True, slots=True)
class Note:
    """What whoever imports should know of a line: `lost`, packets will be judged otherwise; else only how."""

    where: str
    what: str
    lost: bool = True

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


@dataclass(slots=True)
class Ruleset:
    """All of it."""

    chains: dict[str, list[Line]] = field(default_factory=dict)
    bases: list[Base] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    established: str = ""  # the line that lets replies pass
    some_answers: list[str] = field(default_factory=list)  # lines that let some replies pass
    families: tuple[int, ...] = (4, 6)  # that the files speak of

    def omit(self, where: str, text: str, why: str) -> None:
        """A line that cannot be said is left out."""
        self.notes.append(Note(where, f"left out: {why}: {short(text)}"))

    def answers(self, where: str, *, of_all: bool) -> None:
        """A line lets replies pass: all of them, or some."""
        if of_all:
            self.established = self.established or where
        else:
            self.some_answers.append(where)

    def note(self, where: str, what: str) -> None:
        """Something that is done by other means here."""
        self.notes.append(Note(where, what, lost=False))


def reached(first: Iterable[str], targets: Callable[[str], Iterable[str]]) -> list[str]:
    """The chains that packets pass which enter by the `first`; `targets`: the chains that one jumps to."""
    found = list(first)
    for chain in found:
        found += [target for target in dict.fromkeys(targets(chain)) if target not in found]
    return found


class Unsupported(Exception):
    """A condition or an action that rules of ours do not have."""


def short(text: str) -> str:
    """A line as it is shown."""
    text = " ".join(text.split())
    return text if len(text) <= _MOST_SHOWN else text[: _MOST_SHOWN - 1] + "\N{HORIZONTAL ELLIPSIS}"
