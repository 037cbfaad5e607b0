"""Add a rule for a prefix; it is in force at once.

The rule lasts until it expires (--ttl) or you remove it (remove-cidr). Without --ttl and --save, it ends with the
daemon. A rule that would cut off this host's own lifelines is refused unless you use --force.

Examples:
  trafficctl add-cidr 203.0.113.0/24                               drop packets from there
  trafficctl add-cidr 203.0.113.0/24 --ttl 1h --label scanners     ... for an hour
  trafficctl add-cidr 2001:db8::/32 --action monitor --save        log packets, permanently
  trafficctl add-cidr 198.51.100.0/24 --action limit --limit 100/s at most 100 packets a second from each source
  trafficctl add-cidr 192.0.2.7 --direction egress                 drop packets to there
  trafficctl add-cidr 0.0.0.0/0 --port tcp/443 --action allow      let everybody use one service
  trafficctl add-cidr 203.0.113.0/24 --dry-run                     what it would have done in the last day
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace

from trafficctl import exits, probation, session, values
from trafficmond.errors import ControlError


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("cidr", metavar="CIDR", type=values.written_prefix, help="an address or a prefix")
    actions = ("allow", "monitor", "drop", "limit")
    parser.add_argument("--action", choices=actions, help="the action (default: drop; with --limit: limit)")
    parser.add_argument("--direction", choices=("ingress", "egress", "both"), default="ingress", help="default ingress")
    parser.add_argument(
        "--port",
        metavar="SERVICE",
        action="extend",
        type=values.services,
        help="only for tcp/443, udp/8000-8100, 53 (tcp and udp), icmp/8, gre, or names of /etc/services",
    )
    parser.add_argument("--label", default="", help="a name for logs, flows and statistics")
    parser.add_argument("--ttl", metavar="TIME", type=values.duration, help="how long: 30s, 10m, 1h30m, 7d")
    parser.add_argument("--limit", metavar="RATE", type=values.rate, help="packets a second for each source: 100/s")
    parser.add_argument("--burst", metavar="N", type=values.count, help="packets a source may send at once")
    parser.add_argument("--shadow", action="store_true", help="only log what it would do; promote puts it in force")
    parser.add_argument("--save", action="store_true", help="keep it over restarts")
    parser.add_argument("--force", action="store_true", help="even if it cuts off lifelines of this host")
    parser.add_argument("--dry-run", action="store_true", help="change nothing; show what it would have done (what-if)")
    probation.argument(parser)


def run(args: Namespace) -> int:
    """Adds the rule and shows it as it is in force."""
    from trafficctl.render.columns import RULES

    action = args.action or ("limit" if args.limit else "drop")
    if action == "limit" and not args.limit:
        raise ControlError("--action limit needs a rate", name="usage", hint="give the rate: --limit 100/s")
    if action != "limit" and (args.limit or args.burst):
        raise ControlError(f"--limit and --burst cannot be used with {action}", name="usage", hint="leave --action out")
    if args.dry_run:
        return _try(args, action)
    reply = session.call(
        args,
        "AddCidr",
        cidr=args.cidr,
        action=action,
        direction=args.direction,
        label=args.label or None,
        ttl_s=args.ttl,
        rate_per_s=args.limit,
        burst_packets=args.burst,
        save=args.save or None,
        force=args.force or None,
        ports=args.port,
        confirm_within_s=args.confirm_within,
        shadow=args.shadow or None,
    )
    session.show_change(args, "added", [reply["rule"]], RULES, "Rule", reply)
    return exits.DONE


def _try(args: Namespace, action: str) -> int:
    """Shows what the rule would have changed; the exit code is 1 if anything."""
    from trafficctl.whatif import ask, rules

    words = {
        "cidr": args.cidr,
        "action": action,
        "direction": args.direction,
        "label": args.label or None,
        "limit": f"{args.limit}/s" if args.limit else None,
        "burst": args.burst,
        "ports": args.port,
    }
    table = {key: value for key, value in words.items() if value is not None}
    if args.shadow:
        print("note: a rule in shadow only counts packets; this is what it does after you promote it", file=sys.stderr)
    return ask.ask_about(args, args.cidr, lambda now: rules.with_rule(now, table))
