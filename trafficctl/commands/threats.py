"""What the detectors found, latest first; one line a situation, however long it lasts.

Examples:
  trafficctl threats
  trafficctl threats --since 1d --min-severity high
  trafficctl threats --detector port_scan --host 203.0.113.0/24
  trafficctl threat ID                        one of them in detail
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from trafficctl import exits, names, session, values
from trafficctl.names import Labels


def arguments(parser: ArgumentParser) -> None:
    """The filters."""
    parser.add_argument("--since", metavar="TIME", type=values.moment, help="seen since: 1h, 7d, 2026-01-31, @EPOCH")
    parser.add_argument("--detector", metavar="NAME", help="only this detector's")
    severities = ("low", "medium", "high", "critical")
    parser.add_argument("--min-severity", choices=severities, help="this grave or graver")
    parser.add_argument("--host", metavar="CIDR", type=values.prefix, help="attacker or victim")
    parser.add_argument("--open", action="store_true", help="only those that still go on")
    parser.add_argument("--limit", metavar="N", type=values.count, default=100, help="how many at most (100)")
    names.arguments(parser)


def run(args: Namespace) -> int:
    """Show the threats."""
    from trafficctl.render.columns import THREATS

    with session.connect(args) as client:
        reply = client.call(
            "Threats",
            since=args.since,
            detector=args.detector,
            min_severity=args.min_severity,
            host=args.host,
            open_only=args.open or None,
            limit=args.limit,
        )
    session.show_rows(args, reply["threats"], THREATS, "ThreatEntry", "no threats", Labels.of(args))
    return exits.DONE
