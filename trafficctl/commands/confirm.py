"""Keep what is on probation.

Rules of another folder are put in the place of cidr.d first, and a rules file in that of the one of its name; what
was there before stays beside it, with the time in its name.

Examples:
  sudo trafficctl confirm
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from contextlib import ExitStack
from pathlib import Path

from trafficctl import exits, session
from trafficctl.install import installed
from trafficctl.render.units import plain


def arguments(_: ArgumentParser) -> None:
    """None of its own."""


def run(args: Namespace) -> int:
    """Confirm, and say what is confirmed."""
    with session.connect(args) as client, ExitStack() as stack:
        client.patient()
        trial = client.call("Status")["probation"]
        kept = None
        if trial and trial["folder"]:
            kept = stack.enter_context(installed(Path(trial["folder"]), Path(trial["cidr_dir"])))
        reply = client.call("Confirm")
    if kept:
        reply["notes"].append(f"what was there before is in {kept}")
    session.output(args).report(reply, lambda *_: [f"confirmed: {plain(reply['confirmed'])}"])
    session.tell_notes(reply)
    return exits.DONE
