"""This host as the examinations read it: its files under one root, so that a test can have another."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from trafficmond.config.settings import Settings
from trafficmond.control.client import DEFAULT_SOCKET

SERVICE = "trafficmond.service"


@dataclass(frozen=True, slots=True)
class Host:
    """Where to look, with which settings, as whom."""

    settings: Settings = field(default_factory=Settings)
    config: Path | None = None  # the settings file asked for; None: the usual one
    root: Path = Path("/")
    socket: str = DEFAULT_SOCKET
    is_root: bool = field(default_factory=lambda: os.geteuid() == 0)

    @property
    def has_service(self) -> bool:
        """Is trafficmond a systemd unit here, as the package makes it?"""
        return self.path("/run/systemd/system").exists() and self.path(f"/usr/lib/systemd/system/{SERVICE}").exists()

    def path(self, path: str | Path) -> Path:
        """An absolute path, under the root."""
        return self.root / str(path).lstrip("/")

    def text(self, path: str | Path) -> str | None:
        """A file's text without the last line end, None if it cannot be read."""
        try:
            return self.path(path).read_text("utf-8", errors="replace").rstrip("\n")
        except OSError:
            return None
