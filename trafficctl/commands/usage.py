"""Bytes up and down: by hour, day or month, by interface, unit, country or network.

UP is what went out of the watched interfaces, DOWN what came in through them; TOTAL is both. The sums are kept longer
than the flows: hours for two months, days for five years. A flow counts when it is written, up to flows.active_timeout
(5 minutes) later. Countries and networks are those of the peer, the host beyond the interface, according to the [geo]
databases when the flow was written. Only the largest countries, networks and units are kept by name.

Examples:
  trafficctl usage                            the last 30 days
  trafficctl usage --by month                 the last 12 months
  trafficctl usage --by day --interface eth0
  trafficctl usage --by country --since 7d
  trafficctl usage --by hour --since today -o csv
  trafficctl usage --from clickhouse://ch:8123/trafficmon --by sensor --since 7d
                                              a fleet's; $CLICKHOUSE_PASSWORD is the user's password
"""

import time
from argparse import ArgumentParser, Namespace
from datetime import datetime, timedelta
from typing import Any

from trafficctl import options, session, values
from trafficctl.exits import UsageError
from trafficctl.fleet import ask
from trafficctl.fleet.ask import Fleet

TIMES = ("hour", "day", "month")
KINDS = ("interface", "unit", "country", "asn", "protocol", "port")
_PLACES = ("country", "asn")
_FLEET_ONLY = "sensor"
_KEPT = ("interface", "unit", "country", "asn")  # filters for totals by time


def arguments(parser: ArgumentParser) -> None:
    text = f"one row for each of these (default: day): {', '.join((*TIMES, *KINDS))}; for a fleet {_FLEET_ONLY}"
    choices = (*TIMES, *KINDS, _FLEET_ONLY)
    parser.add_argument("--by", metavar="WHAT", choices=choices, default="day", help=text)
    options.add(parser, "--since", usual="30 days ago")
    options.add(parser, "--until")
    only = parser.add_mutually_exclusive_group()
    options.add(only, "--interface", metavar="IF")
    options.add(only, "--unit")
    only.add_argument("--country", metavar="CC", type=values.country, help="only this country")
    only.add_argument("--asn", metavar="N", type=values.system, help="only this autonomous system")
    options.add(parser, "--limit", usual=1000)
    ask.arguments(parser)


def run(args: Namespace) -> None:
    from trafficctl.render.usage import render

    asked = question(args, time.time())
    if fleet := ask.wanted(args):
        rows = _of_fleet(args, fleet, asked)
    elif args.by == _FLEET_ONLY:
        raise UsageError("--by sensor works only for a fleet", "add --from clickhouse://HOST/DATABASE")
    else:
        reply = session.call(args, "Usage", **asked)
        session.print_notes(reply)
        rows = reply["rows"]
        session.note_unnamed(row["key"] for row in rows)
    output = session.output(args)
    if output.human:
        output.lines(render(rows, args.by, output.style, output.width))
    else:
        output.rows(rows, (), fields=session.fields_of("UsageRow") if args.output == "csv" else ())


def _of_fleet(args: Namespace, fleet: Fleet, asked: dict[str, Any]) -> list[dict[str, Any]]:
    from trafficctl.fleet.usage import KEPT, by_key, by_period, usage_question
    from trafficmond.store.usage import UsageQuery

    if asked["kind"] in _PLACES:
        what = f"the fleet's totals have no {asked['kind']}: each host looks it up in its own database"
        raise UsageError(what, f"ask a host: trafficctl usage --by {asked['kind']}, without --from")
    (kept,) = fleet.rows(KEPT)
    wanted = UsageQuery(**{"period": "", **asked})
    rows = fleet.rows(usage_question(wanted, hourly=kept["n"] > 0, sensor=args.sensor))
    if args.by in TIMES:
        return by_period(rows, args.by, wanted.whole_key, args.limit)
    return by_key(rows)


def question(args: Namespace, now: float) -> dict[str, Any]:
    """The parameters of the method Usage. Raises ControlError if they cannot be combined."""
    named = [(kind, getattr(args, kind)) for kind in _KEPT if getattr(args, kind) is not None]
    since = _begin(args.by, now) if args.since is None else args.since
    asked: dict[str, Any] = {"since": since, "until": args.until, "limit": args.limit}
    if args.by in TIMES:
        kind, key = named[0] if named else ("total", None)
        return asked | {"period": args.by, "kind": kind, "key": key}
    if named and named[0][0] != args.by:
        what = f"--{named[0][0]} works only with --by hour, day or month: totals by {args.by} do not have it"
        raise UsageError(what, "use the flows: trafficctl flows --group-by")
    return asked | {"kind": args.by, "key": named[0][1] if named else None}


def _begin(by: str, now: float) -> float:
    """The default for --since, in epoch seconds: whole days and months."""
    today = datetime.fromtimestamp(now).replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    if by == "hour":
        return (today - timedelta(days=1)).timestamp()
    if by == "month":
        return today.replace(year=today.year - 1, day=1).timestamp()
    return (today - timedelta(days=29)).timestamp()
