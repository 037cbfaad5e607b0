"""Does the daemon run, and is it well?"""

from __future__ import annotations

from collections.abc import Iterator

from trafficctl.doctor.finding import FAIL, OK, WARN, Finding
from trafficctl.doctor.host import Host
from trafficmond.control.client import Client
from trafficmond.errors import ControlError


def examine(host: Host) -> Iterator[Finding]:
    """What it says of itself, if it answers."""
    try:
        with Client(host.socket, timeout_s=5) as client:
            status = client.call("Status")
    except ControlError as error:
        yield Finding("daemon", WARN, str(error.args[0]), error.hint)
        return
    yield Finding(
        "daemon", OK, f"version {status['version']} runs as process {status['pid']}, loader {status['loader']}"
    )
    if status["config"].get("error"):
        yield Finding(
            "daemon", FAIL, f"its files are not in force: {status['config']['error']}", "run trafficctl check"
        )
    for warning in status.get("warnings") or ():
        yield Finding("daemon", WARN, warning, "see trafficctl status")
    for each in status["interfaces"]:
        if each["mode"] not in ("native", "generic"):
            yield Finding(
                "daemon", WARN, f"{each['name']}: {each['mode']}", "see its journal: journalctl -u trafficmond"
            )
    store = status["store"]
    if store["lost_rows"] or store.get("state") not in (None, "ok"):
        what = f"the store lost {store['lost_rows']} rows, state {store.get('state') or 'unknown'}"
        yield Finding("daemon", WARN, what, "give it a faster disk or more room")
