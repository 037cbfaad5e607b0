"""The errors with which methods refuse a request."""

from trafficmond.errors import ControlError


class Refusal(ControlError):
    """A request that the daemon understands and does not carry out. The class is the Varlink error of its name."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, name=f"io.trafficmon.{type(self).__name__}", hint=hint)


class NotFound(Refusal):
    """There is no such rule, ban or threat."""


class Refused(Refusal):
    """The request would cut off a lifeline, or would change nothing."""


class Busy(Refusal):
    """Too many requests of that kind are waiting already."""
