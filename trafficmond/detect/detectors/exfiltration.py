"""A host on this side sends far more out than usual, in conversations that it opened.

An upload is worth a look if the host did not send much to the same network in an earlier half day, as backups do. The
rest is a note.
"""

import numpy as np

from trafficmond.config.declare import duration, setting, size
from trafficmond.dataclass import dataclass
from trafficmond.detect.base import DetectorInput, address, addresses
from trafficmond.detect.grouped import Entities, GroupedDetector
from trafficmond.detect.windows import Columns, Grouped, decay, mix
from trafficmond.flows.batch import NAT64, Column
from trafficmond.model import Severity, Threat

_MUCH = 0.1  # of the threshold's pace, from which a destination counts as one that the host sends to
_HALF_DAY_S = 43200.0
_PLACES = 128  # of networks that got much; a cloud has many addresses, so that networks are compared


@dataclass(frozen=True)
class Settings:
    enabled: bool = setting(True, help="Look for unusual uploads.")
    bytes: int = size("500MiB", min="1MiB", help="Sent by one host within the window, minus what it received.")
    window: float = duration("10m", min="1m", max="1d", help="Bytes count less with age: a third after this time.")
    factor: float = setting(8.0, min=1.0, max=1000.0, help="The bytes must also be this many times the average.")
    memory: float = duration("1d", min="1h", max="30d", help="The time over which the host's own average is taken.")
    upload_share: float = setting(0.8, min=0.5, max=1.0, help="Least share of a flow's bytes that its initiator sends.")
    capacity: int = setting(4096, min=64, max=1 << 20, help="Hosts watched at once; 0.2 kB each.")


class Exfiltration(GroupedDetector[Settings]):
    name = "exfiltration"
    technique = "T1048"
    dedup_key = ("src_ip",)
    suppressed_by = ("volume",)
    idle_timeout_s = 3600.0
    fields = (
        *((name, "f8") for name in ("at", "recent", "long", "total", "elsewhere")),
        ("networks", "u1", _PLACES),  # by hash: 0, or the half day in which one got much first
    )
    evidence_bonus_s = 600.0

    def choose(self, seen: DetectorInput) -> Columns:
        flows = seen.flows
        sent, got = flows["d_bytes"].astype(np.float64), flows["d_reply_bytes"].astype(np.float64)
        out = (sent > 0) & (sent >= self.settings.upload_share * (sent + got)) & (flows["reply_packets"] > 0)
        out &= seen.ours.side(flows, "src") & ~seen.ours.side(flows, "dst")
        at = np.flatnonzero(out)
        rows = flows.take(at)
        rows.put("net", sent[at] - got[at])
        return rows

    def key(self, rows: Columns) -> Column:
        return rows["src"]

    def weight(self, rows: Columns, by: Grouped) -> Column:
        return by.sum(rows["net"]) / 1e6

    def judge(self, found: Entities) -> tuple[Column, Column]:
        settings, now, rows, slot = self.settings, found.heard, self.table.rows, found.known
        net = found.by.sum(found.rows["net"])
        decay(rows, slot, now, settings.window, ("recent", "elsewhere"), long=settings.memory)
        # The average is of the time before, without the recent bytes. It covers at least `factor` windows: over less
        # time, not even an upload alone would be `factor` times the average.
        age = np.minimum(now - rows["since"][slot], settings.memory)
        before = np.maximum(rows["long"][slot] - rows["recent"][slot], 0)
        usual = before * settings.window / np.maximum(age, settings.factor * settings.window)
        for field in ("recent", "long", "total"):
            rows[field][slot] += net[found.watched]
        flows = found.kept
        pace = _MUCH * settings.bytes / settings.window
        much = np.flatnonzero(flows["net"] >= pace * np.maximum(found.seen.widths[flows["tick"]], 1.0))
        half_day = (found.seen.ends[flows["tick"][much]] // _HALF_DAY_S).astype(np.int64) % 255 + 1
        v4 = (flows["family"] == 4) | (flows["dst_hi"] == NAT64)
        network = np.where(v4, flows["dst_lo"] >> np.uint64(16), flows["dst_hi"] >> np.uint64(32))
        place = found.slot[much], (mix(network[much]) % np.uint64(_PLACES)).astype(np.intp)
        since = rows["networks"][place]
        first_time = (since == 0) | (since == half_day)
        rows["networks"][place] = np.where(since == 0, half_day, since)
        self.table.add("elsewhere", found.slot[much], flows["net"][much] * first_time)
        over = np.zeros(len(net), bool)
        over[found.watched] = rows["recent"][slot] >= np.maximum(settings.bytes, settings.factor * usual)
        return over, net

    def threat(self, found: Entities, entity: int) -> Threat:
        mine, state = found.all(entity), found.state(entity)
        src = address(mine[0], "src")
        odd = state["elsewhere"] >= 0.5 * state["recent"] and found.now[entity] - state["since"] >= _HALF_DAY_S
        return self.found(
            Severity.MEDIUM if odd else Severity.LOW,
            f"{src} sent {state['recent'] / 2**20:,.0f} MiB out, far more than it usually does",
            {
                "unit": "bytes",
                "recent_bytes": int(state["recent"]),
                "targets": addresses(mine[np.argsort(-mine["d_bytes"].astype(np.int64))], "dst"),
            },
            src=src,
            times=(state["since"], found.now[entity]),
            count=state["total"],
        )
