"""The result of an examination."""

from __future__ import annotations

from dataclasses import dataclass

OK, WARN, FAIL = "ok", "warn", "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One result. `advice` says what to do, in the imperative; empty if nothing need be done."""

    subject: str
    state: str  # ok, warn (works, but less well or not always) or fail (does not work)
    what: str
    advice: str = ""
