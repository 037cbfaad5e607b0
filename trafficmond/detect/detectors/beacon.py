"""One host calls another at regular intervals, as implants do.

Counted are dials, bursts merged to one beat; regular is a low variation of the gaps between beats, with requests
alike in size (RITA, activecm: dispersion of intervals and of sizes, from 20 connections on). Programs of the house
call each other so as well, so inside a private network it is only worth a note; clocks, names and announcements
are not looked at.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trafficmond.config.declare import duration, setting
from trafficmond.detect.base import Observation, address, is_private
from trafficmond.detect.dials import Kind, Outcome
from trafficmond.detect.grouped import Entities, GroupedDetector
from trafficmond.detect.windows import NOWHERE, Columns, Grouped, members, mix
from trafficmond.flows.batch import Batch, Column
from trafficmond.model import Severity, Threat

_RING = 32  # beats remembered of each
_BURST_S = 1.0
_NEVER = members(53, 67, 68, 123, 137, 138, 161, 162, 427, 514, 546, 547, 853, 1900, 3702, 5353, 5355, 5351)
_ALIKE = 0.25  # variation coefficient of the requests' sizes


@dataclass(frozen=True)
class Settings:
    """[detect.beacon]"""

    enabled: bool = setting(True, help="Look for beacons.")
    beats: int = setting(20, min=5, max=_RING, help="Beats before regularity is judged.")
    variation: float = setting(0.25, min=0.0, max=1.0, help="Most variation of the gaps (standard deviation by mean).")
    shortest: float = duration("1500ms", min="1s", max="1h", help="A mean gap below this is a conversation.")
    longest: float = duration("2h", min="1m", max="1d", help="Silence after which the count starts again.")
    capacity: int = setting(8192, min=64, max=1 << 20, help="Pairs of host and service watched at once; 0.4 kB each.")


class Beacon(GroupedDetector):
    name = "beacon"
    technique = "T1071"
    identity = ("src_ip", "dst_ip")
    yields_to = ("port_scan", "host_sweep", "brute_force")
    quiet_s = 21600.0
    settings_class = Settings
    settings: Settings
    fields = (
        ("port", "u2"),
        ("beats", "i8"),
        *((name, "f8") for name in ("last", "dials", "sent", "sent2")),
        ("times", "f8", _RING),
    )
    credit_s = 300.0

    def choose(self, seen: Observation) -> Columns:
        dials = seen.dials
        wanted = (dials["kind"] == Kind.SYN) | (dials["kind"] == Kind.DATAGRAM)
        wanted &= ~_NEVER[dials["dport"]] & (dials["sport"] != dials["dport"])
        return dials.take(wanted & (dials["outcome"] == Outcome.ANSWERED))

    def key(self, rows: Columns) -> Column:
        return mix(rows["src"], rows["dst"], rows["proto"], rows["dport"])

    def weight(self, rows: Columns, by: Grouped) -> Column:
        return by.sum(np.ones(len(rows)))

    def judge(self, found: Entities) -> tuple[Column, Column]:
        slot = found.slots[found.by.of]
        in_time = np.argsort(found.rows["at"])
        in_time = in_time[slot[in_time] != NOWHERE]
        self._count(found.rows.take(in_time), slot[in_time])

        settings, beats = self.settings, found.states("beats")
        ripe = np.flatnonzero((beats >= settings.beats) & found.watched)
        states = self.table.rows[found.slots[ripe]]
        gaps, variation = _gaps(states)
        dialled = np.maximum(states["dials"], 1)
        mean = states["sent"] / dialled
        spread = np.sqrt(np.maximum(states["sent2"] / dialled - mean * mean, 0))
        over = np.zeros(len(beats), bool)
        over[ripe] = (variation <= settings.variation) & (gaps >= settings.shortest) & (spread <= _ALIKE * mean)
        return over, beats

    def _count(self, dials: Columns, slot: Column) -> None:
        """Note the beats, in order of time, one of each service a round."""
        rows = self.table.rows
        sent = dials["payload_bytes"].astype(np.float64)
        for field, amount in (("dials", np.ones(len(dials))), ("sent", sent), ("sent2", sent * sent)):
            self.table.add(field, slot, amount)
        at, port, calls = dials["at"], dials["sport"], dials["kind"] == Kind.SYN
        while len(at):
            # Dials within a burst of the last beat fall away, and so do datagrams from the port of the last one: a
            # session kept alive, not a call. Of the rest, each service's earliest is its next beat.
            apart = (np.abs(at - rows["last"][slot]) >= _BURST_S) & (calls | (port != rows["port"][slot]))
            slot, at, port, calls = slot[apart], at[apart], port[apart], calls[apart]
            one, earliest = np.unique(slot, return_index=True)
            beat = at[earliest]
            stale = np.abs(beat - rows["last"][one]) > self.settings.longest
            rows["beats"][one[stale]] = 0
            rows["times"][one, rows["beats"][one] % _RING] = beat
            rows["beats"][one] += 1
            rows["last"][one] = beat
            rows["port"][one] = port[earliest]

    def threat(self, found: Entities, entity: int) -> Threat:
        one, state = found.first(entity), found.state(entity)
        (gap,), (variation,) = _gaps(self.table.rows[found.slots[[entity]]])
        src, dst = address(one, "src"), address(one, "dst")
        inside = bool(is_private(one["dst_hi"], one["dst_lo"], one["family"]))
        return self.found(
            Severity.LOW if inside else Severity.MEDIUM,
            f"{src} calls port {one['dport']} of {dst} every {gap:.1f} s",
            {
                "unit": "beats",
                "ports": [int(one["dport"])],
                "mean_gap_s": round(float(gap), 2),
                "variation": round(float(variation), 3),
            },
            src=src,
            dst=dst,
            first_seen=state["since"],
            last_seen=found.seen.now,
            count=state["beats"],
        )


def _gaps(states: Batch) -> tuple[Column, Column]:
    """(mean, variation coefficient) of the gaps between the beats remembered in each full enough row."""
    if not len(states):
        return np.zeros(0), np.zeros(0)
    count = np.minimum(states["beats"], _RING)
    beyond = np.arange(_RING) >= count[:, None]
    times = np.sort(np.where(beyond, np.inf, states["times"]), axis=1)
    with np.errstate(invalid="ignore"):
        gaps = np.diff(times, axis=1)
    valid = ~beyond[:, 1:]
    gaps = np.where(valid, gaps, 0.0)
    number = np.maximum(count - 1, 1)
    mean = gaps.sum(axis=1) / number
    deviation = np.sqrt((np.where(valid, gaps - mean[:, None], 0.0) ** 2).sum(axis=1) / number)
    return mean, deviation / np.maximum(mean, 1e-9)
