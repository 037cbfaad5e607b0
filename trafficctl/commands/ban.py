"""Ban an address or a prefix for a while.

Bans end on time even if the daemon is gone. They come before rules and lists, and after the guard (this host's
own lifelines) and the allowlist, which refuse them. For what shall stay, use add-cidr --save.

Examples:
  trafficctl ban 203.0.113.5
  trafficctl ban 203.0.113.0/24 --ttl 2h --reason "login attempts"
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from trafficctl import exits, session, values


def arguments(parser: ArgumentParser) -> None:
    """Whom, how long, why."""
    parser.add_argument("cidr", metavar="CIDR", type=values.prefix, help="an address or a prefix")
    parser.add_argument(
        "--ttl", metavar="TIME", type=values.duration, help="how long: 10m, 2h (default: response.ban_time)"
    )
    parser.add_argument("--reason", default="", help="for the record")
    parser.add_argument("--force", action="store_true", help="even if it cuts off this host's peers")


def run(args: Namespace) -> int:
    """Ban, and show the ban."""
    from trafficctl.render.columns import BANS

    with session.connect(args) as client:
        reply = client.call("Ban", cidr=args.cidr, ttl_s=args.ttl, reason=args.reason or None, force=args.force or None)
    session.show_rows(args, [reply["ban"]], BANS, "BanEntry")
    return exits.DONE
