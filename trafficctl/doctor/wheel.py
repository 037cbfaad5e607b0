"""Examines, after an installation with pip, what Debian's package would have set up."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

from trafficctl.doctor.examination import OK, SERVICE, WARN, Finding, Host
from trafficmond.compiled import from_wheel


def examine(host: Host) -> Iterator[Finding]:
    """Findings about missing modules and the service; none if this was not installed with pip."""
    if not from_wheel():
        return
    if importlib.util.find_spec("systemd") is None:
        what = "Python has no module for it: the daemon's messages go to standard error"
        advice = "if systemd's headers and a C compiler are installed: pip install systemd-python"
        yield Finding("journal", WARN, what, advice)
    if host.text("/etc/services") is None:
        what = "there is no /etc/services, so rules can use the names of 8 services only"
        yield Finding("names of services", WARN, what, "install netbase")
    if not host.path(Path("/run/systemd/system")).exists():
        return
    if host.has_service or host.path(f"/etc/systemd/system/{SERVICE}").exists():
        yield Finding("service", OK, f"there is a {SERVICE}")
        return
    units, programs = Path(sys.prefix) / "share/trafficmon/systemd", Path(sys.prefix) / "bin"
    what = f"there is no {SERVICE}: a daemon started by hand ends with its terminal and has all rights of root"
    advice = (
        f"copy sysusers.d, tmpfiles.d and the units from {units} below /etc, and in the units write {programs} for "
        "/usr/sbin and /usr/bin; then: systemd-sysusers; systemd-tmpfiles --create; systemctl daemon-reload"
    )
    yield Finding("service", WARN, what, advice)
