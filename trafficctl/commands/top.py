"""A live screen: interfaces with their rates, the busiest flows, units and hosts, open threats.

Rates are averages over the last 2, 10 and 40 seconds. Flows of the last 40 seconds are listed, so rows do not jump
or vanish because of a pause. SENT and RECEIVED are those of a flow's initiator (FROM), or of the host or unit.

Keys: q quit, s sort, 1 2 3 averages, / filter, n names, p pause, Tab next list, Up and Down select, b ban, ? help.
Without a suitable terminal, or with -o, it prints samples instead: as many as --count says, by default one.

Examples:
  trafficctl top
  trafficctl top --match 203.0.113.0/24 --sort packets
  trafficctl top -o jsonl --count 60 > minute.jsonl
  trafficctl top --from clickhouse://ch:8123/trafficmon
                                              a fleet's sensors, flows, hosts and open threats of the last 5 minutes;
                                              $CLICKHOUSE_PASSWORD is the user's password
"""

import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from typing import Any

from trafficctl import names, session, values
from trafficctl.exits import UsageError
from trafficctl.fleet import ask
from trafficctl.fleet.ask import Fleet
from trafficctl.live.model import LISTS, Live
from trafficctl.names import Labels
from trafficctl.render.output import Output
from trafficmond.control.client import Client
from trafficmond.model import LIVE_SORTS, LIVE_WINDOWS_S

_PLAIN_HEIGHT = 40
_PLAIN_WIDTH = 120
_AVERAGE_S = 10


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--interval", metavar="TIME", type=values.duration, default=1.0, help="between samples (1s)")
    sorts = "sort by this (bytes: sent and received, per second)"
    parser.add_argument("--sort", choices=LIVE_SORTS, default="bytes", help=sorts)
    averages = "sort by averages over this many seconds (10)"
    parser.add_argument("--average", metavar="S", type=values.count, choices=LIVE_WINDOWS_S, help=averages)
    parser.add_argument("--match", metavar="TEXT", default="", help="only an address, prefix, port, protocol or unit")
    parser.add_argument("--count", metavar="N", type=values.count, help="print this many samples and exit")
    ask.arguments(parser)
    names.arguments(parser)


def run(args: Namespace) -> None:
    if fleet := ask.wanted(args):
        _of_fleet(args, fleet)
        return
    live = Live(args.sort, args.average or _AVERAGE_S, args.match, names=args.names and not args.numeric)
    if args.output == "human" and args.count is None and _on_a_screen():
        from trafficctl.live.terminal import show

        show(args.socket, live, args.interval, services=not args.numeric)
    else:
        _print_samples(args, live)


def _of_fleet(args: Namespace, fleet: Fleet) -> None:
    from trafficctl.fleet.threats import threats_question, with_evidence
    from trafficctl.fleet.top import SORTS, WINDOW_S, rated, top_questions
    from trafficctl.render.fleet import render

    if args.average is not None:
        what = f"--average is for the live screen of one host; rates of a fleet are averages over {WINDOW_S} s"
        hint = "omit --average: while a flow continues, sensors report it once every flows.active_timeout"
        raise UsageError(what, hint)
    if args.sort not in SORTS:
        what = f"--sort {args.sort} needs the traffic since a flow began, which the fleet's server does not store"
        raise UsageError(what, f"sort by {', '.join(SORTS)}; or use trafficctl flows --from URL --group-by")
    output, labels = session.output(args), Labels.of(args)
    for number in range(args.count or 1):
        if number:
            time.sleep(args.interval)
        now = time.time()
        answer: dict[str, Any] = {"at": now, "window_s": WINDOW_S}
        for name, asked in top_questions(now, args.sort, args.match, args.sensor).items():
            answer[name] = list(labels.rows(map(rated, fleet.rows(asked))))
        threats = threats_question(sensor=args.sensor, open_only=True)
        answer["threats"] = list(labels.rows(with_evidence(fleet.rows(threats))))
        if output.form == "csv":
            output.rows(answer["flows"], ())
        elif output.human:
            output.report(answer, render)
        else:
            output.record(answer)
        output.flush()


def _on_a_screen() -> bool:
    """Whether standard input and output are a terminal that curses knows and whose cursor can be moved."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    import curses

    try:
        curses.setupterm()
    except curses.error:
        return False
    return curses.tigetstr("cup") is not None


def _print_samples(args: Namespace, live: Live) -> None:
    output, labels = session.output(args), Labels.of(args)
    with session.connect(args) as client:
        samples = _samples(args, live, client, labels)
        if output.form == "csv":
            rows = ({"at": answer["at"], **_in_columns(flow)} for answer in samples for flow in answer["flows"])
            output.rows(rows, (), fields=labels.fields(_csv_fields()))
            return
        for answer in samples:
            if output.human:
                _show(live, output)
                session.note_unnamed(row["unit"] for row in answer.get("units") or ())
            else:
                output.record(answer)
            output.flush()


def _samples(args: Namespace, live: Live, client: Client, labels: Labels) -> Iterator[dict[str, Any]]:
    """The wanted number of replies, after a first one from which rates are counted."""
    for number in range((args.count or 1) + 1):
        answer = client.call("Top", sort=args.sort, window_s=live.window_s, match=args.match or None)
        if number:
            answer |= {name: list(labels.rows(answer[name])) for name in LISTS if name in answer}
        live.update(answer)
        if number:
            yield answer
        if number < (args.count or 1):
            time.sleep(args.interval)


def _csv_fields() -> tuple[str, ...]:
    rates = [name for name in session.fields_of("LiveRate") if name != "window_s"]
    averages = [f"{name}_{window}s" for window in LIVE_WINDOWS_S for name in rates]
    return ("at", *(name for name in session.fields_of("LiveFlow") if name != "rates"), *averages)


def _in_columns(flow: dict[str, Any]) -> dict[str, Any]:
    """A flow with one field for each average, such as "sent_bytes_per_s_10s"."""
    rates = ((rate["window_s"], *each) for rate in flow.get("rates") or () for each in rate.items())
    return flow | {f"{name}_{seconds}s": value for seconds, name, value in rates if name != "window_s"}


def _show(live: Live, output: Output) -> None:
    from trafficctl.live.screen import LEAST_WIDTH, draw

    width = max(output.width or _PLAIN_WIDTH, LEAST_WIDTH)
    lines = draw(live, width, _PLAIN_HEIGHT, output.style, cursor=False)
    output.line("\n".join(lines[:-1]).rstrip())
