"""The daemon's metrics as OpenMetrics text, for node_exporter's textfile collector, or to read.

--write replaces a file in one step, so a collector never reads half of it. It uses the older Prometheus text format,
which that collector reads.

Examples:
  trafficctl metrics
  trafficctl metrics --write /var/lib/prometheus/node-exporter/trafficmon.prom
  trafficctl metrics -o json                  as one JSON text
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from trafficctl import exits, session, values
from trafficmond import files
from trafficmond.errors import TrafficmonError
from trafficmond.metrics.text import prometheus


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--write", metavar="FILE", type=values.path, help="write to a file instead")


def run(args: Namespace) -> int:
    text = session.call(args, "Metrics")["text"]
    if args.write:
        _replace(args.write, prometheus(text))
    else:
        session.output(args).report({"text": text}, lambda value, *_: value["text"].splitlines())
    return exits.DONE


def _replace(path: Path, text: str) -> None:
    try:
        files.replace(path, text.encode(), mode=0o644)
    except OSError as error:
        raise TrafficmonError(
            f"cannot write {path}: {error.strerror}", hint="choose a directory you may write"
        ) from error
