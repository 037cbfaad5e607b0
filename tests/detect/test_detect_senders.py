from __future__ import annotations

import numpy as np
from detect_traffic import ACK, SYN, T0, datagram, flow, flows, many, talk

from trafficmond.detect.senders import Senders
from trafficmond.detect.windows import Columns

A, V = "203.0.113.9", "192.0.2.80"


def test_only_an_exchange_shows_that_a_host_is_seen_and_for_an_hour() -> None:
    senders = Senders()
    forged = Columns(flows(datagram(source, V, 80) for source in many(20_000)))
    senders.note(forged, np.full(len(forged), T0))
    assert not senders.know(forged["src"], np.float64(T0)).any()
    assert not senders.know(forged["dst"][:1], np.float64(T0)).any()

    visit = Columns(flows([talk(flow(A, V, 443))]))
    senders.note(visit, np.full(1, T0 + 10))
    for side in ("src", "dst"):
        known = [bool(senders.know(visit[side], np.float64(T0 + at))[0]) for at in (0, 10, 3600, 3700)]
        assert known == [False, True, True, False]


def test_forged_sources_whose_openings_are_answered_are_not_seen() -> None:
    senders, answer = Senders(), {"reply_packets": 1, "reply_tcp_flags": SYN | ACK}
    forged = Columns(flows(flow(source, V, 443, **answer) for source in many(20_000)))
    senders.note(forged, np.full(len(forged), T0))
    assert senders.know(forged["dst"], np.float64(T0)).all()
    assert senders.know(forged["src"], np.float64(T0)).sum() <= 20  # those with the hash of the server


def test_after_the_clock_was_set_back_a_host_is_seen_again() -> None:
    senders, visit = Senders(), Columns(flows([talk(flow(A, V, 443))]))
    for at in (T0 + 9000, T0):
        senders.note(visit, np.full(1, at))
    assert bool(senders.know(visit["src"], np.float64(T0))[0])
