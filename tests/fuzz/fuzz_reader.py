"""atheris target for one reader of logs: `fuzz_reader.py READER [libFuzzer's arguments]`.

Whatever a file holds, it is read or counted as damage; nothing else may come of it.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sqlite3
import sys
import tempfile
from pathlib import Path
from typing import Any

import atheris

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

with atheris.instrument_imports(include=["trafficmond.analyze"]):
    from trafficmond.analyze import formats, report, run_stats, source, values
    from trafficmond.store import schema

    for late in ("programs", "stored", *(f"readers.{known.name}" for known in formats.FORMATS)):
        importlib.import_module(f"trafficmond.analyze.{late}")  # imported when it is first needed, too late to be seen

DAY_S = 86400
NAME = sys.argv.pop(1)
READER: Any = importlib.import_module(f"trafficmond.analyze.readers.{NAME}") if NAME != "any" else None
KNOWN = next((known for known in formats.FORMATS if known.reader is READER), None)


def one(data: bytes) -> None:
    """Reads the bytes as a file of the reader's format; `any` finds out the format first."""
    if NAME == "flows_db" and not data.startswith(b"SQLite"):
        data = database(atheris.FuzzedDataProvider(data))
    os.truncate(FILE.fileno(), 0)
    os.pwrite(FILE.fileno(), data, 0)
    account = run_stats.RunStats()
    try:
        opened = source.Source(FILE.name, account.parse_errors)
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
    assert json.dumps([report.threat_dict(threat) for threat in account.threats]), "threats cannot be told"
    parts = (account.in_flows, account.not_ip, account.malformed)
    assert account.seen.packets == sum(part.packets for part in parts), "packets are lost"
    assert account.seen.bytes == sum(part.bytes for part in parts), "bytes are lost"


def check(batch: Any) -> None:
    """Rows that the flow table can take."""
    for what, good in {
        "times": (batch["first"] >= 0) & (batch["first"] <= batch["last"]) & (batch["last"] < values.TIME_MAX + DAY_S),
        "packets": batch["packets"] < 1 << 50,
        "bytes but no packet": (batch["packets"] > 0) | (batch["bytes"] == 0),  # an initiator that sent nothing
        "bytes": (batch["bytes"] < 1 << 60) & (batch["payload_bytes"] < 1 << 60),
        "families": (batch["family"] == 4) | (batch["family"] == 6),
    }.items():
        assert good.all(), f"{what} that cannot be"


def database(told: Any) -> bytes:
    """A sound database that holds what no daemon would have written: bytes alone seldom come so far."""
    with contextlib.closing(sqlite3.connect(":memory:")) as made:
        made.execute("CREATE TABLE partitions (number)")
        made.execute(f"CREATE TABLE flows_1 ({', '.join(schema.FLOW_COLUMNS)})")
        made.execute(f"CREATE TABLE threats ({', '.join(THREAT)})")
        made.executemany("INSERT INTO partitions VALUES (?)", [(1,), (value(told),)])
        while told.remaining_bytes() > 1:
            table = "threats" if told.ConsumeBool() else "flows_1"
            row = list(THREAT.values() if table == "threats" else FLOW.values())
            for _ in range(told.ConsumeIntInRange(0, 3)):
                row[told.ConsumeIntInRange(0, len(row) - 1)] = value(told)
            made.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)
        made.commit()
        return made.serialize()


def value(told: Any) -> Any:
    """Anything that a cell may hold."""
    kinds = (told.ConsumeFloat, lambda: told.ConsumeInt(8), lambda: told.ConsumeBytes(16), lambda: None)
    texts = (lambda: told.ConsumeUnicodeNoSurrogates(24), lambda: "[" * told.ConsumeIntInRange(0, 100000))
    return told.PickValueInList([*kinds, *texts])()


FLOW = dict.fromkeys(schema.FLOW_COLUMNS, 1) | {
    **{"src_ip": "192.0.2.1", "dst_ip": "192.0.2.2", "protocol": "TCP", "action": "monitor", "rule": ""},
    **{"interface": "eth0", "direction": "ingress", "community_id": "", "bytes": 60, "reply_bytes": 60},
}
THREAT = {
    **{"id": "1", "detector": "port_scan", "severity": "high", "technique": "T1046", "src_ip": "192.0.2.1"},
    **{"dst_ip": None, "first_seen": 1.0, "last_seen": 2.0, "count": 3, "summary": "s", "evidence": '{"unit": "x"}'},
}
# SQLite opens by path; all else is quick in memory as well.
FILE = tempfile.NamedTemporaryFile(dir="/dev/shm", prefix="trafficmon-fuzz-")  # noqa: SIM115 -- ends with the process
atheris.Setup(sys.argv, one)
atheris.Fuzz()
