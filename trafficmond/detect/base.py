"""What a detector is: frozen Settings, a name, a technique, and one method from an observation to threats."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np

from trafficmond.detect.ours import Ours
from trafficmond.detect.windows import Columns
from trafficmond.flows.batch import Batch, Column, address_text
from trafficmond.model import Threat

MOST_AT_ONCE = 32
"""Entities that one detector reports of one batch; the weightiest come first."""
PATIENCE_S = 120.0
"""No detector waits longer for what would acquit a source."""
SAMPLES = 8
"""Targets named in a threat's evidence."""


@dataclass
class Observation:
    """What a detector is shown: the flows that changed, and the attempts judged since the last time.

    `flows` has the columns of `flows.batch.FLOW`, `attempts` those of `attempts.ATTEMPT`. `now` is the time of the
    batch, epoch seconds. Several ticks are shown at once with `ends` and `widths`, those of each; the column `tick` of
    flows and attempts then says which is theirs, they come in order of it, and `now` is the end of the last one.
    """

    flows: Columns
    attempts: Columns
    now: float
    interval_s: float = 1.0  # how long a time the batch covers
    ours: Ours = field(default_factory=Ours)
    ends: Column = field(default_factory=lambda: np.empty(0))
    widths: Column = field(default_factory=lambda: np.empty(0))

    def __post_init__(self) -> None:
        if not len(self.ends):
            self.ends, self.widths = np.array([self.now]), np.array([self.interval_s])
            for rows in (self.flows, self.attempts):
                rows.put("tick", np.zeros(len(rows), np.intp))

    @cached_property
    def span(self) -> Column:
        """Over how many seconds each flow's packets in its tick came, at least 1.

        A row made of a whole flow record, as log readers do, spans the flow; a live one the interval between readings.
        """
        flows = self.flows
        whole = flows["new"] & (flows["packets"] == flows["d_packets"])
        width = self.widths[flows["tick"]]
        spans: Column = np.maximum(np.where(whole, flows["last"] - flows["first"], width), 1.0)
        return spans


class Detection(NamedTuple):
    """A threat, and the tick (of an observation's `ends`) that is evidence for it."""

    tick: int
    threat: Threat


class Detector(ABC):
    """Finds one kind of threat. Its state is bounded whatever the traffic; it knows no clock, store or socket."""

    name: ClassVar[str]
    technique: ClassVar[str]  # MITRE ATT&CK
    dedup_key: ClassVar[tuple[str, ...]]
    """The fields of Threat that make a situation: what differs in nothing of these is the same threat, updated."""
    suppressed_by: ClassVar[tuple[str, ...]] = ()
    """Detectors whose open threat about the same hosts says more, and makes this one's redundant."""
    idle_timeout_s: ClassVar[float]
    """A threat that got no evidence for so long is closed."""
    bannable: ClassVar[bool] = False
    """Whether its `src_ip` is an attacker from outside, whom `[response]` may ban."""
    settings_class: ClassVar[type[Any]]

    @abstractmethod
    def __init__(self, settings: Any) -> None: ...

    @abstractmethod
    def feed(self, seen: Observation) -> list[Detection]:
        """The threats that this observation is evidence for, those known already included, with fresh numbers; each
        with its tick."""

    def due(self, now: float) -> bool:  # noqa: ARG002  (of those that wait for nothing)
        """Whether it has something to say by now although nothing happened."""
        return False

    def inform(self, news: Any) -> None:  # noqa: B027  (of those that need nothing)
        """What the daemon knows from elsewhere, for the next `feed`; most detectors go by packets alone."""

    def learned(self) -> Mapping[str, Column]:
        """What a restart must not lose, as arrays by name, copies: bounded as its tables are."""
        return {}

    def recall(self, learned: Mapping[str, Column], now: float) -> None:  # noqa: B027  (of those that learn nothing)
        """Go on with what `learned` gave before a restart. Raises ValueError or KeyError if it is of another kind."""

    @abstractmethod
    def counters(self) -> Mapping[str, int]:
        """How full its tables are and what they let go: entities, capacity, evicted, refused."""


def address(row: Any, side: str) -> str:
    """The `side` ("src" or "dst") address of a row, as people write it."""
    return address_text(int(row[f"{side}_hi"]), int(row[f"{side}_lo"]), int(row["family"]))


def addresses(rows: Batch, side: str) -> list[str]:
    """The distinct `side` addresses of the rows, at most SAMPLES, in order of appearance."""
    found: dict[str, None] = {}
    for row in rows[: 8 * SAMPLES]:
        found[address(row, side)] = None
        if len(found) == SAMPLES:
            break
    return list(found)


def approx(count: int) -> str:
    """A number from `windows.estimate`, as people should read it: exact only while small."""
    return f"about {count}" if count > 50 else str(count)


def format_sources(count: int, sketch: Column) -> str:
    """A number of sources from the byte map that counted them: a lower bound once the map is full."""
    full = np.count_nonzero(sketch) >= 0.95 * sketch.shape[-1]
    return f"more than {int(len(sketch) * 3)} sources" if full else f"{approx(count)} sources"


def heaviest(over: Column, weight: Column) -> Column:
    """Indexes of the True of `over`, at most MOST_AT_ONCE, the heaviest first."""
    at = np.flatnonzero(over)
    order: Column = at[np.argsort(-weight[at], kind="stable")[:MOST_AT_ONCE]]
    return order
