"""Passwords guessed by HTTP (Basic, forms), a connection each: the question varies by a few bytes, the answer does not.

A load test or a health check asks the same each time; a client that reads pages or calls an interface gets different
answers.
"""

from typing import Any

import numpy as np

from trafficmond.detect import clockwork
from trafficmond.detect.base import address
from trafficmond.detect.grouped import Entities, GroupedDetector
from trafficmond.detect.windows import Columns, decay, members, mix
from trafficmond.flows.batch import Batch, Column
from trafficmond.model import Severity, Threat

PORTS = members(80, 443, 3000, 5000, 8000, 8008, 8080, 8081, 8088, 8443, 8888, 9000, 9090, 9443, 10000)
_FACTOR = 3  # times the connections of a login service: programs talk to the web all day
# So many in this time, one after the other, are slow guesses; but if several clients of the service do the same, they
# have a program in common.
_SLOW_S, _COMMON = 600.0, 3
_SAME_BYTES, _SAME_SHARE = 16, 0.9  # answers: a signature's or a number's length may differ
# Two names or words of a list have the same length one time in four; Base64 and its padding make that one in two.
_VARIED_BYTES, _VARIED_SHARE = 64, 0.3
_FADING = ("tries", "same", "varied", *clockwork.FADING)
# bound: clients of web services whose bytes are compared | the one with the fewest and oldest is forgotten
_CAPACITY = 1024


class Forms(GroupedDetector[Any]):
    """Part of `brute_force`: of rows with `sent` and `got`, the clients that guess at a web service."""

    name = "brute_force"
    technique = "T1110"
    fields = tuple((name, "f8") for name in ("at", "sent", "got", "total", "quick", *clockwork.FIELDS, *_FADING))
    fields += (("service", "u8"),)
    evidence_bonus_s = 60.0
    capacity = _CAPACITY

    def key(self, rows: Columns) -> Column:
        return mix(rows["src"], rows["dst"], rows["dport"])

    def judge(self, found: Entities) -> tuple[Column, Column]:
        rows, known = self.table.rows, found.known
        decay(rows, known, found.heard, _SLOW_S, _FADING, quick=self.settings.window)
        rows["service"][found.slot] = mix(found.kept["dst"], found.kept["dport"])
        order = np.lexsort((found.kept["first"], found.slot))
        slot = found.slot[order]
        sizes = {name: found.kept[name][order] for name in ("sent", "got")}
        sent, got = (np.abs(size - clockwork.replaced(rows[name], slot, size)) for name, size in sizes.items())
        self.table.add("same", slot, got <= _SAME_BYTES)
        self.table.add("varied", slot, (sent > 0) & (sent <= _VARIED_BYTES))
        rows["total"][known[rows["tries"][known] < 1]] = 0
        for field in ("tries", "quick", "total"):
            self.table.add(field, slot, np.ones(len(slot)))
        clockwork.note(self.table, found.slot, found.kept["first"])
        over = np.zeros(len(found.slots), bool)
        least = _FACTOR * self.settings.connections
        over[found.watched] = _guesses(rows[known], least)
        if over.any():
            alike = _guesses(rows, least / 2) & (rows["at"] > found.now.max() - _SLOW_S)
            services, clients = np.unique(rows["service"][alike], return_counts=True)
            slow = clockwork.is_paced(rows[known]) & ~np.isin(rows["service"][known], services[clients >= _COMMON])
            over[found.watched] &= slow | (rows["quick"][known] >= least)
        return over, found.states("tries")

    def threat(self, found: Entities, entity: int) -> Threat:
        one, state = found.first(entity), found.state(entity)
        src, dst, port = address(one, "src"), address(one, "dst"), int(one["dport"])
        return self.found(
            Severity.LOW,
            f"{src} asked port {port} of {dst} a little differently each time, {state['total']:,.0f} times, "
            "and got the same answer",
            {
                "unit": "connections",
                "ports": [port],
                "proven": True,  # both sides spoke over TCP
                "quick": bool(state["quick"] >= _FACTOR * self.settings.connections),
                "last_sent_bytes": int(state["sent"]),
                "last_received_bytes": int(state["got"]),
            },
            src=src,
            dst=dst,
            times=(state["since"], found.all(entity)["last"].max()),
            count=state["total"],
        )


def _guesses(states: Batch, least: float) -> Column:
    """A mask of states of clients with so many guesses."""
    tries = states["tries"]
    found: Column = (tries >= least) & (states["same"] >= _SAME_SHARE * tries)
    found &= (states["varied"] >= _VARIED_SHARE * tries) & ~clockwork.is_clock(states)
    return found
