"""What flows-current.sql computes is what is sent to servers that do not."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from clickhouse_server import ClickHouseServer, statements
from export_reports import NAMES, every_kind, reports
from test_export_clickhouse import exactly, exporting, idle, until

from trafficmond.flows.batch import V4_MAPPED
from trafficmond.flows.community_id import community_ids

pytestmark = pytest.mark.timeout(240)

PROTOCOLS = (1, 2, 6, 17, 33, 47, 58, 132, 136)
TYPES = (*range(20), *range(126, 150), 255, 256)
PORTS = (0, 1, 255, 256, 443, 65535)
V4 = [V4_MAPPED | np.uint64(last) for last in (1, 2, 0xC0000201, 0xFFFFFFFF)]


def of_every_sort() -> np.ndarray:
    """Both families, each order of the ends, one host with itself, all types of ICMP, no ports."""
    ends = [(4, 0, a, 0, b) for a, b in itertools.product(V4, V4)]
    ends += [
        (6, a >> 64, a & (1 << 64) - 1, b >> 64, b & (1 << 64) - 1)
        for a, b in itertools.product((1, 1 << 64, 0xFE80 << 112 | 5), repeat=2)
    ]
    rows = []
    for proto in PROTOCOLS:
        pairs = [(kind, 0) for kind in TYPES] if proto in (1, 58) else list(itertools.product(PORTS, PORTS))
        for (sport, dport), end in itertools.product(pairs, ends):
            rows.append((proto, sport, dport, *end))
    columns = np.array(rows, dtype=object).T
    names = ("proto", "sport", "dport", "family", "src_hi", "src_lo", "dst_hi", "dst_lo")
    return reports(len(rows), **{name: column.astype("u8") for name, column in zip(names, columns, strict=True)})


def test_community_ids(tmp_path: Path) -> None:
    rows = np.concatenate([of_every_sort(), every_kind(20)])
    with ClickHouseServer(tmp_path) as server:
        with exporting(server.url, tmp_path) as exports:
            exports.put(rows, NAMES)
            until(idle(exports), exports.status)
        assert server.counts() == exactly(rows)
        batches = "SELECT batch, row, community_id FROM trafficmon.flows ORDER BY batch, row"
        there = [row[2] for row in server.ask(batches)]
        assert len(set(there)) > 1000
        assert there == community_ids(rows)


def test_a_table_that_stores_them_is_sent_them(tmp_path: Path) -> None:
    """One that an earlier flows-current.sql made, and what waited for it when it is made again."""
    rows = every_kind(20)
    with ClickHouseServer(tmp_path) as server:
        older = statements(server.schema.with_name("flows.sql").read_text())
        for told in (older, statements(server.schema.read_text())):
            server.ask("DROP TABLE trafficmon.flows")
            with exporting(server.url, tmp_path) as exports:
                exports.put(rows, NAMES)
                until(lambda: "flows" in exports.status()[0]["error"], exports.status)
                for statement in told:
                    server.ask(statement)
                until(idle(exports), exports.status)
            there = server.ask("SELECT community_id FROM trafficmon.flows ORDER BY batch, row")
            assert [row[0] for row in there] == community_ids(rows)
