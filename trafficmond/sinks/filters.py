"""The filter of one [[log]], on columns."""

import numpy as np

from trafficmond import networks
from trafficmond.choice import Choice
from trafficmond.config.streams import Log
from trafficmond.flows.batch import Batch, of_prefixes
from trafficmond.model import Action, Severity, Threat
from trafficmond.verdict import action_of


class Filter:
    def __init__(self, log: Log) -> None:
        self._actions = [Action.parse(name) for name in log.actions]
        self._all_actions = {Action.MONITOR, Action.DROP} <= set(self._actions)
        self._networks = tuple(networks.parse(text) for text in log.prefixes)
        self._least = Severity.parse(log.min_severity) if log.min_severity != "none" else None

    def events(self, batch: Batch) -> Batch:
        """The rows with one of the actions, and an address in one of the prefixes if there are any."""
        if not self._all_actions:
            batch = batch[np.isin(action_of(batch["verdict"]), self._actions)]
        if self._networks:
            batch = batch[of_prefixes(batch, ("src", "dst"), Choice(self._networks))]
        return batch

    def threat(self, threat: Threat) -> bool:
        """Whether it is severe enough, and has an address in one of the prefixes if there are any."""
        if self._least is None or threat.severity < self._least:
            return False
        ends = [networks.parse_address(end) for end in (threat.src_ip, threat.dst_ip) if end]
        return not self._networks or any(end in network for end in ends for network in self._networks)
