"""The rules in force, strongest first; a prefix list is one line.

Precedence: guard, allowlist, ban, then rules and lists by the longest prefix, then the default.
`trafficctl explain ADDRESS` shows which of them decides for one address.

Examples:
  trafficctl rules
  trafficctl rules 203.0.113.0/24             those that overlap a prefix
  trafficctl rules -o csv > rules.csv
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from trafficctl import exits, session, values
from trafficmond.control.client import Client


def arguments(parser: ArgumentParser) -> None:
    """The prefix to look within."""
    parser.add_argument("within", nargs="?", metavar="CIDR", type=values.prefix, help="only rules that overlap this")


def _tell_beside(args: Namespace, client: Client) -> None:
    """What the table does not say: since when it counts, and what comes before most of it."""
    from trafficctl.render import units

    output, status = session.output(args), client.call("Status")
    output.line(output.style.dim(f"(packets and bytes since {units.clock(status['started_at'])}, the daemon's start)"))
    if bans := status["rules"].get("bans"):
        come = "comes" if bans == 1 else "come"
        output.line(f"{units.many(bans, 'ban')} {come} before rules and lists: trafficctl bans")


def run(args: Namespace) -> int:
    """Show the rules; 1 if there are none."""
    from trafficctl.render.columns import RULES

    with session.connect(args) as client:
        rows = (row for reply in client.stream("Rules", within=args.within) for row in reply["rules"])
        found = session.show_rows(args, rows, RULES, "Rule", "no rules")
        if args.output == "human":
            _tell_beside(args, client)
    return exits.DONE if found or not args.within else exits.NO
