"""The state of fetched lists: a file beside them. Everybody may read it, so it has no URLs."""

import hashlib
import json
from pathlib import Path
from typing import Any

from trafficmond import files
from trafficmond.dataclass import asdict, dataclass

STATE_NAME = ".fetched.json"


@dataclass(frozen=True, slots=True)
class Fetched:
    """The state of one list; times are epoch seconds, 0: never."""

    source: str = ""  # digest of the URL, which identifies the list
    etag: str = ""
    modified: str = ""
    checked: float = 0.0  # when the server last answered
    changed: float = 0.0  # when the list last changed
    tried: float = 0.0  # when it was last requested
    failing_since: float = 0.0  # 0: the last request worked
    error: str = ""
    prefixes: int = 0
    wrong: int = 0  # lines that are not prefixes


def digest(url: str) -> str:
    """A digest of a URL, which identifies it without showing it."""
    return hashlib.blake2s(url.encode(), digest_size=16).hexdigest()


def read(folder: Path) -> dict[str, Fetched]:
    """The states by label; empty if the file is missing or cannot be used: then all lists are fetched again."""
    try:
        raw = json.loads(files.read(folder / STATE_NAME))
        return {label: _fetched(each) for label, each in raw.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def write(folder: Path, states: dict[str, Fetched]) -> None:
    text = json.dumps({label: asdict(each) for label, each in sorted(states.items())}, indent=1)
    files.replace(folder / STATE_NAME, text.encode(), mode=0o644)


def _fetched(raw: dict[str, Any]) -> Fetched:
    plain = Fetched()
    return Fetched(**{name: type(getattr(plain, name))(raw[name]) for name in plain.__slots__ if name in raw})
