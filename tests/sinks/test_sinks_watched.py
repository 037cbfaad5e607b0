"""Events for watchers: their filters are those of the log, and nothing is made that nobody reads."""

from __future__ import annotations

import json

import numpy as np
import pytest

from trafficmond import choice
from trafficmond.choice import EventFilter
from trafficmond.flows.batch import V4_MAPPED, Batch
from trafficmond.flows.events import EVENT
from trafficmond.flows.names import Names
from trafficmond.model import Action
from trafficmond.sinks.watched import EventRecords

NAMES = Names({2: "eth0", 3: "eth1", 4: "eth0"})


def events() -> Batch:
    """Four of TCP: two IPv4, dropped and logged, and two IPv6."""
    batch = np.zeros(4, EVENT)
    batch["proto"] = 6
    batch["family"] = [4, 4, 6, 6]
    batch["src_lo"] = [V4_MAPPED | np.uint64(0xC0000207), V4_MAPPED | np.uint64(0xC0000301), 1, 2]
    batch["dst_lo"] = [V4_MAPPED | np.uint64(1), V4_MAPPED | np.uint64(0xC0000207), 3, 1]
    batch["src_hi"] = batch["dst_hi"] = [0, 0, 0x20010DB8 << 32, 0x20010DB8 << 32]
    batch["verdict"] = np.array([2, 1, 2, 1]) << 28
    batch["ifindex"] = [2, 3, 3, 4]
    batch["timestamp"] = 1_700_000_000.0 + np.arange(4)
    return batch


@pytest.mark.parametrize(
    ("wanted", "rows"),
    [
        (EventFilter(), [0, 1, 2, 3]),
        (EventFilter(action=Action.DROP), [0, 2]),
        (EventFilter(action=Action.LIMIT), []),
        (EventFilter(interface="eth0"), [0, 3]),
        (EventFilter(interface="eth9"), []),
        (EventFilter(host=choice.prefixes("192.0.2.0/24")), [0, 1]),
        (EventFilter(host=choice.prefixes("::ffff:192.0.2.7")), [0, 1]),
        (EventFilter(host=choice.prefixes("::/0")), [2, 3]),
        (EventFilter(host=choice.prefixes("!::/0")), [0, 1]),
        (EventFilter(host=choice.prefixes("!192.0.2.0/24,2001:db8::1")), []),
        (EventFilter(ports=choice.ports("0-65535")), [0, 1, 2, 3]),
        (EventFilter(ports=choice.ports("!0-65535")), []),
        (EventFilter(host=choice.prefixes("2001:db8::1"), action=Action.MONITOR), [3]),
    ],
)
def test_filters(wanted: EventFilter, rows: list[int]) -> None:
    records = EventRecords(events(), NAMES)
    assert records.chosen(wanted).tolist() == rows
    told = [json.loads(text) for text in records.take(np.array(rows, np.intp)).texts(np.arange(len(rows)))]
    assert [each["timestamp"] - 1_700_000_000 for each in told] == rows
