"""The connection to the daemon and the output of one command."""

import sys
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from trafficctl.names import Labels
from trafficctl.render.output import Output
from trafficctl.render.table import Column, Row
from trafficmond.control.client import INTERFACE, Client
from trafficmond.errors import ControlError
from trafficmond.figures import plain


def connect(args: Namespace) -> Client:
    """Connects to the socket in the arguments. Raises ControlError."""
    return Client(args.socket)


def call(args: Namespace, method: str, **parameters: Any) -> dict[str, Any]:
    """The reply to one call, over a connection of its own. Raises ControlError."""
    with connect(args) as client:
        return client.call(method, **parameters)


def output(args: Namespace) -> Output:
    return Output.of(args.output)


def show_rows(
    args: Namespace,
    rows: Iterable[Row],
    columns: Sequence[Column],
    kind: str,
    empty: str = "",
    labels: Labels | None = None,
) -> int:
    """Shows rows of the Varlink type `kind`, with the names that `labels` adds; returns how many there were.

    csv has all fields of the type, even without rows.
    """
    labels = labels or Labels(services=False)
    fields = labels.fields(fields_of(kind)) if args.output == "csv" else ()
    return output(args).rows(labels.rows(rows), columns, fields=fields, empty=empty)


def show_change(
    args: Namespace, done: str, rows: Sequence[Row], columns: Sequence[Column], kind: str, reply: Mapping[str, Any]
) -> None:
    """Shows what was `done` to the rows, and the notes of the reply."""
    to = output(args)
    if to.human:
        to.line(to.style.title(f"{done}:"))
    show_rows(args, rows, columns, kind)
    print_notes(reply)


def print_notes(reply: Mapping[str, Any]) -> None:
    """Prints the notes of a reply to standard error, so that standard output has data only."""
    for note in reply.get("notes") or ():
        print(f"note: {plain(note)}", file=sys.stderr)


def note_unnamed(units: Iterable[object]) -> None:
    """Prints why units have numbers, if one of these has."""
    if number := next((unit for unit in units if str(unit).startswith("cgroup ")), None):
        what = "it was removed before the daemon could read its name, or the daemon does not see it"
        print_notes({"notes": [f"a unit has a number, such as {number}: {what}"]})


def print_waiting(text: str) -> None:
    """Says on standard error what the command waits for, if somebody sits there."""
    if sys.stderr.isatty():
        print(f"trafficctl: {text}", file=sys.stderr)


@contextmanager
def several_calls(done: Callable[[], str]) -> Iterator[None]:
    """Wraps several calls that are one change to the user. If one fails, prints what the calls before it have done."""
    try:
        yield
    except ControlError:
        if effect := done():
            print_notes({"notes": [f"{effect} before this failed; that stays in force"]})
        raise


def fields_of(kind: str) -> tuple[str, ...]:
    """The fields of a type in io.trafficmon.varlink."""
    from trafficmond.control import idl

    declared = idl.load(INTERFACE).types[kind]
    assert isinstance(declared, idl.Struct)
    return tuple(declared.fields)
