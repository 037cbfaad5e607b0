"""A world's conversations through flow table and engine, as `analyze` takes a monitor's records through them."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np

from trafficmond.analyze.order import HOLD, intervals, portions
from trafficmond.analyze.run_stats import BatchInterval
from trafficmond.analyze.spread import spread
from trafficmond.config.load import load_settings
from trafficmond.detect.detectors.new_destination import Lookups, NewDestination
from trafficmond.detect.engine import Engine, ThreatUpdate, Tick
from trafficmond.detect.ours import is_private
from trafficmond.detect.registry import settings_classes
from trafficmond.flows.batch import Batch, address_text
from trafficmond.flows.owners import Owner
from trafficmond.flows.table import FlowTable
from trafficmond.model import Direction, Severity, Threat

SEEDS = range(int(os.environ.get("WORLD_SEEDS", "5")))  # of weeks without attacks
_PORTION = 16384
_AT_ONCE_ROWS, _AT_ONCE_TICKS = 4096, 64  # ticks looked at together, as analyze does


def judge(rows: Batch, interval_s: float = 10.0, engine: Engine | None = None) -> list[Threat]:
    """The threats that the shipped defaults make of RECORD rows by start; a batch each `interval_s` seconds."""
    settings = load_settings(None, detectors=settings_classes())
    limits = settings.flows
    table = FlowTable(
        limits.table_capacity, limits.idle_timeout, limits.active_timeout, seed=1, in_order=True, reporting=False
    )
    engine = engine or Engine(settings.detect)
    engine.inform(NewDestination.name, Lookups(unit))
    threats: dict[str, Threat] = {}
    ticks: list[Tick] = []
    now = 0.0

    def told(updates: list[ThreatUpdate]) -> None:
        threats.update((update.threat.id, update.threat) for update in updates)

    stream = spread(rows[at : at + _PORTION] for at in range(0, len(rows), _PORTION))
    for now, deltas, width in portions(intervals(stream, BatchInterval(interval_s), HOLD, _none_late)):
        ticks.append(Tick(owned(table.update(deltas, now)), now, width))
        table.due(now)
        if len(ticks) == _AT_ONCE_TICKS or sum(len(tick.flows) for tick in ticks) >= _AT_ONCE_ROWS:
            told(engine.feed_ticks(ticks))
            ticks.clear()
    told(engine.feed_ticks(ticks) if ticks else [])
    told(engine.finish(now))
    threats.update((threat.id, threat) for threat in engine.threats())
    return sorted(threats.values(), key=lambda threat: threat.first_seen)


def owned(flows: Batch) -> Batch:
    """The flows as the hosts themselves would see them, each with one unit that does all it does."""
    low = np.uint64(0xFFFFFFFF)
    ours = {side: is_private(flows[f"{side}_hi"], flows[f"{side}_lo"], flows["family"]) for side in ("src", "dst")}
    flows["direction"] = np.where(ours["src"], Direction.EGRESS, Direction.INGRESS)
    flows["owner"] = np.where(ours["src"], flows["src_lo"] & low, np.where(ours["dst"], flows["dst_lo"] & low, 0))
    return flows


def unit(number: int) -> Owner:
    """That unit, by the address of its host."""
    name = f"at-{address_text(0, number, 4)}.service"
    return Owner(name, f"/system.slice/{name}")


def of(threats: list[Threat], detector: str, least: Severity = Severity.LOW) -> Iterator[Threat]:
    """Those of one detector, of at least a severity."""
    return (threat for threat in threats if threat.detector == detector and threat.severity >= least)


def text(threat: Threat) -> str:
    """A threat in a line, for a test that fails and for the lists made by hand."""
    return f"{threat.severity.name.lower()} {threat.detector}: {threat.summary} (count {threat.count})"


def _none_late(rows: int) -> None:
    raise AssertionError(f"{rows} rows came late: a world is in order")


def together(*batches: Batch) -> Batch:
    """Several worlds as one, by start."""
    rows = np.concatenate(batches)
    return rows[np.argsort(rows["start"], kind="stable")]
