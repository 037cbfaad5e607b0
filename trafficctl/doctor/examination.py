"""What an examination gets, this host (its files below one root, so tests can use another), and yields, findings."""

import os
from pathlib import Path

from trafficmond.config.settings import Settings
from trafficmond.control.client import DEFAULT_SOCKET
from trafficmond.dataclass import dataclass, field

SERVICE = "trafficmond.service"
OK, WARN, FAIL = "ok", "warn", "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One result. `advice` says what to do, in the imperative; empty if nothing need be done."""

    subject: str
    state: str  # ok, warn (works, but less well or not always) or fail (does not work)
    what: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Host:
    settings: Settings = field(default_factory=Settings)
    config: Path | None = None  # the settings file asked for; None: the usual one
    root: Path = Path("/")
    socket: str = DEFAULT_SOCKET
    is_root: bool = field(default_factory=lambda: os.geteuid() == 0)

    @property
    def has_service(self) -> bool:
        """Whether trafficmond is installed as a systemd unit by the package."""
        return self.path("/run/systemd/system").exists() and self.path(f"/usr/lib/systemd/system/{SERVICE}").exists()

    def path(self, path: str | Path) -> Path:
        """An absolute path, moved under the root."""
        return self.root / str(path).lstrip("/")

    def text(self, path: str | Path) -> str | None:
        """The text of a file without its last line end; None if it cannot be read."""
        try:
            return self.path(path).read_text("utf-8", errors="replace").rstrip("\n")
        except OSError:
            return None
