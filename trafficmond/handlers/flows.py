"""The methods for stored and live flows."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence

from trafficmond.control.bounds import one_of
from trafficmond.control.call import Call, Reply, Row, method
from trafficmond.handlers.handler import Handler, paged
from trafficmond.handlers.places import ENDS, missing, names, placed
from trafficmond.handlers.rates import busiest, rate_rows
from trafficmond.handlers.stored import threat_row
from trafficmond.model import LIVE_SORTS, LIVE_WINDOWS_S, FlowQuery
from trafficmond.status import interface_rows, probation
from trafficmond.store.query import Question, question

TOP_ROWS = 500


class Flows(Handler):
    @method("Flows")
    async def flows(
        self,
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
        unstored: bool = False,
        unit: str | None = None,
        process: str | None = None,
    ) -> AsyncGenerator[Reply, None]:
        either, groups = port if ports is None else ports, tuple(group_by or ())
        where = (since, until, src, dst, host, either, proto, action, rule, interface, unit, process)
        query = FlowQuery(*where, sort, groups, limit, unstored)
        asked = question(query)
        geoip = self._parts.rulebook.geoip
        ends = [] if groups or not geoip else ENDS
        more = [name for end in ends for name in names(end)]
        notes = missing(geoip, groups)
        if (process is not None or {"process", "pid"} & {*groups}) and not self._parts.settings.flows.processes:
            notes.append("new flows have no process: set flows.processes = true in trafficmond.toml, and restart")
        head = {"sql": asked.sql, "columns": [*asked.columns, *more], "notes": notes}
        if sql_only:
            yield {**head, "rows": []}
            return
        async for page in paged(call, self._pages(query, asked)):
            yield {**head, "rows": placed(geoip, page, ends)}

    async def _pages(self, query: FlowQuery, asked: Question) -> AsyncIterator[Sequence[Row]]:
        """The result in pages. A client that reads slowly blocks neither a thread nor the file."""
        look_up = self._parts.rulebook.geoip.each
        answer = await self._stored.read_all(query, lambda reader: reader.locate(asked, look_up).answer(asked))
        pages = answer.pages()
        try:
            while page := await self._parts.questions.page(lambda: next(pages, None)):
                yield page
        finally:
            await self._parts.questions.page(answer.close)

    @method("Top")
    async def top(self, _: Call, sort: str = "bytes", match: str = "", limit: int = 20, window_s: int = 10) -> Reply:
        one_of("sort", sort, LIVE_SORTS)
        one_of("window_s", str(window_s), tuple(map(str, LIVE_WINDOWS_S)))
        most, pipeline = max(0, min(limit, TOP_ROWS)), self._parts.pipeline
        recent, now = pipeline.recent, pipeline.moment.at
        through = {ifindex: rate_rows(rates, 0) for ifindex, rates in recent.interfaces().items()}
        interfaces, geoip = interface_rows(self._parts), self._parts.rulebook.geoip
        shown = busiest(recent, now, pipeline.owned_by, sort, window_s, match, most)
        return {
            "at": now,
            "interfaces": [row | {"rates": through.get(row["ifindex"])} for row in interfaces],
            **shown,
            "flows": placed(geoip, shown["flows"]),
            "hosts": placed(geoip, shown["hosts"], ["address"]),
            "threats": placed(geoip, [threat_row(threat, "open") for threat in pipeline.engine.threats()[:most]]),
            "flow_count": len(pipeline.table),
            "probation": probation(self._parts),
        }
