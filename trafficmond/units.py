"""Owners of traffic: the units of this host by cgroups, and the sockets that wait for incoming flows."""

import math
import time
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from trafficmond import networks
from trafficmond.datapath.cgroups import Cgroups
from trafficmond.datapath.origins import service_of
from trafficmond.datapath.waiting import WAITING, waiting
from trafficmond.detect.ours import Prefixes
from trafficmond.flows.batch import Batch, Column, take
from trafficmond.flows.owners import FORWARDED, KERNEL, NOBODY, Owner, of_kernel, owner_of_path, special_owner
from trafficmond.flows.processes import cgroup_of
from trafficmond.flows.waiting import Waiting
from trafficmond.model import Direction
from trafficmond.networks import Network
from trafficmond.processes import Process, Processes
from trafficmond.protocols import ACK, ICMP, ICMPV6, IGMP, RST, TCP

_SHARE = 1 / 400  # of a processor's time at most for looking up waiting sockets
_MOST_CREDIT_S = 0.1  # unspent time is saved, so that most hosts can look up whenever needed
_MOST_KNOWN = 4096  # owners of cgroups in the cache
_FRESH_S = 1.0  # how long a lookup is considered valid
_SIGNALS = (ICMP, IGMP, ICMPV6)
_GROUPS = tuple(map(networks.parse, ("224.0.0.0/4", "255.255.255.255/32", "ff00::/8")))


