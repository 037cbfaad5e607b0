"""The prefix lists in force: how large and how old they are, when they last changed, and what they matched.

Packets and bytes are those that a list decided about since the daemon started. For a list with a url, FETCHED is when
its server last answered. If it cannot be fetched, its last good content stays in force, and STATE has the reason.

Examples:
  trafficctl lists
  trafficctl lists -o json | jq '.[] | select(.state != "ok")'
  sudo systemctl start trafficmon-fetch       fetch the lists that are due
"""

from argparse import Namespace
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from trafficctl import exits, session
from trafficctl.render.table import Column
from trafficmond import figures
from trafficmond.feeds.state import read

_LISTS = (
    Column("label", "LIST", weight=9, shrinks_to=12),
    Column("action", "ACTION", weight=8, meaningful=True),
    Column("direction", "DIRECTION", weight=1),
    Column("prefixes", "PREFIXES", figures.exact, right=True, weight=6),
    Column("size_bytes", "SIZE", figures.size, right=True, weight=3),
    Column("changed", "CHANGED", figures.when, weight=6),
    Column("fetched", "FETCHED", figures.when, weight=5),
    Column("packets", "PACKETS", figures.number, right=True, weight=7),
    Column("bytes", "BYTES", figures.size, right=True, weight=4),
    Column("state", "STATE", weight=8, shrinks_to=16),
    Column("path", "PATH", weight=2, shrinks_to=12, keep_end=True),
)


def run(args: Namespace) -> int:
    """Shows the lists; the exit code is 1 if one has a problem."""
    with session.connect(args) as client:
        rules = [rule for reply in client.stream("Rules") for rule in reply["rules"] if rule["kind"] == "list"]
    rows = [_row(rule) for rule in rules]
    session.output(args).rows(rows, _LISTS, fields=[column.key for column in _LISTS], empty="no lists")
    return exits.NO if any(row["state"] != "ok" for row in rows) else exits.DONE


def _row(rule: Mapping[str, Any]) -> dict[str, Any]:
    path = Path(rule["cidr"])
    known = _fetched_in(path.parent).get(path.stem)
    row = {"label": rule["label"] or path.stem, "size_bytes": None, "changed": None, "state": "ok", "path": str(path)}
    row |= {name: rule[name] for name in ("action", "direction", "prefixes", "packets", "bytes")}
    try:
        status = path.stat()
        row |= {"size_bytes": status.st_size, "changed": status.st_mtime}
    except OSError as error:
        row["state"] = f"its file: {error.strerror}"
    if known is not None:
        state = f"since {figures.when(known.failing_since)}: {known.error}" if known.error else "ok"
        row |= {"changed": known.changed or None, "state": state}
    return row | {"fetched": (known.checked or None) if known is not None else None}


_fetched_in = cache(read)
