"""One command's connection to the daemon and its output."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable, Sequence

from trafficctl.render.output import Output
from trafficctl.render.table import Column, Row
from trafficmond.control.client import INTERFACE, Client


def connect(args: Namespace) -> Client:
    """To the socket that the arguments name."""
    return Client(args.socket)


def output(args: Namespace) -> Output:
    """In the format that the arguments ask for."""
    return Output.of(args.output)


def show_rows(args: Namespace, rows: Iterable[Row], columns: Sequence[Column], kind: str, empty: str = "") -> int:
    """Rows of a type of the daemon's interface; csv has all of its fields, rows or no rows. How many there were."""
    fields = fields_of(kind) if args.output == "csv" else ()
    return output(args).rows(rows, columns, fields=fields, empty=empty)


def fields_of(kind: str) -> tuple[str, ...]:
    """The fields of a type of the daemon's interface."""
    from trafficmond.control import idl

    declared = idl.load(INTERFACE).types[kind]
    assert isinstance(declared, idl.Struct)
    return tuple(declared.fields)
