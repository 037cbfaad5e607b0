"""The versions of this client and of the daemon.

Examples:
  trafficctl version
  trafficctl --version                        of the client alone; needs no daemon
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from typing import Any

from trafficctl import exits, session
from trafficctl.render.style import Style
from trafficmond import __version__


def arguments(_: ArgumentParser) -> None:
    """None of its own."""


def run(args: Namespace) -> int:
    """Show both."""
    with session.connect(args) as client:
        daemon = client.call("Version")["version"]
    session.output(args).report({"trafficctl": __version__, "trafficmond": daemon}, _render)
    return exits.DONE


def _render(versions: dict[str, Any], _: Style, __: int | None) -> Iterator[str]:
    for name, version in versions.items():
        yield f"{name} {version}"
