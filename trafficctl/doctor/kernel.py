"""Examines the features of the kernel that the programs need. Its version is shown, not compared."""

import gzip
import re
from collections.abc import Iterator

from trafficctl.doctor.examination import FAIL, OK, WARN, Finding, Host

# option -> its purpose; the first two are required
_NEEDED = {"CONFIG_BPF_SYSCALL": "BPF", "CONFIG_NET": "networking"}
_EGRESS = {"CONFIG_NET_CLS_ACT": "egress on kernels without tcx", "CONFIG_NET_SCH_INGRESS": "egress accounting"}


def examine(host: Host) -> Iterator[Finding]:
    release = host.text("/proc/sys/kernel/osrelease") or "unknown"
    yield Finding("kernel", OK, f"Linux {release}")
    present = host.path("/sys/kernel/btf/vmlinux").exists()
    what = "present" if present else "absent, and not needed: the programs read no kernel structures"
    yield Finding("kernel BTF", OK, what)
    yield from _jit(host)
    yield from _lockdown(host)
    yield from _options(host, release)


def _jit(host: Host) -> Iterator[Finding]:
    switch = "/proc/sys/net/core/bpf_jit_enable"
    jit = host.text(switch)
    if jit is None and not host.path(switch).exists():
        yield Finding("BPF JIT", OK, "unknown: only the initial network namespace shows it")
    elif jit is None:
        yield Finding("BPF JIT", WARN, "cannot be read", "run as root: sudo trafficctl doctor")
    elif jit == "0":
        advice = "turn it on: sysctl -w net.core.bpf_jit_enable=1"
        yield Finding("BPF JIT", WARN, "off: each packet costs several times as much CPU time", advice)
    else:
        yield Finding("BPF JIT", OK, "on")


def _lockdown(host: Host) -> Iterator[Finding]:
    found = re.search(r"\[(\w+)\]", host.text("/sys/kernel/security/lockdown") or "")
    if found and found[1] == "confidentiality":
        what = "confidentiality: the kernel refuses BPF that reads packets"
        yield Finding("lockdown", FAIL, what, "boot with lockdown=integrity or without it")
    elif found:
        yield Finding("lockdown", OK, found[1])


def _options(host: Host, release: str) -> Iterator[Finding]:
    config = _build_config(host, release)
    if config is None:
        return
    missing = [option for option in _NEEDED if option not in config]
    for option in missing:
        what = f"{option} is not set, so there is no {_NEEDED[option]}"
        yield Finding("kernel options", FAIL, what, "use a kernel that has it")
    lacking = [option for option in _EGRESS if option not in config] if host.settings.egress else []
    for option in lacking:
        advice = "use a kernel that has it, or set egress = false"
        yield Finding("kernel options", WARN, f"{option} is not set, so there is no {_EGRESS[option]}", advice)
    if not missing and not lacking:
        yield Finding("kernel options", OK, "every required option is set")


def _build_config(host: Host, release: str) -> set[str] | None:
    """The options that are set; None if the kernel's configuration cannot be read."""
    text = host.text(f"/boot/config-{release}")
    if text is None:
        try:
            text = gzip.decompress(host.path("/proc/config.gz").read_bytes()).decode("utf-8", "replace")
        except (OSError, EOFError):
            return None
    return {line.partition("=")[0] for line in text.splitlines() if line.endswith(("=y", "=m"))}
