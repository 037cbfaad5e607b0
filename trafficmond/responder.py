"""Carries out what the response decides about threats: bans with an audit, or a word of what would have been banned."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from trafficmond import networks
from trafficmond.banlist import BanList
from trafficmond.config.settings import Response as Settings
from trafficmond.detect.engine import ThreatUpdate
from trafficmond.detect.response import Response
from trafficmond.errors import DatapathError
from trafficmond.model import Reason, Threat
from trafficmond.policy.explain import overlapping
from trafficmond.rulebook import Rulebook
from trafficmond.sinks import messages
from trafficmond.sinks.fanout import SinkSet
from trafficmond.store.records import AuditEntry, Ban
from trafficmond.store.store import Store

OWNER = "response"  # of its bans


@dataclass(frozen=True, slots=True)
class Spared:
    """Bans not made: the source is protected, or could be anybody's forgery."""

    protected: int = 0
    forgeable: int = 0


class Responder:
    """The effects of `detect.response.Response`."""

    def __init__(
        self,
        settings: Settings,
        rulebook: Rulebook,
        bans: BanList,
        sinks: SinkSet,
        store: Store,
        logged_in: Callable[[], Collection[str]],
    ) -> None:
        self._rulebook = rulebook
        self._bans = bans
        self._sinks = sinks
        self._store = store
        self._logged_in = logged_in
        self._response = Response(settings, self._is_protected)

    def configure(self, settings: Settings) -> None:
        """Other settings of the response from now on."""
        before, self._response = self._response, Response(settings, self._is_protected)
        self._response.protected_spared = before.protected_spared
        self._response.forgeable_spared = before.forgeable_spared

    def spared(self) -> Spared:
        """How many bans were not made, since the start."""
        return Spared(self._response.protected_spared, self._response.forgeable_spared)

    def why_not(self, threat: Threat) -> str:
        """Why an open threat's source is not banned; empty: it is, or nothing stands against it."""
        bans = self._bans.covering(threat.src_ip) if threat.src_ip else []
        return "" if any(not ban.ports for ban in bans) else self._response.why_not(threat)

    def lifted(self, prefix: str) -> None:
        """An administrator lifted the response's bans within a prefix."""
        self._response.lifted(prefix)

    def respond(self, update: ThreatUpdate) -> None:
        """Carries out what is decided about a threat, or says what would have been done."""
        now = time.time()
        for decision in self._response.decide(update, now):
            by = update.threat.detector
            fields = {"prefix": decision.prefix, "threat_id": decision.threat_id, "by": by}
            text = f"{decision.prefix} for {decision.ttl_s:.0f} s: {decision.reason}"
            if decision.shadow:
                self._sinks.note(messages.WOULD_BAN, f"would have banned {text}", fields)
                continue
            end = now + decision.ttl_s
            try:
                what = (decision.reason, now, end, decision.threat_id, decision.count)
                self._bans.add(Ban(decision.prefix, by, *what, owner=OWNER))
            except DatapathError as error:
                self._sinks.note(messages.ERROR_INTERNAL, str(error), fields)
                continue
            self._sinks.note(messages.BANNED, f"banned {text}", fields)
            self._store.audit(AuditEntry(now, os.getuid(), by, os.getpid(), "ban", decision.prefix, None, text))

    def _is_protected(self, prefix: str) -> bool:
        """Whether a prefix shares an address with the guard or the allowlist, or somebody is logged in from there
        whom the guard, made when the rules last changed, has not seen come."""
        in_force = self._rulebook.in_force
        if in_force is None:
            return True
        policy = in_force.policy
        reasons = {policy.rules[int(policy.owner[row])].reason for row in overlapping(policy, prefix)}
        network = networks.parse(prefix)
        return bool(reasons & {Reason.GUARD, Reason.ALLOWLIST}) or any(
            networks.holds(network, address) for address in self._logged_in()
        )
