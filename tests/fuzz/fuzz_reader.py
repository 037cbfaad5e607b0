"""atheris target for one reader of logs: `fuzz_reader.py READER [libFuzzer's arguments]`.

Whatever a file holds, it is read or counted as damage; nothing else may come of it.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

import atheris

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

with atheris.instrument_imports(include=["trafficmond.analyze"]):
    from trafficmond.analyze import formats, intake, rows, source

DAY_S = 86400
NAME = sys.argv.pop(1)
READER: Any = importlib.import_module(f"trafficmond.analyze.readers.{NAME}") if NAME != "any" else None
KNOWN = next((known for known in formats.FORMATS if known.reader is READER), None)


def one(data: bytes) -> None:
    """Reads the bytes as a file of the reader's format; `any` finds out the format first."""
    os.truncate(FILE, 0)
    os.pwrite(FILE, data, 0)
    account = intake.Intake()
    try:
        opened = source.Source(f"/proc/self/fd/{FILE}", account.damage)
    except source.InputError:
        return
    try:
        known = KNOWN or formats.format_of(opened)
        packets = octets = 0
        for batch in known.deltas(opened, account):
            check(batch)
            packets, octets = packets + int(batch["packets"].sum()), octets + int(batch["bytes"].sum())
    except source.InputError:
        return
    finally:
        opened.close()
    assert (packets, octets) == (account.in_flows.packets, account.in_flows.bytes), "rows are not what was counted"
    parts = (account.in_flows, account.not_ip, account.malformed)
    assert account.seen.packets == sum(part.packets for part in parts), "packets are lost"
    assert account.seen.bytes == sum(part.bytes for part in parts), "bytes are lost"


def check(batch: Any) -> None:
    """Rows that the flow table can take."""
    for what, good in {
        "times": (batch["first"] >= 0) & (batch["first"] <= batch["last"]) & (batch["last"] < rows.TIME_MAX + DAY_S),
        "packets": (batch["packets"] > 0) & (batch["packets"] < 1 << 50),
        "bytes": (batch["bytes"] < 1 << 60) & (batch["payload_bytes"] < 1 << 60),
        "families": (batch["family"] == 4) | (batch["family"] == 6),
    }.items():
        assert good.all(), f"{what} that cannot be"


FILE = os.memfd_create("input")
atheris.Setup(sys.argv, one)
atheris.Fuzz()
