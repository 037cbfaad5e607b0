"""What records do not count is estimated: compared with captures, in which it is counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from readings import Reading

from trafficmond.analyze.rows import sent
from trafficmond.protocols import TCP

_LARGEST = 4 << 20  # bytes of a capture: the others take longer, and show the same
_SOME = 200  # bytes of payload: in less, the options of each packet weigh more, and hosts differ in them


def test_most_estimates_of_payload_are_within_a_quarter_of_what_captures_hold(data: Path, reading: Reading) -> None:
    errors: list[float] = []
    for path in sorted((data / "pcaps").rglob("*.pcap*")):
        if path.stat().st_size > _LARGEST:
            continue
        rows, _ = reading(path)
        rows = rows[rows["proto"] == TCP]
        ends = rows[["src_hi", "src_lo", "dst_hi", "dst_lo", "sport", "dport"]]
        _, first, which = np.unique(ends, return_index=True, return_inverse=True)
        sums = [np.bincount(which.ravel(), rows[name]) for name in ("packets", "bytes", "payload_bytes")]
        for at, packets, octets, payload in zip(first, *sums, strict=True):
            if payload >= _SOME:
                estimate = sent(TCP, int(rows["family"][at]), int(packets), int(octets))[2]
                errors.append(abs(estimate - payload) / payload)
    assert len(errors) > 1000
    assert np.median(errors) <= 0.03
    assert np.mean(np.array(errors) <= 0.25) >= 0.97
