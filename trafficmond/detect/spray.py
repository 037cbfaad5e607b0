"""One host tries a login at many hosts, a few times each, and is refused everywhere: one password for all of them.

Zeek also adds up the failed logins of a source over all hosts (policy/protocols/ssh/detect-bruteforcing).
"""

from typing import Any

import numpy as np

from trafficmond.detect.base import address, addresses, approx
from trafficmond.detect.grouped import Entities, GroupedDetector
from trafficmond.detect.windows import Columns, Grouped, estimate, mark, mix
from trafficmond.flows.batch import Column
from trafficmond.model import Severity, Threat

_TRIES, _HOSTS = 30, 5
_OWN_HOSTS = 20  # for one of our hosts: its owner knows of a monitor or a script that logs in to a few
_MANY_HOSTS = 100  # more than a stranger administers; as in `host_sweep`
_LET_IN_SHARE = 0.1  # an administrator logs in, and stays
_DAY_S = 86400.0
# bound: pairs of source and port, of logins at many hosts | the pair with the fewest and oldest tries is forgotten
_CAPACITY = 1024


class Sprays(GroupedDetector[Any]):
    """Part of `brute_force`: of TCP rows with a column `refused` (bool), the sources and ports that are a spray."""

    name = "brute_force"
    technique = "T1110.003"
    fields = (("tries", "f4"), ("others", "f4"), ("mute", "f4"), ("map", "u1", 256))
    evidence_bonus_s = 60.0
    capacity = _CAPACITY

    @property
    def window_s(self) -> float:
        return _DAY_S

    def key(self, rows: Columns) -> Column:
        return mix(rows["src"], rows["dport"])

    def weight(self, rows: Columns, by: Grouped) -> Column:
        return by.sum(rows["refused"])

    def judge(self, found: Entities) -> tuple[Column, Column]:
        refused = found.kept["refused"]
        found.add(tries=refused, others=~refused, mute=found.kept["reply_packets"] == 0)
        mark(self.table.rows["map"], found.slot[refused], found.kept["dst"][refused])
        tries, others = found.states("tries"), found.states("others")
        over = (tries >= _TRIES) & (others <= _LET_IN_SHARE * (tries + others))
        over &= found.by.sum(found.rows["refused"]) > 0
        at = np.flatnonzero(over)
        inside = found.seen.ours.side(found.rows, "src")[found.by.first[at]]
        hosts = estimate(self.table.rows["map"][found.slots[at]])
        over[at] = hosts >= np.where(inside, _OWN_HOSTS, _HOSTS)
        return over, tries

    def threat(self, found: Entities, entity: int) -> Threat:
        one, state = found.first(entity), found.state(entity)
        hosts = int(estimate(state["map"]))
        inside = found.seen.ours.side(found.rows, "src")[found.by.first[entity]]
        src, what = address(one, "src"), f"short connections to port {one['dport']}"
        proven = bool(state["mute"] == 0)  # both sides spoke over TCP each time
        return self.found(
            Severity.MEDIUM if hosts >= _MANY_HOSTS and proven and not inside else Severity.LOW,
            f"{src} made {state['tries']:,.0f} {what} of {approx(hosts)} hosts",
            {
                "unit": "connections",
                "ports": [int(one["dport"])],
                "hosts": hosts,
                "targets": addresses(found.all(entity), "dst"),
                "proven": proven,
            },
            src=src,
            times=(state["since"], found.all(entity)["last"].max()),
            count=state["tries"],
        )
