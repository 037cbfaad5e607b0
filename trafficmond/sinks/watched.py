"""Events for watching clients: an EVENT batch that becomes text only when a client reads it."""

from typing import Self

import numpy as np

from trafficmond.choice import EventFilter
from trafficmond.flows.batch import Batch, Column, of_ports, of_prefixes, take
from trafficmond.flows.names import Names
from trafficmond.sinks.jsonl import event_lines
from trafficmond.verdict import action_of


class EventRecords:
    """The events of one reading, as records of `control.broadcast`."""

    def __init__(self, batch: Batch, names: Names) -> None:
        self._batch = batch
        self._names = names

    def __len__(self) -> int:
        return len(self._batch)

    def chosen(self, wanted: EventFilter) -> Column:
        batch = self._batch
        mask = np.ones(len(batch), bool)
        if wanted.action is not None:
            mask &= action_of(batch["verdict"]) == wanted.action
        if wanted.interface is not None:
            names = self._names.interface
            named = [number for number in np.unique(batch["ifindex"]).tolist() if names(number) == wanted.interface]
            mask &= np.isin(batch["ifindex"], named)
        if wanted.host is not None:
            mask &= of_prefixes(batch, ("src", "dst"), wanted.host)
        if wanted.ports is not None:
            mask &= of_ports(batch, wanted.ports)
        return np.flatnonzero(mask)

    def take(self, rows: Column) -> Self:
        return type(self)(take(self._batch, rows), self._names)

    def texts(self, rows: Column) -> list[str]:
        return event_lines(take(self._batch, rows), self._names)
