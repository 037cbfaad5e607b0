"""A call in progress, and the methods that answer calls."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from trafficmond.control.peers import Caller

INTERFACE = "io.trafficmon"
Reply = dict[str, Any]
Row = dict[str, Any]  # of a reply, with the fields of its type in io.trafficmon.varlink


@dataclass(frozen=True, slots=True)
class Call:
    """What every method is given beside its own parameters."""

    caller: Caller
    more: bool  # the client takes several replies


Answer = Callable[..., Coroutine[Any, Any, Reply] | AsyncGenerator[Reply, None]]
F = TypeVar("F", bound=Answer)


@dataclass(frozen=True, slots=True)
class Method:
    """A method of io.trafficmon.

    `answer` takes a Call and the parameters by name; a parameter that is null or left out keeps its default. It
    returns one reply or streams them; a stream's last one ends the call. Times in replies are epoch seconds, durations
    seconds, addresses and prefixes text. A request that cannot be met raises a TrafficmonError: one of `refusals`, a
    ConfigError with every mistake, or any other, which the client reads as a failure with its reason and hint.
    """

    name: str
    answer: Answer
    changes: bool  # for administrators only; goes on to its end even if the client hangs up
    endless: bool  # streams until the client goes, so it needs `more`


_MARK = "__control_method__"


def method(name: str, *, changes: bool = False, endless: bool = False) -> Callable[[F], F]:
    """Marks a class's function as the method `name` of io.trafficmon."""

    def mark(answer: F) -> F:
        setattr(answer, _MARK, Method(name, answer, changes, endless))
        return answer

    return mark


def methods_of(handler: object) -> dict[str, Method]:
    """What an object, or a class, answers by functions so marked."""
    marked = ((answer, getattr(answer, _MARK, None)) for _, answer in inspect.getmembers(handler))
    return {each.name: replace(each, answer=answer) for answer, each in marked if isinstance(each, Method)}


@dataclass(frozen=True, slots=True)
class Service:
    """What the server serves."""

    version: str
    methods: Mapping[str, Method]
    shielded: Callable[[Coroutine[Any, Any, Reply]], Awaitable[Reply]]  # does work even if who waits for it goes

    @classmethod
    def of(
        cls,
        version: str,
        handlers: Iterable[object],
        shielded: Callable[[Coroutine[Any, Any, Reply]], Awaitable[Reply]],
    ) -> Service:
        """Serves the methods of these objects."""
        return cls(version, {name: each for one in handlers for name, each in methods_of(one).items()}, shielded)
