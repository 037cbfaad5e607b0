"""Flows, stored and live."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict

from trafficmond.answers.part import Part
from trafficmond.answers.rates import top_flows, top_hosts
from trafficmond.answers.status import interface_rows
from trafficmond.answers.threats import threat_row
from trafficmond.control.view import FlowAnswer, FlowQuery, Row, TopQuery
from trafficmond.store.query import Filter, question


class FlowAnswers(Part):
    """`Flows` and `Top`."""

    async def flows(self, query: FlowQuery) -> FlowAnswer:
        """Ask flows.db, the latest flows included."""
        asked = question(Filter(**asdict(query)))
        await self._store_latest()

        async def pages() -> AsyncIterator[Sequence[Row]]:
            for page in await self._read(lambda reader: list(reader.pages(asked))):
                yield page

        return FlowAnswer(asked.sql, asked.columns, pages())

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
