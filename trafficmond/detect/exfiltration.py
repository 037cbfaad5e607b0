"""A host of the house sends far more out than it does otherwise.

Counted is what a private address sends to public ones in conversations that it opened itself, where it gives far
more than it takes; compared with its own long average. A server that is asked for files answers, and does not count.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from trafficmond.config.declare import duration, setting, size
from trafficmond.detect.base import Observation, address, addresses, is_private, strongest, table_counters
from trafficmond.detect.windows import NOWHERE, Grouped, Table, decay
from trafficmond.model import Severity, Threat


@dataclass(frozen=True)
class Settings:
    """[detect.exfiltration]"""

    enabled: bool = setting(True, help="Look for unusual uploads.")
    bytes: int = size("500MiB", min="1MiB", help="Sent by one host within the window, net of what it got back.")
    window: float = duration("10m", min="1m", max="1d", help="How long bytes are remembered (they fade out).")
    factor: float = setting(8.0, min=1.0, max=1000.0, help="... and so many times the host's own average.")
    memory: float = duration("1d", min="1h", max="30d", help="Over which time that average is taken.")
    upload_share: float = setting(0.8, min=0.5, max=1.0, help="Flows that send less than this share are downloads.")
    capacity: int = setting(4096, min=64, max=1 << 20, help="Hosts watched at once; 70 bytes each.")


class Exfiltration:
    """See the module."""

    name: ClassVar[str] = "exfiltration"
    technique: ClassVar[str] = "T1048"
    identity: ClassVar[tuple[str, ...]] = ("src_ip",)
    yields_to: ClassVar[tuple[str, ...]] = ("volume",)
    quiet_s: ClassVar[float] = 3600.0
    settings_class: ClassVar[type[Any]] = Settings

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        fields = [("at", "f8"), ("recent", "f8"), ("long", "f8"), ("total", "f8")]
        self._hosts = Table(fields, settings.capacity, credit_s=600.0)

    def feed(self, seen: Observation) -> list[Threat]:
        """See base.Detector."""
        settings, flows = self._settings, seen.flows
        sent, got = flows["d_bytes"].astype(np.float64), flows["d_reply_bytes"].astype(np.float64)
        out = (sent > 0) & (sent >= settings.upload_share * (sent + got)) & (flows["reply_packets"] > 0)
        out &= is_private(flows["src_hi"], flows["src_lo"], flows["family"])
        out &= ~is_private(flows["dst_hi"], flows["dst_lo"], flows["family"])
        at = np.flatnonzero(out)
        if not len(at):
            return []
        flows = flows.take(at)
        hosts = Grouped(seen.src[at])
        net = hosts.sum(sent[at] - got[at])
        slots = self._hosts.watch(hosts.keys, net / 1e6, seen.now, np.inf)
        here = np.flatnonzero(slots != NOWHERE)
        slot, rows = slots[here], self._hosts.rows
        since = np.maximum(seen.now - rows["at"][slot], 0.0)
        rows["long"][slot] *= np.exp(-since / settings.memory)
        decay(rows, slot, seen.now, settings.window, ("recent",))
        # The average is of the time before: what is recent does not excuse itself.
        age = np.minimum(seen.now - rows["since"][slot], settings.memory)
        before = np.maximum(rows["long"][slot] - rows["recent"][slot], 0)
        usual = before * settings.window / np.maximum(age, settings.window)
        for field in ("recent", "long", "total"):
            rows[field][slot] += net[here]
        over = np.zeros(len(slots), bool)
        over[here] = (rows["recent"][slot] >= settings.bytes) & (rows["recent"][slot] >= settings.factor * usual)
        threats = []
        for group in strongest(over, net):
            mine, state = flows.rows(hosts.of == group), rows[slots[group]]
            src = address(mine[0], "src")
            threats.append(
                Threat(
                    detector=self.name,
                    severity=Severity.MEDIUM,
                    technique=self.technique,
                    src_ip=src,
                    dst_ip=None,
                    first_seen=float(state["since"]),
                    last_seen=seen.now,
                    count=int(state["total"]),
                    summary=f"{src} sent {state['recent'] / 2**20:.0f} MiB out, far more than it usually does",
                    evidence={
                        "unit": "bytes",
                        "recent_bytes": int(state["recent"]),
                        "targets": addresses(mine[np.argsort(-mine["d_bytes"].astype(np.int64))], "dst"),
                    },
                )
            )
        return threats

    def counters(self) -> Mapping[str, int]:
        """See base.Detector."""
        return table_counters(self._hosts)
