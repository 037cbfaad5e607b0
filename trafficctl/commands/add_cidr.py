"""Add a rule for a prefix; it is in force at once.

The rule lasts until it expires (--ttl) or you remove it (remove-cidr). Without --ttl and --save, it ends with the
daemon. A rule that drops or limits addresses of the guard or the allowlist needs --force, unless it has --port or
--shadow.

Examples:
  trafficctl add-cidr 203.0.113.0/24                               drop packets from there
  trafficctl add-cidr 203.0.113.0/24 --ttl 1h --label scanners     ... for an hour
  trafficctl add-cidr 2001:db8::/32 --action monitor --save        log packets, permanently
  trafficctl add-cidr 198.51.100.0/24 --limit 100/s                at most 100 packets a second from each source
  trafficctl add-cidr 192.0.2.7 --direction egress                 drop packets to there
  trafficctl add-cidr 0.0.0.0/0 --port tcp/443 --action allow      let everybody use one service
  trafficctl add-cidr 203.0.113.0/24 --dry-run                     what it would have done in the last day
"""

import sys
from argparse import ArgumentParser, Namespace

from trafficctl import exits, options, session, values
from trafficctl.exits import UsageError

_RULE = ("cidr", "action", "direction", "label", "ports")
_LIMIT = ("rate_per_s", "burst_packets")
_TRIED = ("confirm_within_s", "shadow")


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("cidr", metavar="CIDR", type=values.written_prefix, help="an address or a prefix")
    actions = ("allow", "monitor", "drop", "limit")
    parser.add_argument("--action", choices=actions, help="the action (default: drop; with --limit: limit)")
    parser.add_argument("--direction", choices=("ingress", "egress", "both"), default="ingress", help="default ingress")
    options.add(parser, "--port", "--label", "--ttl")
    text = "packets a second for each source: 100/s"
    parser.add_argument("--limit", metavar="RATE", type=values.rate, dest="rate_per_s", help=text)
    text = "packets a source may send at once"
    parser.add_argument("--burst", metavar="N", type=values.count, dest="burst_packets", help=text)
    parser.add_argument("--shadow", action="store_true", help="only log what it would do; promote puts it in force")
    options.add(parser, "--save", "--force", "--dry-run", "--confirm-within")


def run(args: Namespace) -> int:
    from trafficctl.render.columns import RULES

    args.action = args.action or ("limit" if args.rate_per_s else "drop")
    if args.action == "limit" and not args.rate_per_s:
        raise UsageError("--action limit needs a rate", "give the rate: --limit 100/s")
    if args.action != "limit" and (args.rate_per_s or args.burst_packets):
        raise UsageError(f"--limit and --burst cannot be used with {args.action}", "leave --action out")
    if args.dry_run:
        return _try(args)
    reply = session.call(args, "AddCidr", **options.given(args, *_RULE, *_LIMIT, "ttl_s", "save", "force", *_TRIED))
    session.show_change(args, "added", [reply["rule"]], RULES, "Rule", reply)
    return exits.DONE


def _try(args: Namespace) -> int:
    """Shows what the rule would have changed; the exit code is 1 if anything."""
    from trafficctl.whatif import ask, rules

    rate = f"{args.rate_per_s}/s" if args.rate_per_s else None
    table = {**options.given(args, *_RULE), "limit": rate, "burst": args.burst_packets}
    if args.shadow:
        print("note: a rule in shadow only counts packets; this is what it does after you promote it", file=sys.stderr)
    present = {key: value for key, value in table.items() if value is not None}
    return ask.ask_about(args, args.cidr, lambda now: rules.with_rule(now, present))
