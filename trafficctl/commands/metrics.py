"""The daemon's metrics as OpenMetrics text, for node_exporter's textfile collector, or to read.

--write replaces a file in one step, so a collector never reads half of it. It uses the older Prometheus text format,
which that collector reads.

Examples:
  trafficctl metrics
  trafficctl metrics --write /var/lib/prometheus/node-exporter/trafficmon.prom
  trafficctl metrics -o json                  as one JSON text
"""

from argparse import ArgumentParser, Namespace

from trafficctl import session, values
from trafficmond import files
from trafficmond.metrics.text import prometheus


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--write", metavar="FILE", type=values.path, help="write to a file instead")


def run(args: Namespace) -> None:
    text = session.call(args, "Metrics")["text"]
    if args.write:
        files.write(args.write, prometheus(text), mode=0o644)
    else:
        session.output(args).report({"text": text}, lambda value, *_: value["text"].splitlines())
