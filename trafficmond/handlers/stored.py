"""Reads flows.db for handlers, with the records that are not stored yet."""

import asyncio
import contextlib
import itertools
import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from trafficmond.control.call import Row
from trafficmond.dataclass import asdict
from trafficmond.errors import Busy
from trafficmond.model import THREAT_FIELDS, FlowQuery, Threat
from trafficmond.parts import Parts
from trafficmond.store.reader import Reader
from trafficmond.store.store import StaleRead

T = TypeVar("T")

_SETTLE_S = 2.0  # how long a query waits for the latest threats to be stored
_LOOKS = 5  # attempts at a consistent view of stored and pending flows
_THREAT_COLUMNS = (*THREAT_FIELDS, "state", "evidence")
_COLUMNS_SQL = ", ".join(f'"{name}"' for name in _THREAT_COLUMNS)


class Stored:
    """Queries flows.db in the threads for queries."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def read(self, work: Callable[[Reader], T]) -> T:
        """Calls `work` with a reader of flows.db, in a thread for queries. Raises Busy."""
        with self._parts.questions.counted():
            return await self._parts.questions.ask(lambda: Reader(self._parts.store.path), work)

    async def read_all(self, wanted: FlowQuery, work: Callable[[Reader], T]) -> T:
        """The same, with the flows that match `wanted` in kernel, table and queue, which stay there. Raises Busy."""
        pipeline, store = self._parts.pipeline, self._parts.store
        with self._parts.questions.counted():
            await pipeline.read_ledger()
            for _ in range(_LOOKS):
                pending, given = pipeline.pending(), store.given
                with contextlib.suppress(StaleRead):
                    return await self._parts.questions.ask(partial(store.reader, given, pending, wanted), work)
        raise Busy("rows are stored faster than they can be read", hint="try again in a moment")

    async def rows(self, columns: Sequence[str], rest: str) -> list[Row]:
        """The rows of a SELECT of these columns; `rest` is the SQL after them. Raises Busy."""
        quoted = ", ".join(f'"{name}"' for name in columns)
        rows = await self.read(lambda reader: reader.rows(f"SELECT {quoted} {rest}"))
        return [dict(zip(columns, row, strict=True)) for row in rows]

    async def threats(
        self, conditions: Sequence[str], limit: int, wanted: Callable[[Row], bool] = lambda _: True
    ) -> list[Row]:
        """The latest threats that match the conditions (SQL) and `wanted`; open ones in their current state."""
        store = self._parts.store
        if store.status().state == "ok":  # what was given to a store that works is written first
            settled = asyncio.wrap_future(store.records_written())
            settled.add_done_callback(asyncio.Future.exception)  # the store logs and counts what it cannot do
            await asyncio.wait([settled], timeout=_SETTLE_S)
        why_not = self._parts.responder.why_not
        live = {
            threat.id: {**threat_row(threat, ""), "not_banned": why_not(threat) or None}
            for threat in self._parts.pipeline.engine.threats()
        }
        where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
        sql = f"SELECT {_COLUMNS_SQL} FROM threats {where} ORDER BY last_seen DESC"

        def read(reader: Reader) -> list[Row]:
            rows = (dict(zip(_THREAT_COLUMNS, values, strict=True)) for values in reader.each(sql))
            rows = ({**row, **live[row["id"]], "state": row["state"]} if row["id"] in live else row for row in rows)
            return [_parsed(row) for row in itertools.islice(filter(wanted, rows), limit)]

        return await self.read(read)


def threat_row(threat: Threat, state: str) -> Row:
    return {**asdict(threat), "severity": str(threat.severity), "state": state}


def _parsed(row: Row) -> Row:
    evidence = row["evidence"]
    return {**row, "evidence": json.loads(evidence) if isinstance(evidence, str) else evidence}
