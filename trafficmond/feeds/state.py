"""What is known of each fetched list: a file beside them that everybody may read, and so without URLs."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trafficmond import files

STATE_NAME = ".fetched.json"


@dataclass(frozen=True, slots=True)
class Fetched:
    """Of one list; times are epoch seconds, 0: never."""

    source: str = ""  # digest of the URL: a list from elsewhere is another
    etag: str = ""
    modified: str = ""
    checked: float = 0.0  # when a server last answered
    changed: float = 0.0  # when it last gave something else
    tried: float = 0.0
    failing_since: float = 0.0  # 0: the last try worked
    error: str = ""
    prefixes: int = 0
    wrong: int = 0  # lines that are no prefix


def digest(url: str) -> str:
    """Tells URLs apart without telling them."""
    return hashlib.blake2s(url.encode(), digest_size=16).hexdigest()


def read(folder: Path) -> dict[str, Fetched]:
    """By label; empty where there is none, or none that can be used: then all is fetched anew."""
    try:
        raw = json.loads((folder / STATE_NAME).read_text("utf-8"))
        return {label: _fetched(each) for label, each in raw.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def write(folder: Path, states: dict[str, Fetched]) -> None:
    """Raises OSError."""
    text = json.dumps({label: asdict(each) for label, each in sorted(states.items())}, indent=1)
    files.replace(folder / STATE_NAME, text.encode(), mode=0o644)


def _fetched(raw: dict[str, Any]) -> Fetched:
    plain = Fetched()
    return Fetched(**{name: type(getattr(plain, name))(raw[name]) for name in plain.__slots__ if name in raw})
