"""Keep what is on probation.

A folder that was applied replaces cidr.d, a rules file the one with its name in cidr.d, and a settings file
trafficmond.toml. The previous files are kept beside it, with the time in their name.

Examples:
  sudo trafficctl confirm
"""

from argparse import Namespace
from contextlib import ExitStack
from pathlib import Path

from trafficctl import probation, session
from trafficctl.install import installed
from trafficmond.figures import plain


def run(args: Namespace) -> None:
    with session.connect(args) as client, ExitStack() as stack:
        client.patient()
        trial = client.call("Status").get("probation")
        kept = None
        if trial and trial["place"]:
            tried, place = Path(trial["folder"]), Path(trial["place"])
            # The copy is hidden in cidr.d, where a file that is not a rules file is a mistake.
            kept = stack.enter_context(installed(tried, place, hide=place.parent == Path(trial["cidr_dir"])))
        reply = client.call("Confirm")
    probation.forget_copy(trial)
    if kept:
        reply["notes"].append(f"the previous files are kept in {kept}")
    session.output(args).report(reply, lambda *_: [f"confirmed: {plain(reply['confirmed'])}"])
    session.print_notes(reply)
