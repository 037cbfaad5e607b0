"""`--confirm-within`, for every command that changes what is in force, and what is said of a probation."""

from __future__ import annotations

import contextlib
import re
import time
from argparse import ArgumentParser
from typing import Any

from trafficctl import values
from trafficctl.render import units

_COPY = r".+\.apply-default-[a-z]+\.toml"  # the settings file that apply --default makes


def argument(parser: ArgumentParser, default: float | None = None) -> None:
    """The option; a call gets it as `confirm_within_s`."""
    usual = f" ({units.span(default)} unless given)" if default else ""
    text = f"put it on probation: it is taken back after this time unless confirmed{usual}"
    parser.add_argument("--confirm-within", metavar="TIME", type=values.duration, default=default, help=text)


def forget_copy(probation: dict[str, Any] | None) -> None:
    """Removes the settings file that apply --default made; where that may not be, it stays and does nothing."""
    if not probation or not probation["folder"]:
        return
    from pathlib import Path

    path = Path(probation["folder"])
    if re.fullmatch(_COPY, path.name):
        with contextlib.suppress(OSError):
            path.unlink()


def status_line(probation: dict[str, Any]) -> str:
    """What is on probation, in a line."""
    left = units.span(max(0.0, probation["left_s"]))
    by = f", by {units.plain(probation['user'])}" if probation["user"] else ""
    until = time.strftime("%H:%M:%S", time.localtime(probation["until"]))
    what = units.plain(probation["what"])
    return f"ON PROBATION for {left} (until {until}), keep it with trafficctl confirm: {what}{by}"
