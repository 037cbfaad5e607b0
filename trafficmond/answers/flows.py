"""Flows, stored and live."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from trafficmond.answers.part import Part
from trafficmond.answers.rates import top_flows, top_hosts
from trafficmond.answers.threats import threat_row
from trafficmond.control.view import FlowAnswer, Row, TopQuery
from trafficmond.model import FlowQuery
from trafficmond.status import interface_rows
from trafficmond.store.query import Question, question


class FlowAnswers(Part):
    """`Flows` and `Top`."""

    async def flows(self, query: FlowQuery) -> FlowAnswer:
        """Ask flows.db, the latest flows included."""
        asked = question(query)
        return FlowAnswer(asked.sql, asked.columns, self._pages(query, asked))

    async def _pages(self, query: FlowQuery, asked: Question) -> AsyncIterator[Sequence[Row]]:
        """The answer page by page; whoever takes them slowly keeps neither thread nor file from others."""
        answer = await self._read_all(query, lambda reader: reader.answer(asked))
        pages = answer.pages()
        try:
            while page := await self._parts.questions.page(lambda: next(pages, None)):
                yield page
        finally:
            await self._parts.questions.page(answer.close)

    async def top(self, query: TopQuery) -> Row:
        """The moment's interfaces, flows, hosts and open threats."""
        pipeline = self._parts.pipeline
        moment = pipeline.moment
        flows = top_flows(moment.flows, moment.seconds, moment.at, pipeline.names, query.sort, query.match, query.limit)
        hosts = top_hosts(moment.flows, moment.seconds, query.sort, query.match, query.limit)
        return {
            "at": moment.at,
            "interfaces": interface_rows(self._parts),
            "flows": flows,
            "hosts": hosts,
            "threats": [threat_row(threat, "open") for threat in pipeline.engine.threats()[: query.limit]],
            "flow_count": len(pipeline.table),
        }
