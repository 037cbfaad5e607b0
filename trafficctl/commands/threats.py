"""What the detectors found, the latest first. Each situation is one line, however long it lasts.

Examples:
  trafficctl threats
  trafficctl threats --since 1d --min-severity high
  trafficctl threats --detector port_scan --host 203.0.113.0/24
  trafficctl threat ID                        one threat in detail
  trafficctl threats --from clickhouse://ch:8123/trafficmon --open
                                              a fleet's; $CLICKHOUSE_PASSWORD is the user's password
"""

from argparse import ArgumentParser, Namespace

from trafficctl import names, options, session, values
from trafficctl.fleet import ask
from trafficctl.fleet.ask import Fleet
from trafficctl.names import Labels

_FILTERS = ("since", "detector", "min_severity", "host", "open_only", "limit")


def arguments(parser: ArgumentParser) -> None:
    options.add(parser, "--since")
    parser.add_argument("--detector", metavar="NAME", type=values.named, help="only this detector's")
    severities = ("low", "medium", "high", "critical")
    parser.add_argument("--min-severity", choices=severities, help="of at least this severity")
    parser.add_argument("--host", metavar="CIDR", type=values.prefix, help="attacker or victim")
    parser.add_argument("--open", action="store_true", dest="open_only", help="only those that are still open")
    options.add(parser, "--limit", usual=100)
    ask.arguments(parser)
    names.arguments(parser)


def run(args: Namespace) -> None:
    from trafficctl.render.columns import THREATS

    if fleet := ask.wanted(args):
        _ask_fleet(args, fleet)
        return
    reply = session.call(args, "Threats", **options.given(args, *_FILTERS))
    session.show_rows(args, reply["threats"], THREATS, "ThreatEntry", "no threats", Labels.of(args))


def _ask_fleet(args: Namespace, fleet: Fleet) -> None:
    from trafficctl.fleet.threats import COLUMNS, threats_question, with_evidence
    from trafficctl.render.columns import FLEET_THREATS

    asked = threats_question(**options.given(args, "sensor", *_FILTERS))
    labels = Labels.of(args)
    rows = labels.rows(with_evidence(fleet.rows(asked)))
    session.output(args).rows(rows, FLEET_THREATS, fields=labels.fields(COLUMNS), empty="no threats")
