"""What is compiled ahead, the programs for the kernel and their parser as a library: where it is, and its structs."""

from pathlib import Path
from typing import Any

_HERE = Path(__file__).resolve().parent
FOLDERS = (
    _HERE.parents[1] / "build",  # a checkout, after make
    _HERE,  # the wheel of pip
    Path("/usr/lib/trafficmon"),  # Debian's package
)
HINT = "run make build, or install the trafficmon package, or the wheel that pip makes of the sources"


def from_wheel() -> bool:
    """Whether pip has installed this, so that nobody has set up the system for it."""
    return any(_HERE.glob("*.bpf.o"))


def fields(*runs: tuple[Any, str]) -> tuple[tuple[str, Any], ...]:
    """The `_fields_` of a struct for ctypes, given as (type, "name name ...") for fields of one type in a row."""
    return tuple((name, kind) for kind, names in runs for name in names.split())
