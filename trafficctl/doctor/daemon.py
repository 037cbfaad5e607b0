"""Examines the daemon: whether it runs, and its status."""

import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from trafficctl.doctor.examination import FAIL, OK, SERVICE, WARN, Finding, Host
from trafficmond import figures
from trafficmond.control.client import UNREACHABLE, Client
from trafficmond.errors import ControlError


def examine(host: Host) -> Iterator[Finding]:
    try:
        with Client(host.socket, timeout_s=5) as client:
            status = client.call("Status")
    except ControlError as error:
        yield _silent(host, error)
        return
    runs = f"version {status['version']} runs as process {status['pid']}, loader {status['loader']}"
    yield Finding("daemon", OK, runs)
    if status["config"].get("error"):
        what = f"the files on disk are not in force: {status['config']['error']}"
        advice = "run trafficctl check and correct the files: until then the earlier rules stay in force"
        yield Finding("daemon", FAIL, what, advice)
    for warning in status.get("warnings") or ():
        yield Finding("daemon", WARN, warning, "see trafficctl status")
    for each in status["interfaces"]:
        if each["mode"] not in ("native", "generic"):
            advice = "see the journal: journalctl -u trafficmond"
            yield Finding("daemon", WARN, f"{each['name']}: {each['mode']}", advice)
    store = status["store"]
    if store["lost_rows"]:
        what = f"the store lost {figures.many(store['lost_rows'], 'row')}, state {store.get('state') or 'unknown'}"
        yield Finding("daemon", WARN, what, "use a faster disk, or free some space")


def _silent(host: Host, error: ControlError) -> Finding:
    """Why the daemon does not answer: it was not started, or it fails to start."""
    unit = unit_state() if host.has_service else {}
    state, result = unit.get("ActiveState", ""), unit.get("Result", "")
    comes_back = state == "activating" and unit.get("NRestarts", "0") != "0"
    if error.name == UNREACHABLE and (state == "failed" or comes_back):
        what = f"{SERVICE} does not start ({result or state}, {unit.get('NRestarts', '0')} restarts)"
        return Finding("daemon", FAIL, what, "see why: journalctl -u trafficmond -n 20")
    was_there = state == "active" or (not state and Path(host.socket).exists())
    worst = FAIL if error.name == UNREACHABLE and was_there else WARN
    return Finding("daemon", worst, str(error.args[0]), error.hint)


def unit_state(properties: str = "ActiveState,Result,NRestarts") -> Mapping[str, str]:
    """Properties of the service, by systemctl; empty if they cannot be read."""
    asked = ["systemctl", "show", f"--property={properties}", SERVICE]
    try:
        shown = subprocess.run(asked, capture_output=True, text=True, timeout=5, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    return dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
