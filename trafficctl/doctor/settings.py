"""Examines the settings and rules."""

import os
from collections.abc import Iterator

from trafficctl.checking import check
from trafficctl.doctor.examination import FAIL, OK, WARN, Finding, Host
from trafficmond.config.settings import CONFIG_FILE
from trafficmond.errors import TrafficmonError


def examine(host: Host) -> Iterator[Finding]:
    path = host.config or host.path(CONFIG_FILE)
    if not os.path.lexists(path):
        state = FAIL if host.config else OK
        yield Finding("settings", state, f"there is no {path}", "" if state == OK else "name the right file with -c")
        return
    try:
        checked = check(path)
    except TrafficmonError as error:
        yield Finding("settings", WARN, str(error.args[0]), error.hint)
        return
    for mistake in checked.mistakes:
        yield Finding("settings", FAIL, str(mistake), f"correct it; trafficctl check {path} shows the line")
    for note in checked.notes:
        yield Finding("settings", WARN, str(note))
    if not checked.mistakes:
        yield Finding("settings", OK, f"{path} is in order ({checked.counts})")
