"""What an examination says."""

from __future__ import annotations

from dataclasses import dataclass

OK, WARN, FAIL = "ok", "warn", "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing examined. `advice` says what to do about it, in the imperative; empty where all is well."""

    subject: str
    state: str  # ok, warn (works, less well or less surely) or fail (does not work)
    what: str
    advice: str = ""
