"""The filter of one [[log]], on columns."""

from __future__ import annotations

import numpy as np

from trafficmond import networks
from trafficmond.config.streams import Log
from trafficmond.flows.batch import Batch, Column, split_address
from trafficmond.model import Action, Severity, Threat
from trafficmond.verdict import action_of

_ALL_ONES = (1 << 64) - 1


class Filter:
    def __init__(self, log: Log) -> None:
        self._actions = [Action.parse(name) for name in log.actions]
        self._all_actions = {Action.MONITOR, Action.DROP} <= set(self._actions)
        self._networks = [networks.parse(text) for text in log.prefixes]
        self._masked = [_masked(network) for network in self._networks]
        self._least = Severity.parse(log.min_severity) if log.min_severity != "none" else None

    def events(self, batch: Batch) -> Batch:
        """The rows with one of the actions, and an address in one of the prefixes if there are any."""
        if not self._all_actions:
            batch = batch[np.isin(action_of(batch["verdict"]), self._actions)]
        if self._masked:
            batch = batch[self._inside(batch, "src") | self._inside(batch, "dst")]
        return batch

    def threat(self, threat: Threat) -> bool:
        """Whether it is severe enough, and has an address in one of the prefixes if there are any."""
        if self._least is None or threat.severity < self._least:
            return False
        ends = [networks.parse_address(end) for end in (threat.src_ip, threat.dst_ip) if end]
        return not self._networks or any(end in network for end in ends for network in self._networks)

    def _inside(self, batch: Batch, side: str) -> Column:
        found: Column = np.zeros(len(batch), bool)
        for family, (mask_hi, mask_lo), (hi, lo) in self._masked:
            found |= (
                (batch["family"] == family)
                & (batch[side + "_hi"] & mask_hi == hi)
                & (batch[side + "_lo"] & mask_lo == lo)
            )
        return found


def _masked(network: networks.Network) -> tuple[int, tuple[np.uint64, np.uint64], tuple[np.uint64, np.uint64]]:
    """Family, and mask and prefix as the two words of batch addresses."""
    bits = network.prefixlen + (96 if network.version == 4 else 0)
    mask = ((1 << bits) - 1) << (128 - bits)
    hi, lo = split_address(network.network_address.packed)
    mask_words = np.uint64(mask >> 64), np.uint64(mask & _ALL_ONES)
    return network.version, mask_words, (np.uint64(hi), np.uint64(lo))
