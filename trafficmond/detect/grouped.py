"""The common structure of detectors: inputs by entity, a row per entity in a bounded table, a threshold."""

from abc import abstractmethod
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np

from trafficmond.detect.base import Detection, Detector, DetectorInput, heaviest
from trafficmond.detect.windows import NOWHERE, BoundedTable, Columns, Grouped, in_turns
from trafficmond.flows.batch import Batch, Column
from trafficmond.model import Severity, Threat

S = TypeVar("S")  # the Settings of a detector


class Entities:
    """The entities of one input that a detector watches, and their rows in its table."""

    def __init__(self, rows: Columns, by: Grouped, table: BoundedTable, slots: Column, seen: DetectorInput) -> None:
        self.rows = rows
        self.by = by  # the rows by entity
        self.slots = slots  # of each entity in the table; NOWHERE: it is not watched
        self.watched: Column = slots != NOWHERE
        self.tick: Column = rows["tick"][by.first]  # of each entity: its rows are of one
        self.now: Column = seen.ends[self.tick]  # ... and when that ended
        self.seen = seen
        self._table = table

    @cached_property
    def _kept(self) -> tuple[Columns, Column]:
        slot = self.slots[self.by.of]
        at = np.flatnonzero(slot != NOWHERE)
        return (self.rows, slot) if len(at) == len(slot) else (self.rows.take(at), slot[at])

    @property
    def kept(self) -> Columns:
        """The rows of watched entities."""
        return self._kept[0]

    @property
    def slot(self) -> Column:
        """The slot of each of the rows `kept`."""
        return self._kept[1]

    @property
    def known(self) -> Column:
        """The slot of each watched entity."""
        return self.slots[self.watched]

    @property
    def heard(self) -> Column:
        """When the tick of each watched entity's rows ended (epoch s)."""
        return self.now[self.watched]

    def add(self, **amounts: Column) -> None:
        """Add to fields of the table: an amount for each of the rows `kept`."""
        for field, amount in amounts.items():
            self._table.add(field, self.slot, amount)

    def states(self, field: str) -> Column:
        """A field of each entity's row in the table; undefined for one that is not watched."""
        return self._table.rows[field][self.slots]

    def state(self, entity: int) -> Any:
        """The row of a watched entity in the table."""
        return self._table.rows[self.slots[entity]]

    def first(self, entity: int) -> Any:
        """One of the entity's rows as in the batch."""
        return self.rows.rows(self.by.first[entity])

    def all(self, entity: int) -> Batch:
        """The entity's rows as in the batch."""
        return self.rows.rows(self.by.of == entity)


class GroupedDetector(Detector, Generic[S]):
    """A detector defined by the rows that count, their entities, and a threshold.

    `fields` and `evidence_bonus_s` are those of its `BoundedTable`.
    """

    fields: ClassVar[tuple[Any, ...]]
    evidence_bonus_s: ClassVar[float]

    capacity = 0
    """The room for entities; 0: `settings.capacity`."""

    def __init__(self, settings: Any) -> None:
        self.settings: S = settings
        self.table = BoundedTable(list(self.fields), self.capacity or settings.capacity, self.evidence_bonus_s)

    @property
    def window_s(self) -> float:
        """The time after which an entity's row starts again."""
        return np.inf

    def choose(self, seen: DetectorInput) -> Columns:
        """The rows that count; those of all flows, if not overridden."""
        return seen.flows

    @abstractmethod
    def key(self, rows: Columns) -> Column:
        """The entity that each row counts for, as a 64-bit hash."""

    def weight(self, rows: Columns, by: Grouped) -> Column:  # noqa: ARG002
        """The weight of each entity's rows when room is short: here their number; 0 adds no new entity."""
        return by.counts

    @abstractmethod
    def judge(self, found: Entities) -> tuple[Column, Column]:
        """Add the findings to the table; return (mask of entities over the threshold, their rank)."""

    @abstractmethod
    def threat(self, found: Entities, entity: int) -> Threat | None:
        """The threat of an entity over the threshold; None: none after all."""

    def feed(self, seen: DetectorInput) -> list[Detection]:
        return self.examine(self.choose(seen), seen)

    def examine(self, rows: Columns, seen: DetectorInput) -> list[Detection]:
        """The threats that these rows are evidence for."""
        if not len(rows):
            return []
        if len(seen.ends) == 1:
            return self._step(rows, Grouped(self.key(rows)), seen)
        rows = self._noted(rows)
        detections: list[Detection] = []
        for step in in_turns(self.key(rows), rows["tick"]):
            part = rows.take(step)
            detections += self._step(part, Grouped(self.key(part)), seen)
        return detections

    def _noted(self, rows: Columns) -> Columns:
        """The rows without those of entities that the table would not keep."""
        by = Grouped(self.key(rows))
        idle = (self.weight(rows, by) <= 0) & (self.table.find(by.keys) == NOWHERE)
        return rows.take(~idle[by.of]) if idle.any() else rows

    def _step(self, rows: Columns, by: Grouped, seen: DetectorInput) -> list[Detection]:
        """Detections from rows with at most one tick per entity."""
        now = seen.ends[rows["tick"][by.first]]
        slots = self.table.admit(by.keys, self.weight(rows, by), now, self.window_s)
        found = Entities(rows, by, self.table, slots, seen)
        over, rank = self.judge(found)
        over &= found.watched
        detections = []
        for tick in np.unique(found.tick[over]).tolist() if over.any() else ():
            for entity in heaviest(over & (found.tick == tick), rank).tolist():
                threat = self.threat(found, entity)
                if threat is not None:
                    detections.append(Detection(tick, threat))
        return detections

    def tables(self) -> Mapping[str, BoundedTable]:
        """Its tables by name, whose content is kept over restarts."""
        return {"entities": self.table}

    def learned(self) -> Mapping[str, Column]:
        return {name: table.learned() for name, table in self.tables().items()}

    def recall(self, learned: Mapping[str, Column], now: float) -> None:
        for name, table in self.tables().items():
            table.recall(learned[name], now)

    def counters(self) -> Mapping[str, int]:
        table = self.table
        counts = {"entities": len(table), "capacity": table.capacity}
        return {**counts, "evicted": table.evicted, "refused": table.refused}

    def found(
        self,
        severity: Severity,
        summary: str,
        evidence: dict[str, Any],
        *,
        src: str | None = None,
        dst: str | None = None,
        times: tuple[float, float],
        count: int,
        technique: str = "",
    ) -> Threat:
        """A threat of this detector, as plain numbers. `times`: when it was seen first and last."""
        return Threat(
            detector=self.name,
            severity=severity,
            technique=technique or self.technique,
            src_ip=src,
            dst_ip=dst,
            first_seen=float(times[0]),
            last_seen=float(times[1]),
            count=int(count),
            summary=summary,
            evidence=evidence,
        )


class PacketDetector(GroupedDetector[Any]):
    """A detector of entities that send `settings.packets` packets of a kind."""

    idle_timeout_s = 3600.0
    fields = (("packets", "f8"),)
    evidence_bonus_s = 60.0

    def weight(self, rows: Columns, by: Grouped) -> Column:
        return by.sum(rows["d_packets"])

    def judge(self, found: Entities) -> tuple[Column, Column]:
        found.add(packets=found.kept["d_packets"])
        packets = found.states("packets")
        return packets >= self.settings.packets, packets
