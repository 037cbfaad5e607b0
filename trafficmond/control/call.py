"""A call, and the methods that answer calls."""

import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import Any, Self, TypeVar

from trafficmond.control.peers import Caller
from trafficmond.dataclass import dataclass, replace

INTERFACE = "io.trafficmon"
Reply = dict[str, Any]
Row = dict[str, Any]  # a row of a reply, with the fields of its type in io.trafficmon.varlink


@dataclass(frozen=True, slots=True)
class Call:
    """The first argument of every method: the caller, and the form of the reply."""

    caller: Caller
    more: bool  # the client accepts several replies


Answer = Callable[..., Coroutine[Any, Any, Reply] | AsyncGenerator[Reply, None]]
F = TypeVar("F", bound=Answer)
Shield = Callable[[Coroutine[Any, Any, Reply]], Awaitable[Reply]]


@dataclass(frozen=True, slots=True)
class Method:
    """A method of io.trafficmon.

    `answer` takes a Call and the parameters by name; a parameter that is null or left out keeps its default. It
    returns one reply, or streams replies of which the last one ends the call. In replies, times are epoch seconds,
    durations seconds, addresses and prefixes text. Errors are raised as TrafficmonError: a Refusal, a
    ConfigError with all mistakes, or another one, which the client gets as a failure with its reason and hint.
    """

    name: str
    answer: Answer
    changes: bool  # for administrators only; runs to its end even if the client disconnects
    endless: bool  # streams until the client disconnects, so it needs `more`


_MARK = "__control_method__"


def method(name: str, *, changes: bool = False, endless: bool = False) -> Callable[[F], F]:
    """Marks a class's function as the method `name` of io.trafficmon."""

    def mark(answer: F) -> F:
        setattr(answer, _MARK, Method(name, answer, changes, endless))
        return answer

    return mark


def methods_of(handler: object) -> dict[str, Method]:
    """The methods of an object or a class: its functions marked by `method`."""
    marked = ((answer, getattr(answer, _MARK, None)) for _, answer in inspect.getmembers(handler))
    return {each.name: replace(each, answer=answer) for answer, each in marked if isinstance(each, Method)}


@dataclass(frozen=True, slots=True)
class Service:
    """The methods of a server, with its version."""

    version: str
    methods: Mapping[str, Method]
    shielded: Shield  # runs work even if the caller is cancelled

    @classmethod
    def of(cls, version: str, handlers: Iterable[object], shielded: Shield) -> Self:
        """The service with the methods of these objects."""
        return cls(version, {name: each for one in handlers for name, each in methods_of(one).items()}, shielded)
