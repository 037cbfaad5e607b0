"""One command's connection to the daemon and its output."""

from __future__ import annotations

from argparse import Namespace

from trafficctl.render.output import Output
from trafficmond.control.client import Client


def connect(args: Namespace) -> Client:
    """To the socket that the arguments name."""
    return Client(args.socket)


def output(args: Namespace) -> Output:
    """In the format that the arguments ask for."""
    return Output.of(args.output)
