"""Makes batches of keyword dicts, a row each, so that a test says only what matters to it."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any

import numpy as np

from trafficmond.flows.batch import Batch, split_address
from trafficmond.model import Action, Reason
from trafficmond.verdict import verdict_word

MONITOR = verdict_word(Action.MONITOR, Reason.DEFAULT)

Row = dict[str, Any]


def make(dtype: np.dtype[Any], rows: Iterable[Row]) -> Batch:
    """Rows with `src` and `dst` as text; a TCP packet under a verdict of monitor where nothing else is said."""
    rows = list(rows)
    batch = np.zeros(len(rows), dtype)
    for at, row in enumerate(rows):
        values = {"src": "192.0.2.1", "dst": "198.51.100.2", "proto": 6, "verdict": MONITOR, "ifindex": 2, **row}
        for side in ("src", "dst"):
            address = ipaddress.ip_address(values.pop(side))
            batch[f"{side}_hi"][at], batch[f"{side}_lo"][at] = split_address(address.packed)
            batch["family"][at] = address.version
        for name, value in values.items():
            batch[name][at] = value
    return batch
