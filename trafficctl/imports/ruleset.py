"""The common form of other firewalls' rules: chains of lines, in which the first matching line decides."""

from collections.abc import Callable, Iterable

from trafficmond.dataclass import dataclass, field
from trafficmond.networks import Network
from trafficmond.services import Places

ACCEPT, DROP, RETURN = "accept", "drop", "return"
FORWARDED = "forwarded packets are checked by the same rules as incoming ones"
_MOST_SHOWN = 100  # characters shown of a line


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a chain. `target`: ACCEPT, DROP, RETURN, or the chain that it jumps to.

    It matches if all of `addresses` and `services` match: the named ones, or with True all others. Addresses are those
    of the other host: the source of incoming packets, the destination of outgoing ones.
    """

    where: str  # "rules.v4:12"
    text: str  # as it is written
    target: str
    goes: bool = False  # a goto: the chain does not return
    family: int = 0  # 4 or 6, 0: both
    addresses: tuple[tuple[frozenset[Network], bool], ...] = ()
    services: tuple[tuple[Places, bool], ...] = ()
    label: str = ""


@dataclass(frozen=True, slots=True)
class Base:
    """A base chain, where packets enter. Packets that one base chain accepts continue to the next one."""

    chain: str
    egress: bool
    policy: str  # ACCEPT or DROP
    families: tuple[int, ...] = (4, 6)


@dataclass(frozen=True, slots=True)
class Note:
    """A note on a line. `lost`: packets will be treated differently; else it is information only."""

    where: str
    what: str
    lost: bool = True

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


@dataclass(slots=True)
class Ruleset:
    chains: dict[str, list[Line]] = field(default_factory=dict)
    bases: list[Base] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    established: str = ""  # the line that accepts replies
    some_answers: list[str] = field(default_factory=list)  # lines that accept some replies
    families: tuple[int, ...] = (4, 6)  # the families that the files have rules for

    def omit(self, where: str, text: str, why: str) -> None:
        self.notes.append(Note(where, f"left out: {why}: {short(text)}"))

    def answers(self, where: str, *, of_all: bool) -> None:
        """Notes that a line accepts replies: all of them, or some."""
        if of_all:
            self.established = self.established or where
        else:
            self.some_answers.append(where)

    def note(self, where: str, what: str) -> None:
        self.notes.append(Note(where, what, lost=False))


def reached(first: Iterable[str], targets: Callable[[str], Iterable[str]]) -> list[str]:
    """The chains that packets pass which enter by the `first`; `targets`: the chains that one jumps to."""
    found = list(first)
    for chain in found:
        found += [target for target in dict.fromkeys(targets(chain)) if target not in found]
    return found


class Unsupported(Exception):
    """A rule has a condition or an action that rules of ours do not have."""


def short(text: str) -> str:
    """A line in the form in which notes show it."""
    text = " ".join(text.split())
    return text if len(text) <= _MOST_SHOWN else text[: _MOST_SHOWN - 1] + "\N{HORIZONTAL ELLIPSIS}"
