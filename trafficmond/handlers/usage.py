"""The method for totals of traffic."""

from trafficmond.control.call import Call, Reply, method
from trafficmond.handlers.handler import Handler
from trafficmond.handlers.places import missing
from trafficmond.store.usage import UsageQuery, rows_of, usage_sql


class Usage(Handler):
    @method("Usage")
    async def usage(
        self,
        _: Call,
        period: str = "",
        kind: str = "total",
        key: str | None = None,
        since: float | None = None,
        until: float | None = None,
        limit: int = 1000,
    ) -> Reply:
        sql = usage_sql(UsageQuery(period, kind, key, since or 0.0, until, limit))
        rows = rows_of(await self._stored.read(lambda reader: reader.rows(sql)))
        geoip = self._parts.rulebook.geoip
        if kind == "asn":
            names = geoip.organisations({int(row["key"]) for row in rows if row["key"].isdecimal()})
            rows = [row | {"as_name": names.get(row["key"])} for row in rows]
        return {"rows": rows, "notes": missing(geoip, (kind,))}
