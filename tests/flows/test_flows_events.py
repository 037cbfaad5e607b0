"""Which packets become events, and what a budget suppresses."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from trafficmond.flows.batch import Batch
from trafficmond.flows.events import Kind, events
from trafficmond.model import Action, Reason
from trafficmond.verdict import verdict_word


@pytest.mark.parametrize(
    ("action", "expected"), [(Action.ALLOW, 0), (Action.MONITOR, 1), (Action.DROP, 1), (Action.LIMIT, 0)]
)
def test_only_monitored_and_dropped_packets_are_reported(
    deltas: Callable[..., Batch], action: Action, expected: int
) -> None:
    batch, suppressed = events(deltas({"verdict": verdict_word(action, Reason.RULE, 7)}), 101.0, 10)
    assert len(batch) == expected
    assert suppressed == 0


def test_a_new_record_tells_its_first_packet_and_a_going_one_its_last(deltas: Callable[..., Batch]) -> None:
    row = {"first": 100.0, "last": 100.5, "first_len": 60, "last_len": 1500, "first_flags": 2, "tcp_flags": 0x1A}
    batch, _ = events(deltas({**row, "sport": 1}, {**row, "sport": 2, "new": False, "packets": 9}), 101.0, 10)
    new, sample = batch
    assert (new["kind"], new["timestamp"], new["packet_size"], new["tcp_flags"]) == (Kind.NEW, 100.0, 60, 2)
    assert (sample["kind"], sample["timestamp"], sample["packet_size"], sample["tcp_flags"]) == (
        Kind.SAMPLE,
        100.5,
        1500,
        0x1A,
    )
    assert (new["sport"], sample["sport"], sample["packets"]) == (1, 2, 9)


def test_news_come_before_samples_and_the_rest_is_counted(deltas: Callable[..., Batch]) -> None:
    rows = [{"sport": port, "new": port % 2 == 0} for port in range(100)]
    batch, suppressed = events(deltas(*rows), 101.0, 60)
    assert (batch["kind"] == Kind.NEW).sum() == 50
    assert (batch["kind"] == Kind.SAMPLE).sum() == 10
    assert suppressed == 40


def test_a_budget_keeps_an_even_spread_of_a_flood(deltas: Callable[..., Batch]) -> None:
    batch, suppressed = events(
        deltas(*({"sport": port, "first": 100 + port / 1000} for port in range(1000))), 102.0, 10
    )
    assert suppressed == 990
    assert batch["sport"].tolist() == list(range(0, 1000, 100))


@pytest.mark.parametrize("budget", [0, -5])
def test_no_budget_no_events(deltas: Callable[..., Batch], budget: int) -> None:
    batch, suppressed = events(deltas({}, {"new": False}), 101.0, budget)
    assert len(batch) == 0
    assert suppressed == 2


def test_events_are_in_order_of_time_and_never_from_the_future(deltas: Callable[..., Batch]) -> None:
    batch, _ = events(deltas({"first": 103.0}, {"first": 99.0}, {"first": 100.0}), 101.0, 10)
    assert batch["timestamp"].tolist() == [99.0, 100.0, 101.0]


def test_a_record_without_new_packets_is_silent(deltas: Callable[..., Batch]) -> None:
    batch, suppressed = events(deltas({"new": False, "packets": 0}), 101.0, 10)
    assert (len(batch), suppressed) == (0, 0)
