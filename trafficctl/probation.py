"""The line that shows a probation, and the removal of the settings copy that `apply --default` made for it."""

import contextlib
import time
from typing import Any

from trafficmond import figures


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
