"""Flows, stored and live."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from trafficmond.answers.part import Part
from trafficmond.answers.rates import top_flows, top_hosts
from trafficmond.answers.status import interface_rows
from trafficmond.answers.threats import threat_row
from trafficmond.control.view import FlowAnswer, Row, TopQuery
from trafficmond.model import FlowQuery
from trafficmond.store.query import Question, question
from trafficmond.store.reader import Reader


class FlowAnswers(Part):
    """`Flows` and `Top`."""

    async def flows(self, query: FlowQuery) -> FlowAnswer:
        """Ask flows.db, the latest flows included."""
        asked = question(query)
        await self._store_latest()
        return FlowAnswer(asked.sql, asked.columns, self._pages(asked))

    async def _pages(self, asked: Question) -> AsyncIterator[Sequence[Row]]:
        """The answer page by page, each taken in a thread of its own, so that what comes last there is the close."""
        loop = asyncio.get_running_loop()
        thread = ThreadPoolExecutor(1, "answer")
        try:
            reader = await loop.run_in_executor(thread, Reader, self._daemon.store.path)
            pages = reader.pages(asked)
            try:
                while page := await loop.run_in_executor(thread, next, pages, None):
                    yield page
            finally:
                thread.submit(pages.close).add_done_callback(lambda _: reader.close())
        finally:
            thread.shutdown(wait=False)

    async def top(self, query: TopQuery) -> Row:
        """The moment's interfaces, flows, hosts and open threats."""
        pipeline = self._daemon.pipeline
        moment = pipeline.moment
        flows = top_flows(moment.flows, moment.seconds, moment.at, pipeline.names, query.sort, query.match, query.limit)
        hosts = top_hosts(moment.flows, moment.seconds, query.sort, query.match, query.limit)
        return {
            "at": moment.at,
            "interfaces": interface_rows(self._daemon),
            "flows": flows,
            "hosts": hosts,
            "threats": [threat_row(threat, "open") for threat in pipeline.engine.threats()[: query.limit]],
            "flow_count": len(pipeline.table),
        }
