"""One host tries the same closed service again and again: a stale configuration, a dead peer, or port knocking.

It is no attack, so its severity is low at most; it explains noise that would otherwise be investigated. What one host
tries in vain at several others, as a print server does while the printers are off, is one note.
"""

from trafficmond.config.declare import duration, setting
from trafficmond.dataclass import dataclass
from trafficmond.detect.attempts import Kind, Outcome
from trafficmond.detect.base import DetectorInput, address
from trafficmond.detect.grouped import Entities, GroupedDetector
from trafficmond.detect.windows import Columns, Grouped, mix
from trafficmond.flows.batch import Column
from trafficmond.model import Severity, Threat

_AT_LEAST_S = 60.0  # attempts in a shorter time are something else


@dataclass(frozen=True)
class Settings:
    enabled: bool = setting(True, help="Report services that a host tries again and again without success.")
    dials: int = setting(50, min=3, max=1 << 20, help="Failed attempts of one host at one service in a window.")
    window: float = duration("10m", min="10s", max="1d", help="How long failed attempts are added up.")
    capacity: int = setting(8192, min=64, max=1 << 20, help="Pairs of host and service watched at once; 48 bytes each.")


class RepeatedFlow(GroupedDetector[Settings]):
    name = "repeated_flow"
    technique = "T1205"
    dedup_key = ("src_ip",)
    suppressed_by = ("port_scan", "host_sweep", "syn_flood", "volume", "brute_force", "amplification")
    idle_timeout_s = 3600.0
    fields = (("failed", "f8"), ("answered", "f8"))
    evidence_bonus_s = 30.0

    @property
    def window_s(self) -> float:
        return self.settings.window

    def choose(self, seen: DetectorInput) -> Columns:
        rows = seen.attempts.take((seen.attempts["kind"] == Kind.SYN) | (seen.attempts["kind"] == Kind.DATAGRAM))
        rows.put("failed", (rows["outcome"] == Outcome.SILENT) | (rows["outcome"] == Outcome.REFUSED))
        return rows

    def key(self, rows: Columns) -> Column:
        return mix(rows["src"], rows["dst"], rows["proto"], rows["dport"])

    def weight(self, rows: Columns, by: Grouped) -> Column:
        return by.sum(rows["failed"])

    def judge(self, found: Entities) -> tuple[Column, Column]:
        found.add(failed=found.kept["failed"], answered=found.kept["outcome"] == Outcome.ANSWERED)
        failed = found.states("failed")
        over = (failed >= self.settings.dials) & (found.states("answered") == 0)
        return over & (found.now - found.states("since") >= _AT_LEAST_S), failed

    def threat(self, found: Entities, entity: int) -> Threat:
        one, state = found.first(entity), found.state(entity)
        src, dst = address(one, "src"), address(one, "dst")
        return self.found(
            Severity.LOW,
            f"{src} tried port {one['dport']} of {dst} {state['failed']:,.0f} times without success",
            {"unit": "dials", "ports": [int(one["dport"])], "protocols": [int(one["proto"])], "targets": [dst]},
            src=src,
            dst=dst,
            times=(state["since"], found.now[entity]),
            count=state["failed"],
        )
