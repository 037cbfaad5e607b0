"""Events and threats as they happen, until interrupted.

An event is a log record: the first packet of a conversation that is monitored or dropped, and samples after it.
Records that could not be shown in time are counted and reported. With --names, a new host is shown by its address
until its name is known. json prints one record on each line, as jsonl does; csv has only one topic (events, or with
--threats threats).

Examples:
  trafficctl watch
  trafficctl watch --threats
  trafficctl watch --action drop --host 203.0.113.0/24
  trafficctl watch -o jsonl | jq -r .src_ip
"""

import itertools
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from typing import Any

from trafficctl import names, options, session, values
from trafficctl.names import Labels
from trafficctl.render.events import event_line, fitted, threat_line
from trafficctl.render.output import Output
from trafficmond import figures
from trafficmond.control.client import Client

_FILTERS = ("action", "host", "ports", "interface")


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--threats", action="store_true", help="threats only")
    parser.add_argument("--events", action="store_true", help="events only")
    parser.add_argument("--action", choices=("monitor", "drop"), help="only events with this action")
    text = "only events from or to an address or prefix A, several A,B, or all but '!A'"
    parser.add_argument("--host", metavar="CIDRS", type=values.prefixes, help=text)
    text = "only events with this port on either side: 443, 22,80, 8000-8100, '!53'"
    parser.add_argument("--port", metavar="PORTS", type=values.ports, dest="ports", help=text)
    options.add(parser, "--interface")
    parser.add_argument("--count", metavar="N", type=values.count, help="exit after this many")
    names.arguments(parser)


def run(args: Namespace) -> None:
    """Shows records until --count, an interrupt, or the end of the daemon."""
    output, labels = session.output(args), Labels.of(args)
    if output.form == "csv" and not args.threats:
        args.events = True  # one header, one kind of line
    with session.connect(args) as client:
        client.patient()
        session.print_waiting(_waiting(args))
        labelled = ((topic, labels.now(record)) for topic, record in _records(args, client, output, labels))
        records = itertools.islice(labelled, args.count)
        if output.form == "csv":
            output.rows((record for _, record in records), ())
        else:
            for topic, record in records:
                if output.human:
                    line = threat_line if topic == "threats" else event_line
                    output.lines(fitted(line, record, output.style, output.width))
                else:
                    output.record(record)


def _waiting(args: Namespace) -> str:
    """What is watched, for a terminal on which nothing may appear for a while."""
    topics = " and ".join(name for name in ("events", "threats") if getattr(args, name)) or "events and threats"
    given = [f"{name} {text}" for name, text in options.given(args, *_FILTERS).items() if text]
    only = f" with {', '.join(given)}" if given else ""
    return f"waiting for {topics}{only}, which are shown as they happen; Ctrl-C ends"


def _records(args: Namespace, client: Client, output: Output, labels: Labels) -> Iterator[tuple[str, dict[str, Any]]]:
    topics = [name for name in ("events", "threats") if getattr(args, name)] or None
    for reply in client.stream("Watch", topics=topics, **options.given(args, *_FILTERS)):
        if reply["lost"]:
            lost = figures.many(reply["lost"], "record")
            print(f"trafficctl: {lost} lost: they came faster than they were read", file=sys.stderr)
        labels.learn(reply["records"])
        for record in reply["records"]:
            yield reply["topic"], record
        output.flush()  # before waiting for more
