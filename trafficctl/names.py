"""Names of addresses and services for people: /etc/hosts and /etc/services, and if asked for what the daemon has seen
of DNS, and reverse DNS as this user.

A name of DNS is what the owner of the address says it is, and asking for it tells resolvers that somebody asked.
"""

from __future__ import annotations

import queue
import socket
import threading
import time
from argparse import ArgumentParser, Namespace
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

from trafficctl.asked import Asked
from trafficmond import networks

Row = dict[str, Any]

HOSTS = Path("/etc/hosts")
ENDS = ("src_ip", "dst_ip", "address", "host", "peer")  # what rows call addresses
FROM_HOSTS, FROM_DNS, FROM_REVERSE = "hosts", "dns", "reverse"  # where a name comes from
_MOST = 4096  # names kept; the one not asked for longest goes
_WAITING = 1024  # addresses that wait to be looked up; more are asked for again later
_THREADS = 8
_FRESH_S = 600.0  # after which a name is looked up again
_PATIENCE_S = 3.0  # that a table waits for all of its names
_AT_ONCE = 500  # rows that are looked up together
_EPHEMERAL = 32_768  # from here on a port is hardly a service's
_LONGEST = 253  # of a name


class Resolver:
    """Names by address, looked up in threads of its own: nobody waits for DNS who does not want to."""

    def __init__(self, look_up: Callable[[str], str], hosts: Path = HOSTS) -> None:
        """`look_up` gives the name of an address, or raises OSError."""
        self._look_up = look_up
        self._hosts = read_hosts(hosts)
        self._known: OrderedDict[str, tuple[float, str | None]] = OrderedDict()  # when it was found, and the name
        self._asked: set[str] = set()
        self._wanted: queue.Queue[str] = queue.Queue(_WAITING)
        self._changed = threading.Condition()
        self._begun = False

    def written(self, address: str) -> str | None:
        """The name in the file of hosts."""
        return self._hosts.get(address)

    def of(self, address: str) -> str | None:
        """The name, as far as it is known by now; else it is looked up meanwhile."""
        if name := self.written(address):
            return name
        with self._changed:
            found = self._known.get(address)
            if found is not None:
                self._known.move_to_end(address)
            if found is None or time.monotonic() - found[0] > _FRESH_S:
                self._ask(address)
        return found[1] if found else None

    def wait(self, addresses: Iterable[str], seconds: float) -> None:
        """Until all of these were looked up, or the time is over."""
        missing = {address for address in addresses if address not in self._hosts}
        end = time.monotonic() + seconds
        with self._changed:
            while missing and (left := end - time.monotonic()) > 0:
                missing = {address for address in missing if address not in self._known}
                for address in missing - self._asked:
                    self._ask(address)
                if missing:
                    self._changed.wait(left)

    def _ask(self, address: str) -> None:
        if address in self._asked:
            return
        try:
            self._wanted.put_nowait(address)
        except queue.Full:
            return
        self._asked.add(address)
        if not self._begun:
            self._begun = True
            for _ in range(_THREADS):  # a resolver may hang for a minute: it must not hold up the end
                threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        while True:
            address = self._wanted.get()
            try:
                name = self._look_up(address)[:_LONGEST]
            except (OSError, UnicodeError):
                name = ""
            with self._changed:
                self._asked.discard(address)
                self._known[address] = time.monotonic(), name or None
                self._known.move_to_end(address)
                while len(self._known) > _MOST:
                    self._known.popitem(last=False)
                self._changed.notify_all()


def reverse(address: str) -> str:
    """The name that this host's resolver has for an address. Raises OSError if there is none."""
    return socket.getnameinfo((address, 0), socket.NI_NAMEREQD)[0]


def read_hosts(path: Path) -> Mapping[str, str]:
    """The first name of each address of a file such as /etc/hosts; of what cannot be read, none."""
    try:
        lines = path.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    found: dict[str, str] = {}
    for line in lines:
        words = line.partition("#")[0].split()
        if len(words) < 2:
            continue
        try:
            found.setdefault(str(networks.parse_address(words[0])), words[1])
        except ValueError:  # such as fe80::1%lo0
            continue
    return found


