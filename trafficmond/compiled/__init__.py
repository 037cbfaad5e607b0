"""Where what is compiled ahead is: the programs for the kernel, and their parser as a library."""

from pathlib import Path

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
