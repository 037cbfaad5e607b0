"""One command's connection to the daemon and its output."""

from __future__ import annotations

import io
import sys
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from trafficctl.names import Labels
from trafficctl.render.output import Output
from trafficctl.render.table import Column, Row
from trafficctl.render.units import plain
from trafficmond.control.client import INTERFACE, Client
from trafficmond.errors import ControlError

if TYPE_CHECKING:
    from trafficctl.banlines import Line

_NAMED = 20  # wrong lines


def connect(args: Namespace) -> Client:
    """To the socket that the arguments name."""
    return Client(args.socket)


def call(args: Namespace, method: str, **parameters: Any) -> dict[str, Any]:
    """The reply to one call, over a connection of its own. Raises ControlError."""
    with connect(args) as client:
        return client.call(method, **parameters)


def output(args: Namespace) -> Output:
    """In the format that the arguments ask for."""
    return Output.of(args.output)


def show_rows(
    args: Namespace,
    rows: Iterable[Row],
    columns: Sequence[Column],
    kind: str,
    empty: str = "",
    labels: Labels | None = None,
) -> int:
    """Rows of a type of the daemon's interface, with what `labels` adds; csv has all of its fields, rows or no rows.
    How many there were."""
    labels = labels or Labels(services=False)
    fields = labels.fields(fields_of(kind)) if args.output == "csv" else ()
    return output(args).rows(labels.rows(rows), columns, fields=fields, empty=empty)


def print_notes(reply: Mapping[str, Any]) -> None:
    """What the daemon has to say about a change that it made; beside what is shown, so that data stays data."""
    for note in reply.get("notes") or ():
        print(f"note: {plain(note)}", file=sys.stderr)


@contextmanager
def several_calls(done: Callable[[], str]) -> Iterator[None]:
    """Around calls that are one change to whoever asked: when one of them fails, what those before it did is told."""
    try:
        yield
    except ControlError:
        if effect := done():
            print_notes({"notes": [f"{effect} before this failed; that stays in force"]})
        raise


def read_bans(done: str) -> list[Line]:
    """Bans from standard input, all in order. Raises ControlError naming every line that is not: nothing is done."""
    from trafficctl.banlines import read

    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8", errors="replace")
    found, mistakes = read(sys.stdin)
    if mistakes:
        named = [str(mistake) for mistake in mistakes[:_NAMED]]
        named += [f"and {len(mistakes) - _NAMED:,} more"] if len(mistakes) > _NAMED else []
        raise ControlError("\n".join(named), name="usage", hint=f"nothing was {done}")
    return found


def show_counts(args: Namespace, counts: dict[str, Any], text: str) -> None:
    """What became of many, in a line; as data whole."""
    output(args).report(counts, lambda *_: [text])


def fields_of(kind: str) -> tuple[str, ...]:
    """The fields of a type of the daemon's interface."""
    from trafficmond.control import idl

    declared = idl.load(INTERFACE).types[kind]
    assert isinstance(declared, idl.Struct)
    return tuple(declared.fields)
