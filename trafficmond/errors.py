"""The exception tree."""

import re
from typing import NamedTuple


class TrafficmonError(Exception):
    """Base of all errors for people. `hint` is the next step in the imperative ("run trafficctl check"), or empty."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message}; {self.hint}" if self.hint else message

    def lines(self) -> list[str]:
        """All lines of the message, for a terminal."""
        return [str(self)]


_PLACE = re.compile(r"(.+?):(\d+)(?=:|$)")


class Diagnostic(NamedTuple):
    """A sentence about a place in a file that a person wrote."""

    where: str  # "path:line", "path: key", or a path
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"

    def place(self) -> tuple[str, int]:
        """The sort key: file and line (0: unknown)."""
        found = _PLACE.match(self.where)
        return (found[1], int(found[2])) if found else (self.where.partition(": ")[0], 0)


class Mistake(Diagnostic):
    """Why the file cannot be used as it is, and a valid alternative."""


class Advice(Diagnostic):
    """What is worth knowing about a file that is used."""


class ConfigError(TrafficmonError):
    """Invalid settings, rules or parameters; carries every mistake found, not only the first."""

    def __init__(self, mistakes: list[Mistake], *, hint: str = "") -> None:
        self.mistakes = mistakes
        count = len(mistakes)
        head = str(mistakes[0]) if mistakes else "no mistake given"
        more = f" (and {count - 1} more)" if count > 1 else ""
        super().__init__(head + more, hint=hint)

    def lines(self) -> list[str]:
        """Every mistake, and what to do next."""
        return [*map(str, self.mistakes), *([self.hint] if self.hint else [])]


class DatapathError(TrafficmonError):
    """The kernel refused a program, a map, an attachment, or is missing a feature."""


class ForeignProgramError(DatapathError):
    """Another XDP program is attached to the interface; it is never replaced without being asked to."""


class StoreError(TrafficmonError):
    """flows.db cannot be opened, read or written."""


class ControlError(TrafficmonError):
    """The control socket cannot be served or reached, or the daemon answered with an error.

    `name` is the Varlink error's name ("io.trafficmon.PermissionDenied"), empty if there was none.
    """

    def __init__(self, message: str, *, name: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.name = name


class Refusal(ControlError):
    """A request that the daemon understands and does not carry out. The class is the Varlink error of its name."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, name=f"io.trafficmon.{type(self).__name__}", hint=hint)


class NotFound(Refusal):
    """What the request names does not exist."""


class Refused(Refusal):
    """Something has to change first, or is protected."""


class Busy(Refusal):
    """There is too much to do for this request now."""
