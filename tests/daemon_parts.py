"""A daemon whose parts a test replaces."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from trafficmond.config.flags import parse_flags
from trafficmond.config.settings import Settings
from trafficmond.daemon import Daemon


class Notes:
    """Hears what the daemon and its pipeline say."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, _message: Any, text: str, _fields: Any = None) -> None:
        self.said.append(text)

    def report_failure(self, text: str) -> None:
        self.said.append(text)


def made(tmp_path: Path) -> tuple[Any, Notes]:
    """A daemon with parts that a test replaces."""
    notes, subject = Notes(), Daemon(Settings(cidr_dir=tmp_path, state_dir=tmp_path), parse_flags([]))
    parts: Any = subject
    parts.sinks = notes
    parts.pipeline = SimpleNamespace(steps=lambda *_: iter(()), report_failure=notes.report_failure, table=())
    parts.datapath = SimpleNamespace(
        options=None,
        configure=lambda _: None,
        drain=lambda: "deltas",
        attached={},
        accounting=lambda: SimpleNamespace(seen=SimpleNamespace(packets=0)),
    )
    parts.rulebook = SimpleNamespace(in_force=None, error=None, guard=())
    parts.network = SimpleNamespace(guard=lambda *_: [])
    return parts, notes
