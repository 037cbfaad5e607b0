"""Analyse logs, captures and flow records with the detectors of the daemon; needs no daemon and no root.

It reads the daemon's own logs, flows.db, captures, and flow records of other tools. It recognises the format by the
content.

Examples:
  trafficctl analyze traffic.jsonl
  trafficctl analyze capture.pcapng -o json
  trafficctl analyze /var/log/trafficmon/*.jsonl.gz --report out.html
"""

from trafficmond.analyze.cli import add_arguments as arguments
from trafficmond.analyze.cli import run

__all__ = ["arguments", "run"]
