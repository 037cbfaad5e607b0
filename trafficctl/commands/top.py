"""A live screen: interfaces with their rates, the busiest flows and hosts, open threats.

Keys: q quit, s sort, / filter, p pause, Tab next list, Up and Down select, b ban, ? help.
Without a terminal, or with -o, it prints samples instead: --count of them, one unless given.

Examples:
  trafficctl top
  trafficctl top --match 203.0.113.0/24 --sort packets
  trafficctl top -o jsonl --count 60 > minute.jsonl
"""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from typing import Any

from trafficctl import exits, session, values
from trafficctl.live.model import SORTS, Live
from trafficctl.render.output import Output
from trafficmond.control.client import Client

_PLAIN_HEIGHT = 40
_PLAIN_WIDTH = 120


def arguments(parser: ArgumentParser) -> None:
    """What to show, how often."""
    parser.add_argument("--interval", metavar="TIME", type=values.duration, default=1.0, help="between samples (1s)")
    parser.add_argument("--sort", choices=SORTS, default="bytes", help="by which rate (bytes)")
    parser.add_argument("--match", metavar="TEXT", default="", help="only an address, prefix, port or protocol")
    parser.add_argument("--count", metavar="N", type=values.count, help="print so many samples and end")


def run(args: Namespace) -> int:
    """Show the screen, or print samples."""
    live = Live(sort=args.sort, match=args.match)
    if args.output == "human" and args.count is None and sys.stdin.isatty() and sys.stdout.isatty():
        from trafficctl.live.terminal import show

        show(args.socket, live, args.interval)
    else:
        _print_samples(args, live)
    return exits.DONE


def _print_samples(args: Namespace, live: Live) -> None:
    output = session.output(args)
    with session.connect(args) as client:
        samples = _samples(args, live, client)
        if output.form == "csv":
            rows = ({"at": answer["at"], **flow} for answer in samples for flow in answer["flows"])
            output.rows(rows, (), fields=("at", *session.fields_of("LiveFlow")))
            return
        for answer in samples:
            if output.human:
                _show(live, output)
            else:
                output.record(answer)
            output.flush()


def _samples(args: Namespace, live: Live, client: Client) -> Iterator[dict[str, Any]]:
    """As many answers as were asked for, after a first one that only begins the rates."""
    for number in range((args.count or 1) + 1):
        answer = client.call("Top", sort=args.sort, match=args.match or None)
        live.update(answer)
        if number:
            yield answer
        if number < (args.count or 1):
            time.sleep(args.interval)


def _show(live: Live, output: Output) -> None:
    from trafficctl.live.screen import LEAST_WIDTH, draw

    width = max(output.width or _PLAIN_WIDTH, LEAST_WIDTH)
    lines = draw(live, width, _PLAIN_HEIGHT, output.style, cursor=False)
    output.line("\n".join(lines[:-1]).rstrip())
