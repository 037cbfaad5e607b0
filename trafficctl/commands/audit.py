"""Who changed what, and when: rules, bans and settings; latest first.

Examples:
  trafficctl audit
  trafficctl audit --since 7d -o csv > changes.csv
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from trafficctl import exits, session, values


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--since", metavar="TIME", type=values.moment, help="since: 1h, 7d, 2026-01-31, @EPOCH")
    parser.add_argument("--limit", metavar="N", type=values.count, default=100, help="how many at most (100)")


def run(args: Namespace) -> int:
    from trafficctl.render.columns import AUDIT

    reply = session.call(args, "Audit", since=args.since, limit=args.limit)
    session.show_rows(args, reply["entries"], AUDIT, "AuditEntry", "no changes")
    return exits.DONE
