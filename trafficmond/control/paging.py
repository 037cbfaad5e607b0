"""Answers of any length: page by page to a client that takes several replies, cut short for one that does not."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence

from trafficmond.control.call import Call, Row

ONE_REPLY_ROWS = 1000


async def paged(call: Call, pages: AsyncIterator[Sequence[Row]]) -> AsyncGenerator[list[Row], None]:
    """The pages, at least one of them; without `more` exactly one, of ONE_REPLY_ROWS rows at most."""
    if call.more:
        page: Sequence[Row] | None = None
        async for page in pages:
            yield list(page)
        if page is None:
            yield []
        return
    rows: list[Row] = []
    async for page in pages:
        rows.extend(page)
        if len(rows) >= ONE_REPLY_ROWS:
            break
    yield rows[:ONE_REPLY_ROWS]
