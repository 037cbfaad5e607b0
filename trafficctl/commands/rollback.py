"""Take back what is on probation: the rules confirmed before are in force again at once.

No file of yours is changed. If files were on probation without a copy, they are refused until they change; trafficctl
apply tries them again.

Examples:
  sudo trafficctl rollback
"""

from argparse import Namespace

from trafficctl import probation, session
from trafficmond.figures import plain


def run(args: Namespace) -> None:
    with session.connect(args) as client:
        trial = client.call("Status").get("probation")
        reply = client.call("Rollback")
    probation.forget_copy(trial)
    session.output(args).report(reply, lambda *_: [f"rolled back: {plain(reply['rolled_back'])}"])
    session.print_notes(reply)
