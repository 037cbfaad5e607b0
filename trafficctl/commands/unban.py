"""Lift every ban within a prefix.

Examples:
  trafficctl unban 203.0.113.5
  trafficctl unban 0.0.0.0/0                  all of IPv4's
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from trafficctl import exits, session, values


def arguments(parser: ArgumentParser) -> None:
    """Whom."""
    parser.add_argument("cidr", metavar="CIDR", type=values.prefix, help="an address or a prefix")


def run(args: Namespace) -> int:
    """Lift, and show what was lifted; 1 if there was nothing to lift."""
    from trafficctl.render.columns import BANS

    with session.connect(args) as client:
        reply = client.call("Unban", cidr=args.cidr)
    session.show_rows(args, reply["lifted"], BANS, "BanEntry")
    return exits.DONE
