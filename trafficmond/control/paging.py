"""Replies of any length: in pages for a client that accepts several replies, else limited to one page."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence

from trafficmond.control.call import Call, Row

ONE_REPLY_ROWS = 1000


async def paged(call: Call, pages: AsyncIterator[Sequence[Row]]) -> AsyncGenerator[list[Row], None]:
    """The pages, at least one. Without `more` exactly one page, of at most ONE_REPLY_ROWS rows."""
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
