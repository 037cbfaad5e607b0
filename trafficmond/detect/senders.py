"""Hosts seen in an exchange in both directions lately. What such a host asks for, or answers, would be seen too."""

from typing import Any

import numpy as np

from trafficmond.detect.windows import Columns
from trafficmond.flows.batch import Column
from trafficmond.protocols import ACK, RST

# A host whose packets are seen talks to somebody within the hour. If only packets to a host are seen, its questions may
# be missing. Packets that nobody answers show nothing about the other direction; the sources of a flood are forged.
_SENDS_S = 3600.0
# bound: hosts seen in both directions, by a hash of the address | two hosts with one hash count as one
_SENDERS = 1 << 16
_LATEST = 2**32 - 1


class Senders:
    def __init__(self) -> None:
        # From when and until (whole epoch seconds, to 2106), by the hash of the address; 0: never.
        self._since, self._sent = np.zeros((2, _SENDERS), np.uint32)

    def note(self, flows: Columns, ends: Column) -> None:
        """Records which hosts send something in an exchange. `ends`: of the tick of each flow."""
        both = (flows["packets"] > 0) & (flows["reply_packets"] > 0)
        goes_on = (flows["packets"] > 1) | (flows["tcp_flags"] & (ACK | RST) != 0)  # forged sources do not
        sides = [("src", both & goes_on & (flows["d_packets"] > 0)), ("dst", both & (flows["d_reply_packets"] > 0))]
        hosts = np.concatenate([flows[side][sent] for side, sent in sides]) % np.uint64(_SENDERS)
        when = np.concatenate([ends[sent] for _, sent in sides]).clip(0, _LATEST).astype(np.uint32)
        order = np.argsort(when, kind="stable")  # of what is assigned to one host, the last stays
        hosts, when = hosts[order], when[order]
        returns = np.abs(self._sent[hosts] - when.astype(np.int64)) > _SENDS_S
        self._since[hosts[returns][::-1]] = when[returns][::-1]
        self._sent[hosts[returns]] = 0
        self._sent[hosts] = np.maximum(self._sent[hosts], when)

    def know(self, hosts: Any, now: Any) -> Any:
        """Whether each of these hosts (hashes) was seen in an exchange within the hour before its `now`."""
        at = hosts % np.uint64(_SENDERS)
        return (self._since[at] <= now) & (now <= self._sent[at] + _SENDS_S)
