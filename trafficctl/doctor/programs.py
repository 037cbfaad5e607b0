"""Examines whether the programs load: loads them into this kernel, without attaching them, and unloads them."""

import importlib.util
import time
from collections.abc import Iterator

from trafficctl.doctor.daemon import unit_state
from trafficctl.doctor.examination import FAIL, OK, SERVICE, WARN, Finding, Host
from trafficmond.dataclass import replace
from trafficmond.errors import TrafficmonError

_SMALL = 1024  # records of each map, enough for a test
_EXAMPLES = "/usr/share/doc/trafficmon/examples"


def examine(host: Host) -> Iterator[Finding]:
    """Findings about each loader that the settings allow."""
    allowed = ("libbpf", "bcc") if host.settings.loader == "auto" else (host.settings.loader,)
    if "libbpf" in allowed:
        yield _libbpf(host, required="bcc" not in allowed)
    if "bcc" in allowed:
        yield from _bcc(host, required="libbpf" not in allowed)


def _libbpf(host: Host, required: bool) -> Finding:
    from trafficmond.datapath import loader
    from trafficmond.datapath.loading import sizes
    from trafficmond.part_options import options

    worst = FAIL if required or importlib.util.find_spec("bcc") is None else WARN
    try:
        wanted = sizes(options(host.settings))
        small = replace(wanted, capacity=_SMALL, ring=_SMALL, inners=min(wanted.inners, _SMALL))
        path = loader.find_object(small.look_inside, host.settings.flows.units)
        if not host.is_root:
            return Finding("loader libbpf", WARN, f"{path}: not tried", "run as root: sudo trafficctl doctor")
        began = time.monotonic()
        loader.load_libbpf(small, {}, None, owners=host.settings.flows.units).close()
        took = 1000 * (time.monotonic() - began)
    except TrafficmonError as error:
        return Finding("loader libbpf", worst, str(error.args[0]), error.hint or "see the message")
    return Finding("loader libbpf", OK, f"{path} loads, in {took:.0f} ms")


def _bcc(host: Host, required: bool) -> Iterator[Finding]:
    """The requirements of the second loader: bcc with LLVM, and a unit without MemoryDenyWriteExecute."""
    if importlib.util.find_spec("bcc") is None:
        what = "not installed" + ("" if required else ", not needed")
        advice = "install it (about 240 MB with LLVM): apt-get install python3-bpfcc"
        yield Finding("loader bcc", FAIL if required else OK, what, advice if required else "")
        return
    forbidden = host.has_service and unit_state("MemoryDenyWriteExecute").get("MemoryDenyWriteExecute") == "yes"
    if forbidden and required:
        advice = f"put {_EXAMPLES}/bcc.conf into /etc/systemd/system/{SERVICE}.d/; systemctl daemon-reload; restart it"
        yield Finding("loader bcc", FAIL, "installed, but the unit does not let it run what it compiles", advice)
    elif forbidden:
        yield Finding("loader bcc", OK, "installed; not usable by the unit, and not needed")
    else:
        yield Finding("loader bcc", OK, "installed")