class Units:
    """Units of flows; off: flows have none. The loop's thread owns it."""

    def __init__(
        self,
        cgroups: Cgroups | None = None,
        ask: Callable[[], Batch] = waiting,
        clock: Callable[[], float] = time.monotonic,
        spent: Callable[[], float] = time.thread_time,
    ) -> None:
        self.cgroups = cgroups  # those of this host; None: flows.units is off
        self._ask = ask
        self._clock = clock
        self._spent = spent  # of the processor's time
        self.processes = Processes()
        self._here: Prefixes | None = None  # until it is known
        self._waiting: Waiting | None = None
        self._asked_at = self._looked_at = -math.inf
        self._credit_s = _MOST_CREDIT_S  # of the processor's time, for lookups
        self._known: dict[int, Owner] = {}
        self.answers = True  # replies are observed: a flow without one had none
        self.unnamed = 0  # rows stored with a cgroup's number, since its name is unknown

    @property
    def on(self) -> bool:
        return self.cgroups is not None

    def live_at(self, addresses: Iterable[Network]) -> None:
        """Sets this host's own addresses, broadcast addresses included."""
        self._here = Prefixes((*addresses, *_GROUPS))

    def set_owners(self, rows: Batch) -> None:
        """Sets `owner` of incoming rows without a reply, in place, to the owner of the socket that waits for them. It
        stays 0 if that needs another look at too many sockets; a later call for the flow may set it."""
        if not self.on:
            return
        if "reply_tcp_flags" in (rows.dtype.names or ()):
            self._claim_resets(rows)
        self._claim_unnamed(rows)
        asks = np.flatnonzero((rows["owner"] == 0) & (rows["direction"] == Direction.INGRESS))
        if not len(asks):
            return
        found = np.full(len(asks), NOBODY if self.answers else 0, np.uint64)
        found[np.isin(rows["proto"][asks], _SIGNALS)] = KERNEL
        if self._here:
            found[~self._here.holds(*(rows[name][asks] for name in ("dst_hi", "dst_lo", "family")))] = FORWARDED
        open_ = np.flatnonzero((found == np.uint64(NOBODY)) | (found == 0))
        if len(open_):
            places = take(rows, asks[open_])
            waits, current = self._who_waits(lambda waiting: waiting.of(places))
            otherwise = found[open_] if current else np.uint64(0)
            found[open_] = self.processes.wait(places, np.where(waits > 0, waits, otherwise))
        rows["owner"][asks] = found

    def _claim_resets(self, rows: Batch) -> None:
        """Sets the kernel as the owner of connections that it refused: over IPv6 its resets have no socket."""
        refused = (rows["owner"] == np.uint64(FORWARDED)) & (rows["proto"] == TCP)
        refused &= (rows["direction"] == Direction.INGRESS) & np.isin(rows["reply_tcp_flags"], (RST, RST | ACK))
        if self._here and refused.any():
            asked = np.flatnonzero(refused)
            alone = take(rows, asked)
            ours = self._here.holds(alone["dst_hi"], alone["dst_lo"], alone["family"])
            rows["owner"][asked[ours]] = KERNEL

    def _claim_unnamed(self, rows: Batch) -> None:
        """Sets the kernel as the owner of neighbour discovery and group messages, unless a unit with a name sent them.
        The kernel's socket for them belongs to the creator of the network namespace: for a container's, outside it."""
        sent = np.flatnonzero(of_kernel(rows))
        if len(sent):
            whose, out = rows["owner"][sent], rows["direction"][sent] == Direction.EGRESS
            unnamed = [number for number in np.unique(whose).tolist() if number and self.owner(number) is None]
            rows["owner"][sent[np.isin(whose, np.array(unnamed, np.uint64)) | (whose == 0) & out]] = KERNEL

    def listeners(self, proto: int, port: int) -> list[str]:
        """The units that wait on a port, on any address of this host."""
        numbers = self._who_waits(lambda waiting: waiting.at(proto, port))[0].tolist() if self.on else []
        return sorted({(self.owner(number) or Owner()).unit or f"cgroup {number}" for number in numbers})

    def listening_processes(self, proto: int, port: int) -> list[Process]:
        """The known processes that wait on a port, on any address of this host."""
        if not self.on or not self.processes.on:
            return []
        self._who_waits(lambda waiting: waiting.at(proto, port))
        return self.processes.at(self._waiting.places(proto, port)) if self._waiting else []

    def owners(self, rows: Batch) -> dict[int, Owner]:
        """The owner that each `owner` of these rows stands for."""
        numbers = np.unique(rows["owner"]).tolist() if self.on else []
        return {number: self.owner(number) or Owner(f"cgroup {cgroup_of(number)}") for number in numbers}

    def owner(self, number: int) -> Owner | None:
        """The owner of that number: a cgroup, a process in it, or one of the words; None: unknown."""
        if (process := self.processes.of(number)) is not None:
            of_unit = self.owner(cgroup_of(number)) or Owner(f"cgroup {cgroup_of(number)}")
            return of_unit._replace(process=process.name, pid=process.pid)
        number = cgroup_of(number)
        found = special_owner(number) or self._known.get(number)
        if found is None and self.cgroups and (path := self.cgroups.path(number)):
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            found = self._known[number] = owner_of_path(path, service_of)
        return found

    def count_unnamed(self, rows: Batch, owners: Mapping[int, Owner]) -> None:
        if self.on and len(rows):
            named = [number for number, owner in owners.items() if not (owner.unit or "").startswith("cgroup ")]
            self.unnamed += int(np.isin(rows["owner"], np.array(named, np.uint64), invert=True).sum())

    def close(self) -> None:
        if self.cgroups:
            self.cgroups.close()

    def _who_waits(self, find: Callable[[Waiting], Column]) -> tuple[Column, bool]:
        """The result of `find` on the last lookup, or on a new one if something was not found; and whether it was a new
        one, so that what was not found is not there. The more sockets there are, the less often they are looked up."""
        now = self._clock()
        self._credit_s = min(_MOST_CREDIT_S, self._credit_s + (now - self._looked_at) * _SHARE)
        self._looked_at = now
        old = self._waiting
        if old is not None and (self._credit_s <= 0 or now < self._asked_at + _FRESH_S):
            found = find(old)
            if self._credit_s <= 0 or (len(found) and found.all()):
                return found, False
        begin = self._spent()
        try:
            asked, current = self._ask(), True
        except OSError:  # a kernel without sock_diag, or without memory for it
            asked, current = np.zeros(0, WAITING), False
        self._waiting = Waiting(asked)
        self._asked_at = now
        if old is not None:  # the first lookup costs more than the others
            self._credit_s -= self._spent() - begin
        return find(self._waiting), current
