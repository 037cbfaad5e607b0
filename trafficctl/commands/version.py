"""The versions of this client and of the daemon.

Examples:
  trafficctl version
  trafficctl --version                        only that of the client; needs no daemon
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from typing import Any

from trafficctl import session
from trafficctl.render.style import Style
from trafficmond import __version__


def run(args: Namespace) -> None:
    daemon = session.call(args, "Version")["version"]
    session.output(args).report({"trafficctl": __version__, "trafficmond": daemon}, _render)


def _render(versions: dict[str, Any], _: Style, __: int | None) -> Iterator[str]:
    for name, version in versions.items():
        yield f"{name} {version}"
