"""Stored flows."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from trafficmond.control.call import Call, Reply, method
from trafficmond.control.paging import paged
from trafficmond.model import FlowQuery


@method("Flows")
async def flows(
    call: Call,
    since: float | None = None,
    until: float | None = None,
    src: str | None = None,
    dst: str | None = None,
    host: str | None = None,
    port: int | None = None,
    proto: str | None = None,
    action: str | None = None,
    rule: str | None = None,
    interface: str | None = None,
    sort: str | None = None,
    group_by: list[str] | None = None,
    limit: int = 100,
    sql_only: bool = False,
    ports: str | None = None,
) -> AsyncGenerator[Reply, None]:
    """Ask flows.db; rows in pages."""
    groups = tuple(group_by or ())
    either = port if ports is None else ports
    query = FlowQuery(
        since,
        until,
        src,
        dst,
        host,
        either,
        proto,
        action,
        rule,
        interface,
        sort,
        groups,
        limit,
    )
    answer = await call.view.flows(query)
    columns = list(answer.columns)
    if sql_only:
        yield {"sql": answer.sql, "columns": columns, "rows": []}
        return
    async for page in paged(call, answer.pages):
        yield {"sql": answer.sql, "columns": columns, "rows": page}
