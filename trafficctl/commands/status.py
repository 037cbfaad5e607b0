"""The state of the daemon, its interfaces, its accounting and its store.

The accounting is exact: packets seen = in flows + unattributed + not IP + malformed + pending. The numbers in
parentheses are parts of these: dropped, and evicted from the kernel's ledger before it was read.

Examples:
  trafficctl status
  trafficctl status -o json | jq .accounting.seen.packets
  trafficctl status -o csv                    every value with its key
"""

from argparse import Namespace

from trafficctl import session


def run(args: Namespace) -> None:
    from trafficctl.render.status import render

    session.output(args).report(session.call(args, "Status"), render)
