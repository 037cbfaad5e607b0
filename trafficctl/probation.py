"""The option `--confirm-within`, and the text that shows a probation."""

import contextlib
import time
from argparse import ArgumentParser
from typing import Any

from trafficctl import values
from trafficmond import figures


def argument(parser: ArgumentParser, default: float | None = None) -> None:
    """Adds the option; calls send its value as `confirm_within_s`."""
    usual = f" ({figures.span(default)} unless given)" if default else ""
    text = f"put it on probation: it is taken back after this time unless confirmed{usual}"
    declared: dict[str, Any] = {"metavar": "TIME", "type": values.duration, "dest": "confirm_within_s"}
    parser.add_argument("--confirm-within", **declared, default=default, help=text)


def forget_copy(probation: dict[str, Any] | None) -> None:
    """Removes the settings file that apply --default made. If this user may not, it stays and has no effect."""
    if not probation or not probation["folder"]:
        return
    from pathlib import Path

    from trafficmond.policy.trial import DEFAULT_COPY

    if DEFAULT_COPY.fullmatch(probation["folder"]):
        with contextlib.suppress(OSError):
            Path(probation["folder"]).unlink()


def status_line(probation: dict[str, Any]) -> str:
    left = figures.span(max(0.0, probation["left_s"]))
    by = f", by {figures.plain(probation['user'])}" if probation["user"] else ""
    until = time.strftime("%H:%M:%S", time.localtime(probation["until"]))
    what = figures.plain(probation["what"])
    return f"ON PROBATION for {left} (until {until}), keep it with trafficctl confirm: {what}{by}"
