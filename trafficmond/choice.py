"""Values of filters: one, several ("22,80"), ranges ("8000-8100") and all but those ("!192.0.2.0/24")."""

import contextlib
from collections.abc import Callable
from typing import Generic, TypeVar

from trafficmond import networks
from trafficmond.dataclass import dataclass
from trafficmond.model import Action, FlowQuery
from trafficmond.networks import Network
from trafficmond.protocols import protocol_number

T = TypeVar("T")
_MOST = 64  # each is a condition; longer lists belong in rules


@dataclass(frozen=True, slots=True)
class Choice(Generic[T]):
    """One of these, or with `but` none of these."""

    items: tuple[T, ...]
    but: bool = False


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Selects log events; None matches all."""

    action: Action | None = None
    host: Choice[Network] | None = None  # of either side
    interface: str | None = None
    ports: Choice[tuple[int, int]] | None = None


def prefixes(text: str) -> Choice[Network]:
    """ "10.0.0.0/8,192.0.2.7" or "!10.0.0.0/8". Raises ValueError naming valid forms."""
    return _choice(text, networks.parse)


def ports(text: str | int) -> Choice[tuple[int, int]]:
    """First and last port of each part of "22,80,8000-8100" or "!22". Raises ValueError naming valid forms."""
    return _choice(str(text), _range)


def protocols(text: str) -> Choice[int]:
    """The numbers of "tcp,udp,50" or "!tcp". Raises ValueError naming valid forms."""
    return _choice(text, protocol_number)


def of_text(text: str) -> FlowQuery:
    """The filter that a text alone stands for: a port, an address or prefix, a protocol, else a unit; "": all flows."""
    text = text.strip()
    if not text:
        return FlowQuery()
    if text.isdecimal() and text.isascii() and len(text) <= len("65535"):
        return FlowQuery(port=text)
    with contextlib.suppress(ValueError):
        return FlowQuery(host=str(networks.parse(text)))
    with contextlib.suppress(ValueError):
        protocol_number(text)
        return FlowQuery(proto=text)
    return FlowQuery(unit=text)


def _choice(text: str, read: Callable[[str], T]) -> Choice[T]:
    words = [word.strip() for word in text.strip().removeprefix("!").split(",")]
    if len(words) > _MOST:
        raise ValueError(f"{len(words)} values are too many for a filter; use at most {_MOST}")
    if any(word.startswith("!") for word in words):
        raise ValueError(f'{networks.quoted(text)}: write the "!" once, before all of them, such as "!22,80"')
    return Choice(tuple(map(read, words)), text.strip().startswith("!"))


def _range(word: str) -> tuple[int, int]:
    first, dash, last = word.partition("-")
    numbers = [_port(first), _port(last if dash else first)]
    if numbers[0] > numbers[1]:
        raise ValueError(f"{networks.quoted(word)}: the first port of a range is the smaller one")
    return numbers[0], numbers[1]


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65535):
        raise ValueError(f"{text} is not a valid port; use 0 to 65535, several as 22,80 or 8000-8100")
    return int(text)
