"""Examines the permissions that the daemon needs, and those of its users."""

from collections.abc import Iterator

from trafficctl.doctor.examination import FAIL, OK, WARN, Finding, Host
from trafficmond.control.peers import ADMIN_GROUP, READ_GROUP
from trafficmond.files import on_bpffs

_USER = "trafficmon"  # of the unit
_CANNOT_START = "the service cannot start"
_MAKE = "make it: systemd-tmpfiles --create trafficmon.conf"
# linux/capability.h
_CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_PERFMON": 38, "CAP_BPF": 39}


def examine(host: Host) -> Iterator[Finding]:
    yield from _capabilities(host)
    yield from _bpffs(host)
    yield from _groups(host)


def _capabilities(host: Host) -> Iterator[Finding]:
    status = host.text("/proc/self/status") or ""
    sets = dict(line.split(":\t", 1) for line in status.splitlines() if line.startswith("Cap"))
    if "CapBnd" not in sets:
        return
    bounding = int(sets["CapBnd"], 16)
    lost = [name for name, bit in _CAPABILITIES.items() if not bounding >> bit & 1]
    if lost:
        what = f"not available here: {', '.join(lost)}"
        yield Finding("capabilities", FAIL, what, f"give them to the container: --cap-add={','.join(lost)}")
    else:
        yield Finding("capabilities", OK, f"available: {', '.join(_CAPABILITIES)}")


def _bpffs(host: Host) -> Iterator[Finding]:
    pins = host.settings.pin_dir
    if on_bpffs(pins, host.path("/proc/mounts")):
        yield Finding("bpffs", OK, f"mounted for {pins}")
        if host.has_service:
            yield _pin_directory(host)
    else:
        what = f"no bpffs is mounted for {pins}: the daemon does not start without it"
        yield Finding("bpffs", FAIL, what, "mount it: mount -t bpf bpf /sys/fs/bpf")


def _pin_directory(host: Host) -> Finding:
    """The directory of pins. The service cannot make it: systemd-tmpfiles does, when the system starts."""
    pins, users = host.settings.pin_dir, (host.text("/etc/passwd") or "").splitlines()
    number = next((line.split(":")[2] for line in users if line.startswith(f"{_USER}:")), None)
    try:
        owner = host.path(pins).stat().st_uid
    except FileNotFoundError:
        return Finding("pin directory", FAIL, f"there is no {pins}: {_CANNOT_START}", _MAKE)
    except OSError:  # only root may read bpffs
        return Finding("pin directory", WARN, f"{pins} cannot be seen", "run as root: sudo trafficctl doctor")
    if number is not None and owner != int(number):
        advice = f"give it to the service: chown -R {_USER}:{_USER} {pins}"
        return Finding("pin directory", FAIL, f"{pins} does not belong to user {_USER}: {_CANNOT_START}", advice)
    return Finding("pin directory", OK, f"{pins} belongs to the service")


def _groups(host: Host) -> Iterator[Finding]:
    groups = {line.partition(":")[0] for line in (host.text("/etc/group") or "").splitlines()}
    for group, purpose in ((READ_GROUP, "look"), (ADMIN_GROUP, "change rules")):
        if group in groups:
            yield Finding("groups", OK, f"members of {group} may {purpose}")
        else:
            what = f"there is no group {group}: only root may {purpose}"
            yield Finding("groups", WARN, what, f"create it: groupadd --system {group}")
