"""Who changed what, and when: rules, bans and settings; latest first.

Examples:
  trafficctl audit
  trafficctl audit --since 7d -o csv > changes.csv
"""

from argparse import ArgumentParser, Namespace

from trafficctl import options, session


def arguments(parser: ArgumentParser) -> None:
    options.add(parser, "--since")
    options.add(parser, "--limit", usual=100)


def run(args: Namespace) -> None:
    from trafficctl.render.columns import AUDIT

    reply = session.call(args, "Audit", **options.given(args, "since", "limit"))
    session.show_rows(args, reply["entries"], AUDIT, "AuditEntry", "no changes")
