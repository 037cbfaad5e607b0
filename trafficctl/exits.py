"""The exit codes, and the exit code for each error."""

from trafficmond.control.client import FORBIDDEN, INTERFACE, UNREACHABLE
from trafficmond.errors import ControlError, TrafficmonError

DONE = 0
NO = 1  # nothing found, refused, or not in order
USAGE = 2  # wrong arguments
UNREACHABLE_DAEMON = 3
NOT_PERMITTED = 4


class UsageError(ControlError):
    """Arguments, or files that were named, with which a command does nothing; the exit code is USAGE."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, name="usage", hint=hint)


_BY_NAME = {
    UNREACHABLE: UNREACHABLE_DAEMON,
    f"{INTERFACE}.Busy": UNREACHABLE_DAEMON,
    FORBIDDEN: NOT_PERMITTED,
    f"{INTERFACE}.PermissionDenied": NOT_PERMITTED,
    f"{INTERFACE}.Invalid": USAGE,
    "org.varlink.service.InvalidParameter": USAGE,
    "usage": USAGE,
}


def code_of(error: TrafficmonError) -> int:
    return _BY_NAME.get(error.name, NO) if isinstance(error, ControlError) else NO
