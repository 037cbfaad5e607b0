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
_COUNTS = ("tries", "same", "varied")
_QUICK = tuple(f"quick_{field}" for field in _COUNTS)  # of the settings' window
_FADING = (*_COUNTS, *clockwork.FADING)
# bound: clients of web services whose bytes are compared | the one with the fewest and oldest is forgotten
_CAPACITY = 1024


class Forms(GroupedDetector[Any]):
    """Part of `brute_force`: of rows with `sent` and `got`, the clients that guess at a web service."""

    name = "brute_force"
    technique = "T1110"
    fields = tuple((name, "f8") for name in ("at", "sent", "got", "total", *_QUICK, *clockwork.FIELDS, *_FADING))
    fields += (("service", "u8"),)
    evidence_bonus_s = 60.0
    capacity = _CAPACITY

    def key(self, rows: Columns) -> Column:
        return mix(rows["src"], rows["dst"], rows["dport"])

    def judge(self, found: Entities) -> tuple[Column, Column]:
        rows, known = self.table.rows, found.known
        decay(rows, known, found.heard, _SLOW_S, _FADING, **dict.fromkeys(_QUICK, self.settings.window))
        rows["service"][found.slot] = mix(found.kept["dst"], found.kept["dport"])
        order = np.lexsort((found.kept["first"], found.slot))
        slot = found.slot[order]
        sizes = {name: found.kept[name][order] for name in ("sent", "got")}
        sent, got = (np.abs(size - clockwork.replaced(rows[name], slot, size)) for name, size in sizes.items())
        idle = rows["tries"][known] < 1
        rows["total"][known[idle]], rows["since"][known[idle]] = 0, found.heard[idle]
        counted = np.ones(len(slot)), got <= _SAME_BYTES, (sent > 0) & (sent <= _VARIED_BYTES)
        for field, amounts in zip((*_COUNTS, *_QUICK, "total"), (*counted, *counted, counted[0]), strict=True):
            self.table.add(field, slot, amounts)
        clockwork.note(self.table, found.slot, found.kept["first"])
        over = np.zeros(len(found.slots), bool)
        least = _FACTOR * self.settings.connections
        quick, slow = (_guesses(rows[known], least, fields) for fields in (_QUICK, _COUNTS))
        if slow.any():
            alike = _guesses(rows, least / 2, _COUNTS) & (np.abs(rows["at"] - found.now.max()) < _SLOW_S)
            services, clients = np.unique(rows["service"][alike], return_counts=True)
            slow &= clockwork.is_paced(rows[known]) & ~np.isin(rows["service"][known], services[clients >= _COMMON])
        over[found.watched] = quick | slow
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
                "quick": bool(state["quick_tries"] >= _FACTOR * self.settings.connections),
                "last_sent_bytes": int(state["sent"]),
                "last_received_bytes": int(state["got"]),
            },
            src=src,
            dst=dst,
            times=(state["since"], found.all(entity)["last"].max()),
            count=state["total"],
        )


def _guesses(states: Batch, least: float, fields: tuple[str, ...]) -> Column:
    """A mask of states of clients with so many guesses, by these counts."""
    tries, same, varied = (states[field] for field in fields)
    found: Column = (tries >= least) & (same >= _SAME_SHARE * tries) & (varied >= _VARIED_SHARE * tries)
    return found & ~clockwork.is_clock(states)
