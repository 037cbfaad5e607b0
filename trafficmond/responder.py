"""Carries out the decisions of the response: makes bans and audits them, or in shadow only logs them."""

import os
import time
from collections.abc import Callable, Collection

from trafficmond import networks
from trafficmond.banlist import BanList
from trafficmond.config.settings import Response as Settings
from trafficmond.dataclass import InitVar, dataclass, field
from trafficmond.detect.engine import CONTINUED, ThreatUpdate
from trafficmond.detect.response import Response
from trafficmond.errors import DatapathError
from trafficmond.model import Reason, Threat
from trafficmond.policy.explain import overlapping
from trafficmond.rulebook import Rulebook
from trafficmond.sinks import messages
from trafficmond.sinks.fanout import SinkSet
from trafficmond.store.records import AuditEntry, Ban
from trafficmond.store.store import Store

OWNER = "response"  # the owner of bans made by the response


@dataclass(eq=False)
class Responder:
    """Carries out the decisions of `detect.response.Response`."""

    settings: InitVar[Settings]
    _rulebook: Rulebook
    _bans: BanList
    _sinks: SinkSet
    _store: Store
    _logged_in: Callable[[], Collection[str]]
    response: Response = field(init=False)
    _failing: bool = field(default=False, init=False)  # the last ban could not be made

    def __post_init__(self, settings: Settings) -> None:
        self.response = Response(settings, self._is_protected)

    def configure(self, settings: Settings) -> None:
        self.response.configure(settings)

    def counters(self) -> dict[str, int]:
        """The counters, as `metrics.families` names them."""
        response = self.response
        return {"spared_protected_bans": response.protected_spared, "spared_forgeable_bans": response.forgeable_spared}

    def why_not(self, threat: Threat) -> str:
        """Why the source of an open threat is not banned; empty if it is, or if nothing prevents it."""
        return "" if self._whole_bans(threat) else self.response.why_not(threat)

    def lifted(self, prefix: str) -> None:
        """Handles that an administrator lifted the response's bans within a prefix."""
        self.response.lifted(prefix)

    def respond(self, update: ThreatUpdate) -> None:
        """Carries out the decisions about a threat, or in shadow logs them. A ban that runs is not replaced: one of
        before the start may be longer."""
        now = time.time()
        if any(ban.expires is None or ban.expires > now for ban in self._whole_bans(update.threat)):
            return
        for decision in self.response.decide(update, now):
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
                self.response.failed()
                if not self._failing or update.state != CONTINUED:  # it is tried again with all further evidence
                    self._sinks.note(messages.ERROR_INTERNAL, str(error), fields)
                self._failing = True
                continue
            self._failing = False
            self._sinks.note(messages.BANNED, f"banned {text}", fields)
            self._store.audit(AuditEntry(now, os.getuid(), by, os.getpid(), "ban", decision.prefix, None, text))

    def _whole_bans(self, threat: Threat) -> list[Ban]:
        """The bans of a threat's source that are not for single services."""
        return [ban for ban in self._bans.covering(threat.src_ip) if not ban.ports] if threat.src_ip else []

    def _is_protected(self, prefix: str) -> bool:
        """Whether a prefix overlaps the guard or the allowlist, or a user is logged in from it. The guard may not have
        that user yet, since it is made when the rules change."""
        in_force = self._rulebook.in_force
        if in_force is None:
            return True
        policy = in_force.policy
        reasons = {policy.rules[int(policy.owner[row])].reason for row in overlapping(policy, prefix)}
        network = networks.parse(prefix)
        return bool(reasons & {Reason.GUARD, Reason.ALLOWLIST}) or any(
            networks.holds(network, address) for address in self._logged_in()
        )
