"""The bans in force: who is banned, by whom, why and until when.

Examples:
  trafficctl bans
  trafficctl bans -o json | jq -r '.[].cidr'
"""

from argparse import Namespace

from trafficctl import session


def run(args: Namespace) -> None:
    from trafficctl.render.columns import BANS

    with session.connect(args) as client:
        rows = (row for reply in client.stream("Bans") for row in reply["bans"])
        session.show_rows(args, rows, BANS, "BanEntry", "no bans")
