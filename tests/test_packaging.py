"""The package is built with what its control file names for that, and with nothing else that a machine may have."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MODULES = {"python3-numpy": "numpy", "python3-pyroute2": "pyroute2", "python3-systemd": "systemd"}
MODULES |= {"python3-toml": "toml", "python3-watchdog": "watchdog", "sqlite-utils": "sqlite_utils"}
# Runs packaging/generate as `make apt-repo` does; the first argument names modules that are not installed.
GENERATE = """
import runpy, sys
class Missing:
    names = sys.argv.pop(1).split(",")
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}")
sys.meta_path.insert(0, Missing())
runpy.run_path("packaging/generate", run_name="__main__")
"""


def named(field: str) -> set[str]:
    """The packages that a field of the control file names."""
    found = re.search(rf"^{field}: (.*?)^\S", (ROOT / "packaging/debian/control").read_text(), re.M | re.S)
    assert found
    return set(re.findall(r"[a-z0-9][a-z0-9+.-]{2,}", re.sub(r"\$\{.*?\}|\(.*?\)", "", found[1])))


def test_pages_and_completions_are_made_with_the_build_dependencies_alone(tmp_path: Path) -> None:
    assert named("Depends") - {"libbpf1"} == set(MODULES)
    missing = ",".join(MODULES[package] for package in sorted(set(MODULES) - named("Build-Depends")))
    command = ["/usr/bin/python3", "-c", GENERATE, missing, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr[-1000:]
    assert (tmp_path / "man/trafficctl.1").exists()


def test_build_deb_installs_the_build_dependencies() -> None:
    installs = re.search(
        r"^packaging/need (build-essential(?:.*\\\n)*.*)", (ROOT / "packaging/build-deb").read_text(), re.M
    )
    assert installs
    real = {name for name in named("Build-Depends") if not name.startswith(("dh-sequence-", "debhelper-compat"))}
    assert real <= set(re.findall(r"[a-z0-9+.-]+", installs[1]))


def test_the_socket_for_sharing_is_stopped_after_those_who_ask_it_at_their_end() -> None:
    """With them, in one command, systemd resets their connections, whatever the order of the units."""
    prerm = (ROOT / "packaging" / "debian" / "trafficmon.prerm").read_text()
    stops = [line.split()[2:] for line in prerm.splitlines() if line.strip().startswith("deb-systemd-invoke stop")]
    asking = next(at for at, units in enumerate(stops) if "trafficmond-pins.service" in units)
    asked = [at for at, units in enumerate(stops) if "trafficmon-share.socket" in units]
    assert asked == [asking + 1]
