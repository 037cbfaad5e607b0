"""Analyse logs, captures and flow records: the same detectors as live, no daemon, no root.

Reads the daemon's own logs, captures, flows.db and other tools' flow records; the format is found by content.

Examples:
  trafficctl analyze traffic.jsonl
  trafficctl analyze capture.pcapng -o json
  trafficctl analyze /var/log/trafficmon/*.jsonl.gz --report out.html
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace


def arguments(parser: ArgumentParser) -> None:
    from trafficmond.analyze.cli import add_arguments

    add_arguments(parser)


def run(args: Namespace) -> int:
    from trafficmond.analyze.cli import run as analyse

    return analyse(args)
