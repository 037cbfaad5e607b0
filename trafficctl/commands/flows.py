"""Show the stored flows.

A flow is one conversation, in both directions; one that lasts is shown again for each flows.active_timeout. A time is
how long ago ("1h"), a time of the day ("02:55"), today, yesterday, a date, or @EPOCH. A flow must match all filters.
Those of addresses, ports and protocols take several values ("22,80"); with "!" before them they select all others. A
unit may be a pattern ("nginx*").

SENT is what FROM, the initiator, sent; RECEIVED is what came back; TOTAL is both, and sums are sorted by it. Sums
have UP, the bytes out of the interface, and DOWN, the bytes into it; sums of hosts have what each sent and received.
With -o json or csv the columns are those of flows.db: bytes and packets of FROM, reply_bytes and reply_packets of the
other side. If a table is too wide, units lose ".service", FROM loses a temporary port, and ACTION shows only drops.

With [geo] databases, you can group by country, asn and as_name. They are those of the peer, the host beyond the
interface; src_country, dst_country and so on are those of one side.

Examples:
  trafficctl flows --since 1h --sort bytes
  trafficctl flows --since 1d --src 10.0.0.0/8 --port 443 --proto tcp
  trafficctl flows --action drop --since 10m
  trafficctl flows --since 10m --names         hosts by name
  trafficctl flows --since today --group-by host,hour --port 22,8000-8100 --src '!10.0.0.0/8'
  trafficctl flows --since 1h --group-by src,dport --sort bytes --limit 20
  trafficctl flows --since 7d --group-by country,as_name
  trafficctl flows --since 1h --unit 'nginx*'
  trafficctl flows --since today --group-by unit
  trafficctl flows --since 1h --process curl   needs flows.processes: flows of a command
  trafficctl flows --since 1d --limit 1000000 -o csv > flows.csv
  trafficctl flows --since 1h --sql            the SQL query, for sqlite3 flows.db
  trafficctl flows --from clickhouse://ch:8123/trafficmon --since 1h --group-by sensor
                                               a fleet's flows; $CLICKHOUSE_PASSWORD is the user's password
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

from trafficctl import exits, names, options, session, values
from trafficctl.exits import UsageError
from trafficctl.fleet import ask
from trafficctl.fleet.ask import Fleet
from trafficctl.names import Labels
from trafficctl.render.table import Column, Row
from trafficmond.control.client import Client
from trafficmond.errors import ConfigError

_FILTERS = ("since", "until", "src", "dst", "host", "port", "proto", "action", "rule", "interface", "unit", "process")
_LIMIT = 100  # rows that are shown unless --limit says more


def arguments(parser: ArgumentParser) -> None:
    options.add(parser, "--since", "--until")
    text = "the initiator: an address or prefix A, several A,B, or all but '!A'"
    parser.add_argument("--src", metavar="CIDRS", type=values.prefixes, help=text)
    parser.add_argument("--dst", metavar="CIDRS", type=values.prefixes, help="the responder, in the same form")
    parser.add_argument("--host", metavar="CIDRS", type=values.prefixes, help="initiator or responder")
    text = "the port of either side: 443, 22,80, 8000-8100, '!22'"
    parser.add_argument("--port", metavar="PORTS", type=values.ports, help=text)
    parser.add_argument("--proto", metavar="PROTOCOLS", type=values.named, help="47, several tcp,udp, all but '!icmp'")
    parser.add_argument("--action", choices=("allow", "monitor", "drop"), help="what was done with its packets")
    parser.add_argument("--rule", metavar="LABEL", type=values.named, help="the rule that decided")
    options.add(parser, "--interface", "--unit")
    text = "a process of this host, by its command's short name or number"
    parser.add_argument("--process", metavar="NAME", type=values.named, help=text)
    parser.add_argument("--sort", metavar="COLUMN", type=values.named, help="the largest first (default: the latest)")
    parser.add_argument("-r", "--reverse", action="store_true", help="the smallest, or the earliest, first")
    text = "sum by these columns, separated by commas; also host, peer, country, asn, day, hour"
    parser.add_argument("--group-by", metavar="COLUMNS", type=values.named, help=text)
    options.add(parser, "--limit", usual=_LIMIT)
    ask.arguments(parser)
    names.arguments(parser)
    parser.add_argument("--sql", action="store_true", help="show the SQL query instead of its result")


def run(args: Namespace) -> int:
    """Shows the flows; the exit code is 1 if there are none."""
    if fleet := ask.wanted(args):
        return _ask_fleet(args, fleet)
    with session.connect(args) as client:
        client.patient()
        if args.sql:
            reply = client.call("Flows", **_asked(args), sql_only=True)
            session.output(args).report({"sql": reply["sql"]}, lambda value, *_: [value["sql"]])
            return exits.DONE
        return _ask_daemon(args, client)


def _ask_fleet(args: Namespace, fleet: Fleet) -> int:
    from trafficctl.fleet.flows import fleet_question
    from trafficctl.render.columns import FLEET, grouped_columns
    from trafficmond.model import FlowQuery

    query = _query(args)
    try:
        asked = fleet_question(FlowQuery(**{**query, "group_by": tuple(query["group_by"] or ())}), args.sensor)
    except ConfigError as error:
        raise UsageError("\n".join(map(str, error.mistakes))) from error
    if args.sql:
        session.output(args).report({"sql": asked.sql}, lambda value, *_: [value["sql"]])
        return exits.DONE
    shown = grouped_columns(asked.columns) if args.group_by else FLEET
    return exits.DONE if _show(args, fleet.rows(asked), shown, asked.columns) else exits.NO


def _show(args: Namespace, rows: Iterable[Row], columns: Sequence[Column], fields: Sequence[str]) -> int:
    labels, units = Labels.of(args), set[object]()

    def noted(row: Row) -> Row:
        units.add(row.get("unit"))
        return row

    named = labels.rows(map(noted, rows))
    count = session.output(args).rows(named, columns, fields=labels.fields(fields), empty="no such flows")
    session.note_unnamed(units)
    return count


def _query(args: Namespace) -> dict[str, Any]:
    groups = [name.strip() for name in (args.group_by or "").split(",") if name.strip()]
    sort = f"-{args.sort or 'last_seen'}" if args.reverse else args.sort
    return {**options.given(args, *_FILTERS, "limit"), "sort": sort, "group_by": groups or None}


def _asked(args: Namespace) -> dict[str, Any]:
    """The parameters of the method Flows."""
    query = _query(args)
    return {**query, "port": None, "ports": query["port"]}


def _ask_daemon(args: Namespace, client: Client) -> int:
    from trafficctl.render.columns import FLOWS, grouped_columns

    replies = client.stream("Flows", **_asked(args))
    first = next(replies)
    session.print_notes(first)
    fields = tuple(first["columns"])
    rows = (row for reply in chain([first], replies) for row in reply["rows"])
    shown = grouped_columns(fields) if args.group_by else FLOWS
    if args.process:
        shown = [column._replace(weight=9) if column.key == "process" else column for column in shown]
    found = _show(args, rows, shown, fields)
    if found == args.limit == _LIMIT:
        session.print_notes({"notes": [f"there may be more than these {_LIMIT} rows; --limit N shows up to N"]})
    return exits.DONE if found else exits.NO
