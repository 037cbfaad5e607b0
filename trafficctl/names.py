"""Names of addresses and services for people: /etc/hosts and /etc/services, and if asked for what the daemon has seen
of DNS, and reverse DNS as this user.

A name of DNS is what the owner of the address says it is, and asking for it tells resolvers that somebody asked.
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

ENDS = ("src_ip", "dst_ip", "address", "host", "peer")  # what rows call addresses
FROM_HOSTS, FROM_DNS, FROM_REVERSE = "hosts", "dns", "reverse"  # where a name comes from
_PATIENCE_S = 3.0  # that a table waits for all of its names
_AT_ONCE = 500  # rows that are looked up together
EPHEMERAL = 32_768  # from here on a port is hardly a service's


@cache
def service(port: int, protocol: str) -> str | None:
    """What /etc/services calls a port ("ssh"); None where it does not, or where the port is hardly a service's."""
    if not 0 < port < EPHEMERAL:
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
        asked = None if getattr(args, "fleet", None) else Asked(args.socket)  # of other hosts this one knows nothing
        services = not args.numeric and args.output == "human"
        if not args.names or args.numeric:
            return cls(services=services, asked=asked)
        from trafficctl.resolver import Resolver, reverse

        return cls(Resolver(reverse), services=services, asked=asked)

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
        "--names", action="store_true", help="show hosts by name: /etc/hosts, DNS answers seen, reverse DNS"
    )
    parser.add_argument(
        "-n", "--numeric", action="store_true", help="show numbers only, for services too (:22, not :ssh)"
    )
