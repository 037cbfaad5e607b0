"""The base of detectors: frozen Settings, a name, a technique, and one method from an input to threats."""

import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np

from trafficmond.dataclass import dataclass, field
from trafficmond.detect.ours import Ours
from trafficmond.detect.senders import Senders
from trafficmond.detect.windows import Columns
from trafficmond.flows.batch import Batch, Column, address_text
from trafficmond.model import Threat

MOST_AT_ONCE = 32
"""Limit of entities that one detector reports per batch; the heaviest come first."""
PATIENCE_S = 630.0
"""Longest time that a detector waits for evidence that clears a source."""
SAMPLES = 8
"""Targets named in a threat's evidence."""


@dataclass
class DetectorInput:
    """The input of a detector: the flows that changed, and the attempts judged since the last one.

    `flows` has the columns of `flows.batch.FLOW`, `attempts` those of `attempts.ATTEMPT`. `now` is the time of the
    batch, epoch seconds. It may have several ticks, with the `ends` and `widths` of each; the column `tick` of flows
    and attempts is then the index of theirs, rows are in its order, and `now` is the end of the last one.
    """

    flows: Columns
    attempts: Columns
    now: float
    interval_s: float = 1.0  # duration of the batch
    ours: Ours = field(default_factory=Ours)
    ends: Column = field(default_factory=lambda: np.empty(0))
    widths: Column = field(default_factory=lambda: np.empty(0))
    senders: Senders = field(default_factory=Senders)

    def __post_init__(self) -> None:
        if not len(self.ends):
            self.ends, self.widths = np.array([self.now]), np.array([self.interval_s])
            for rows in (self.flows, self.attempts):
                rows.put("tick", np.zeros(len(rows), np.intp))
        self.senders.note(self.flows, self.ends[self.flows["tick"]])

    @cached_property
    def span(self) -> Column:
        """The seconds over which each flow's packets in its tick came, at least 1.

        A row made of a whole flow record, as log readers do, spans the flow; a live one the interval between readings.
        """
        flows = self.flows
        whole = flows["new"] & (flows["packets"] == flows["d_packets"])
        width = self.widths[flows["tick"]]
        return np.maximum(np.where(whole, flows["last"] - flows["first"], width), 1.0)


class Detection(NamedTuple):
    """A threat, and the tick (of an input's `ends`) that is evidence for it."""

    tick: int
    threat: Threat


class Detector(ABC):
    """Finds one kind of threat. Its state is bounded for any traffic; it uses no clock, store or socket."""

    name: ClassVar[str]
    technique: ClassVar[str]  # MITRE ATT&CK
    dedup_key: ClassVar[tuple[str, ...]]
    """The fields of Threat that identify a situation: detections equal in these update the same threat."""
    suppressed_by: ClassVar[tuple[str, ...]] = ()
    """Detectors whose open threat about the same hosts explains this one's, unless that is weaker."""
    idle_timeout_s: ClassVar[float]
    """A threat without evidence for that long is closed."""
    bannable: ClassVar[bool] = False
    """Whether its `src_ip` is an attacker from outside, whom `[response]` may ban."""
    settings_class: ClassVar[type[Any]]
    """The `Settings` of its module."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.settings_class = getattr(sys.modules[cls.__module__], "Settings", object)

    @abstractmethod
    def __init__(self, settings: Any) -> None: ...

    @abstractmethod
    def feed(self, seen: DetectorInput) -> list[Detection]:
        """The threats that this input is evidence for, each with its tick; known ones too, with new numbers."""

    def due(self, now: float) -> bool:  # noqa: ARG002  (of those that wait for nothing)
        """Whether it has something to report by now although nothing happened."""
        return False

    def inform(self, news: Any) -> None:  # noqa: B027  (of those that need nothing)
        """Take information from other parts of the daemon, for the next `feed`; most detectors use packets only."""

    def learned(self) -> Mapping[str, Column]:
        """The state to keep over a restart, as copied arrays by name, bounded like its tables."""
        return {}

    def recall(self, learned: Mapping[str, Column], now: float) -> None:  # noqa: B027  (of those that learn nothing)
        """Restore the state from `learned` after a restart. Raises ValueError or KeyError if it does not fit."""

    @abstractmethod
    def counters(self) -> Mapping[str, int]:
        """Fill and losses of its tables: entities, capacity, evicted, refused."""


def address(rows: Any, side: str, at: Any = ()) -> str:
    """The `side` ("src" or "dst") address of a row, or of one of several, as people write it."""
    return address_text(*(int(rows[name][at]) for name in (f"{side}_hi", f"{side}_lo", "family")))


def addresses(rows: Batch, side: str) -> list[str]:
    """The distinct `side` addresses of the rows, at most SAMPLES, in order of appearance."""
    return list(dict.fromkeys(address(row, side) for row in rows[: 8 * SAMPLES]))[:SAMPLES]


def approx(count: int) -> str:
    """A number from `windows.estimate` as text: exact only while small."""
    return f"about {count:,}" if count > 50 else str(count)


def format_sources(count: int, sketch: Column, noun: str = "sources") -> str:
    """A number of sources from their byte map as text: a lower bound once the map is full."""
    full = np.count_nonzero(sketch) >= 0.95 * sketch.shape[-1]
    return f"more than {len(sketch) * 3:,} {noun}" if full else f"{approx(count)} {noun}"


def heaviest(over: Column, weight: Column) -> Column:
    """The indexes where `over` is True, at most MOST_AT_ONCE, the heaviest first."""
    at = np.flatnonzero(over)
    order: Column = at[np.argsort(-weight[at], kind="stable")[:MOST_AT_ONCE]]
    return order
