"""What pip does beyond pyproject.toml: it compiles the data path and its parser into the wheel.

Debian's package is made without this file: it puts them elsewhere.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from setuptools import Distribution, setup
from setuptools.command.build_py import build_py

try:
    from setuptools.command.bdist_wheel import bdist_wheel
except ImportError:  # setuptools before 70.1
    from wheel.bdist_wheel import bdist_wheel

UNITS = ("systemd", "systemd/sysusers.d", "systemd/tmpfiles.d")
OBJECTS = ("", "-units", "-inside", "-inside-units", "-dns", "-process")
FILES = (*(f"trafficmon{name}.bpf.o" for name in OBJECTS), "libtmparse.so")


class Build(build_py):
    """The packages, and what is compiled for them."""

    def run(self) -> None:
        """Compile and copy."""
        super().run()
        if self.editable_mode:  # a checkout is run with what make has built in it
            return
        try:
            subprocess.run(["make", "build"], check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            sys.exit(
                f"trafficmon cannot be compiled ({error}). It takes make, clang, llvm-strip, a C compiler, and the "
                "headers of libbpf and Linux; on Debian: apt-get install make clang llvm gcc libc6-dev "
                "libbpf-dev"
            )
        folder = Path(self.build_lib) / "trafficmond" / "compiled"
        for name in FILES:
            shutil.copyfile(Path("build") / name, folder / name)


class Wheel(bdist_wheel):
    """For any Python 3, and for machines like this one: the library is no extension module."""

    def get_tag(self) -> tuple[str, str, str]:
        """The name's last part."""
        return ("py3", "none", super().get_tag()[2])


class Package(Distribution):
    """Whether the wheel depends on the machine."""

    def has_ext_modules(self) -> bool:
        """It does."""
        return True


commands: dict[str, Any] = {"build_py": Build, "bdist_wheel": Wheel}
units = [
    (f"share/trafficmon/{folder}", [str(path) for path in sorted(Path(folder).iterdir()) if path.is_file()])
    for folder in UNITS
]
setup(cmdclass=commands, distclass=Package, data_files=units)
