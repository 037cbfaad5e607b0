"""The method for the audit."""

from trafficmond.control.bounds import number
from trafficmond.control.call import Call, Reply, method
from trafficmond.handlers.handler import Handler
from trafficmond.store.sql import literal

MOST_ROWS = 1_000_000
_COLUMNS = ("at", "uid", "user", "pid", "change", "subject", "before", "after", "login")


class Audit(Handler):
    @method("Audit")
    async def audit(self, _: Call, since: float | None = None, limit: int = 100) -> Reply:
        most = number("limit", limit, 1, MOST_ROWS)
        where = f'WHERE "at" >= {literal(since)}' if since is not None else ""
        return {"entries": await self._stored.rows(_COLUMNS, f"FROM audit {where} ORDER BY id DESC LIMIT {most}")}