@cache
def service(port: int, protocol: str) -> str | None:
    """What /etc/services calls a port ("ssh"); None where it does not, or where the port is hardly a service's."""
    if not 0 < port < _EPHEMERAL:
        return None
    try:
        return socket.getservbyport(port, protocol.lower())
    except OSError:
        return None


class Labels:
    """Adds names to rows: `src_name`, `dst_name` and so on of addresses, with where they come from (`src_name_from`),
    `src_service`, `dst_service` of ports."""

    def __init__(self, resolver: Resolver | None = None, *, services: bool = True, asked: Asked | None = None) -> None:
        self.resolver = resolver
        self.services = services
        self._asked = asked if resolver else None

    @classmethod
    def of(cls, args: Namespace) -> Labels:
        """As the arguments ask: people read services by name unless they say otherwise, programs read numbers."""
        wanted = bool(args.names) and not args.numeric
        asked = None if getattr(args, "fleet", None) else Asked(args.socket)  # of other hosts this one knows nothing
        services = not args.numeric and args.output == "human"
        return cls(Resolver(reverse) if wanted else None, services=services, asked=asked)

    def fields(self, fields: Iterable[str]) -> tuple[str, ...]:
        """The fields of csv with those that are added."""
        fields = tuple(fields)
        if not self.resolver:
            return fields
        names = [name_key(field) for field in fields if field in ENDS]
        return (*fields, *names, *map(origin_key, names))

    def rows(self, rows: Iterable[Row]) -> Iterator[Row]:
        """The rows with what is known of them, after a short wait for what is not."""
        if self.resolver is None:
            yield from map(self.now, rows)
            return
        left = iter(rows)
        patience = time.monotonic() + _PATIENCE_S
        while page := list(islice(left, _AT_ONCE)):
            self.learn(page)
            wanted = {row[end] for row in page for end in ENDS if row.get(end) and not self._known(row, end)}
            self.resolver.wait(wanted, max(0.0, patience - time.monotonic()))
            yield from map(self.now, page)

    def learn(self, rows: Iterable[Row]) -> None:
        """Asks the daemon what it has seen of DNS about these rows, for `now`; an answer is never far."""
        if self._asked:
            self._asked.learn({row[end] for row in rows for end in ENDS if row.get(end)})

    def _known(self, row: Row, end: str) -> tuple[str, str] | None:
        """The name and its origin, where nobody has to be asked for it."""
        if self.resolver and (name := self.resolver.written(row[end])):
            return name, FROM_HOSTS
        if self._asked and (name := self._asked.of(row, end)):
            return name, FROM_DNS
        return None

    def now(self, row: Row) -> Row:
        """A row with what is known of it by now."""
        added: Row = {}
        if self.resolver:
            for end in ENDS:
                if row.get(end):
                    name, origin = self._known(row, end) or (self.resolver.of(row[end]), FROM_REVERSE)
                    added[name_key(end)] = name
                    added[origin_key(name_key(end))] = origin if name else None
        if self.services and row.get("protocol"):
            for side in ("src", "dst"):
                if port := row.get(f"{side}_port"):
                    added[f"{side}_service"] = service(port, str(row["protocol"]))
        return {**row, **added} if added else row


def name_key(end: str) -> str:
    """What the name of that address is called: "src_ip" has "src_name", "address" has "name"."""
    return f"{end.removesuffix('_ip')}_name" if end.endswith("_ip") else "name"


def origin_key(name: str) -> str:
    """What tells where a name comes from: of "src_name" it is "src_name_from"."""
    return f"{name}_from"


def arguments(parser: ArgumentParser) -> None:
    """--names and -n."""
    parser.add_argument(
        "--names", action="store_true", help="show hosts by name: /etc/hosts, what was asked for, reverse DNS"
    )
    parser.add_argument(
        "-n", "--numeric", action="store_true", help="show numbers alone, not even services by name (:22, not :ssh)"
    )
