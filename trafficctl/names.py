"""Adds names of hosts and services to rows: from /etc/hosts and /etc/services, and with --names from the DNS answers
that the daemon has seen, and from reverse DNS as this user.

The owner of an address decides what its reverse name is, and a lookup is visible to the resolvers.
"""

from __future__ import annotations

import socket
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, Any

from trafficctl.asked import Asked

if TYPE_CHECKING:
    from trafficctl.resolver import Resolver

Row = dict[str, Any]

ENDS = ("src_ip", "dst_ip", "address", "host", "peer")  # the fields of rows that hold addresses
FROM_HOSTS, FROM_DNS, FROM_REVERSE = "hosts", "dns", "reverse"  # the source of a name
_PATIENCE_S = 3.0  # how long a table waits for all of its names
_AT_ONCE = 500  # rows that are looked up together
EPHEMERAL = 32_768  # ports from here on are seldom those of a service


@cache
def service(port: int, protocol: str) -> str | None:
    """The name of a port in /etc/services ("ssh"); None if it has none, or if the port is ephemeral."""
    if not 0 < port < EPHEMERAL:
        return None
    try:
        return socket.getservbyport(port, protocol.lower())
    except OSError:
        return None


class Labels:
    """Adds names to rows: of addresses as `src_name`, with its source in `src_name_from`; of ports as `src_service`.
    The same for `dst_` and for fields without a side."""

    def __init__(self, resolver: Resolver | None = None, *, services: bool = True, asked: Asked | None = None) -> None:
        self.resolver = resolver
        self.services = services
        self._asked = asked if resolver else None

    @classmethod
    def of(cls, args: Namespace) -> Labels:
        """The labels that the arguments ask for: services by name for people unless --numeric, numbers for programs."""
        asked = None if getattr(args, "fleet", None) else Asked(args.socket)  # it has not seen the DNS of other hosts
        services = not args.numeric and args.output == "human"
        if not args.names or args.numeric:
            return cls(services=services, asked=asked)
        from trafficctl.resolver import Resolver, reverse

        return cls(Resolver(reverse), services=services, asked=asked)

    def fields(self, fields: Iterable[str]) -> tuple[str, ...]:
        fields = tuple(fields)
        if not self.resolver:
            return fields
        names = [name_key(field) for field in fields if field in ENDS]
        return (*fields, *names, *(f"{name}_from" for name in names))

    def rows(self, rows: Iterable[Row]) -> Iterator[Row]:
        """The rows with their names, after a short wait for names that are still being looked up."""
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
        """Asks the daemon for the DNS names of these rows, which `now` then uses. The call is local and quick."""
        if self._asked:
            self._asked.learn({row[end] for row in rows for end in ENDS if row.get(end)})

    def _known(self, row: Row, end: str) -> tuple[str, str] | None:
        if self.resolver and (name := self.resolver.written(row[end])):
            return name, FROM_HOSTS
        if self._asked and (name := self._asked.of(row, end)):
            return name, FROM_DNS
        return None

    def now(self, row: Row) -> Row:
        """A row with the names that are known by now."""
        added: Row = {}
        if self.resolver:
            for end in ENDS:
                if row.get(end):
                    name, origin = self._known(row, end) or (self.resolver.of(row[end]), FROM_REVERSE)
                    if name and name.rstrip(".").rpartition(".")[2].isdigit():
                        name = None  # no host's: who owns an address could call it by another one
                    added |= {name_key(end): name, f"{name_key(end)}_from": origin if name else None}
        if self.services and row.get("protocol"):
            for side in ("src", "dst"):
                if port := row.get(f"{side}_port"):
                    added[f"{side}_service"] = service(port, str(row["protocol"]))
        return {**row, **added} if added else row


def name_key(end: str) -> str:
    """The field for the name of an address: "src_name" for "src_ip", "name" for "address"."""
    return f"{end.removesuffix('_ip')}_name" if end.endswith("_ip") else "name"


def arguments(parser: ArgumentParser) -> None:
    text = "show hosts by name: /etc/hosts, DNS answers seen, reverse DNS"
    parser.add_argument("--names", action="store_true", help=text)
    text = "show numbers only, for services too (:22, not :ssh)"
    parser.add_argument("-n", "--numeric", action="store_true", help=text)
