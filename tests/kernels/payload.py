"""Runs inside each kernel, as root, in a copy of the tree; writes one JSON object to standard output.

What the kernel has ("yes", a word, or "no: " and the reason) and what trafficmon does there ("ok", or what went wrong):
the live tests of tests/lab, shortened to what may differ between kernels.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parents[1] / "lab")]

import judged  # noqa: E402
import kept  # noqa: E402
from kernel_rig import LOADER, ONLY, SETTINGS, SLOW, START, Rig, Wrong, note_verified, tc_filters  # noqa: E402
from tmlab import Daemon, DaemonFailed, Lab, LabError  # noqa: E402

from trafficmond.errors import TrafficmonError  # noqa: E402


def features(on: Rig) -> None:
    """What the kernel offers and what of it the daemon came to use."""
    wanted = ("kernel BTF", "BPF JIT", "kernel options", "loader libbpf")
    doctor = on.daemon.control("-o", "json", "doctor", check=False, timeout=SLOW)
    found = on.features
    found |= {
        each["subject"]: "yes" if each["state"] == "ok" else f"no: {each['what']}"
        for each in json.loads(doctor.stdout)
        if each["subject"] in wanted
    }
    status = on.daemon.status()
    found["loader"] = status["loader"]
    found["XDP on veth"] = status["interfaces"][0]["mode"]
    found["egress by"] = "clsact" if tc_filters(on) else "tcx"
    note_verified(on)


CHECKS: tuple[Callable[[Rig], None], ...] = (
    judged.services,
    judged.verdicts,
    judged.every_packet,
    judged.malformed,
    kept.egress,
    kept.units,
    judged.shadow,
    judged.link_headers,
    kept.ledger,
    kept.restart,
    judged.established,
    judged.tunnels,
    kept.names_asked_for,
    kept.processes,
    judged.ban_expiry,
    kept.look_inside,
    kept.detach,
    kept.beside,
)


# A daemon, or programs for six hooks: with bcc these compile. tests/lab does it with bcc on the kernel it runs on.
STARTING = {judged.every_packet, kept.egress, kept.restart, kept.look_inside, kept.beside, kept.processes}


def attempt(check: Callable[[Rig], None], on: Rig) -> str:
    """ "ok", or what went wrong; the whole of it goes to the console."""
    began = time.monotonic()
    try:
        check(on)
    except (Wrong, LabError, AssertionError, TrafficmonError, OSError, LookupError, ValueError) as error:
        said = f"daemon: {on.daemon.process and on.daemon.process.poll()}\n{on.daemon.said()[-3000:]}"
        print(f"{check.__name__}: {type(error).__name__}: {error}\n{said}", file=sys.stderr, flush=True)
        return f"no: {check.__name__}: {next(iter(str(error).splitlines()), repr(error))}"
    print(f"{check.__name__}: ok, {time.monotonic() - began:.1f} s", file=sys.stderr, flush=True)
    return "ok"


def main() -> None:
    found: dict[str, str] = {}
    checks: dict[str, str] = {}
    with Lab() as lab:
        daemon = Daemon(lab, SETTINGS, environment={"PYTHONFAULTHANDLER": "1"})
        daemon.patience_s = SLOW
        try:
            daemon.start(START[LOADER])
            on = Rig(lab, daemon)
            found = on.features
            checks["attach"] = attempt(features, on)
            checks |= {
                check.__name__.replace("_", " "): attempt(check, on)
                for check in CHECKS
                if ONLY in ("", check.__name__) and (LOADER == "libbpf" or check not in STARTING)
            }
        except DaemonFailed as failure:
            print(failure, file=sys.stderr, flush=True)
            checks["attach"] = f"no: {str(failure).strip().splitlines()[-1]}"
        finally:
            daemon.remove()
    json.dump({"release": os.uname().release, "features": found, "checks": checks}, sys.stdout)


if __name__ == "__main__":
    main()
