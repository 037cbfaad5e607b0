"""A call in progress, and the registry of the methods that answer calls."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from trafficmond.control.clients import Clients
from trafficmond.control.hub import Hub
from trafficmond.control.view import Caller, View

INTERFACE = "io.trafficmon"
Reply = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Service:
    """What the server serves."""

    view: View
    hub: Hub
    clients: Clients

    def load(self) -> dict[str, int]:
        """How the server itself does, as the interface's `Control`."""
        return {**self.clients.load(), "lost_records": self.hub.lost_records}


@dataclass(frozen=True, slots=True)
class Call:
    """What every method is given beside its own parameters."""

    service: Service
    caller: Caller
    more: bool  # the client takes several replies

    @property
    def view(self) -> View:
        """The daemon."""
        return self.service.view


Answer = Callable[..., Coroutine[Any, Any, Reply] | AsyncGenerator[Reply, None]]
F = TypeVar("F", bound=Answer)


@dataclass(frozen=True, slots=True)
class Method:
    """A registered method.

    `answer` takes a Call and the parameters by name; a parameter that is null or left out keeps its default. It
    returns one reply or streams them; a stream's last one ends the call.
    """

    name: str
    answer: Answer
    changes: bool  # for administrators only
    endless: bool  # streams until the client goes, so it needs `more`


METHODS: dict[str, Method] = {}


def method(name: str, *, changes: bool = False, endless: bool = False) -> Callable[[F], F]:
    """Register a function as the method `name` of io.trafficmon."""

    def register(answer: F) -> F:
        METHODS[name] = Method(name, answer, changes, endless)
        return answer

    return register
