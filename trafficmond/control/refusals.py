"""Why a request that is understood is not met."""

from __future__ import annotations

from trafficmond.errors import ControlError


class NotFound(ControlError):
    """Nothing answers to what was asked for: no such rule, ban or threat."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, name="io.trafficmon.NotFound", hint=hint)


class Refused(ControlError):
    """Understood, permitted to this caller, and not done: it would cut a lifeline, or nothing would change."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, name="io.trafficmon.Refused", hint=hint)


class Busy(ControlError):
    """Too much of that kind is asked at once; nothing was done."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, name="io.trafficmon.Busy", hint=hint)
