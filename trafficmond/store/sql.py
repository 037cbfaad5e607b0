"""Values as SQL, and prefixes as conditions on text addresses, which any SQLite runs and which can use an index.

Text is not in the order of addresses, but the texts of a prefix share a beginning: whole octets or groups become a
range that the index finds ('10.1.' <= text < '10.1/', '/' following '.'), and the bits beyond it a cheap test on the
remaining rows. IPv6 text is that of inet_ntop (RFC 5952): lower case, no leading zeros, the longest run of zero groups
as '::'; where a prefix holds zero groups, their text depends on what follows, and the function `in_prefix` (registered
by `reader`) decides.
"""

import functools
import ipaddress
import math
import socket
import sqlite3

from trafficmond import networks
from trafficmond.networks import Network

_GROUPS = 8


def literal(value: str | int | float) -> str:
    """`value` quoted for SQL. Raises ValueError for values without a literal (NUL, NaN, infinity)."""
    if isinstance(value, str):
        if "\0" in value:
            raise ValueError("text with a NUL byte cannot be queried")
        return "'" + value.replace("'", "''") + "'"
    if not math.isfinite(value):
        raise ValueError(f"{value} cannot be queried")
    return repr(value)


def within(column: str, network: Network) -> str:
    """A condition that `column` holds an address of `network`."""
    if network.prefixlen == network.max_prefixlen:
        family = socket.AF_INET if network.version == 4 else socket.AF_INET6
        return f"{column} = {literal(socket.inet_ntop(family, network.network_address.packed))}"
    if isinstance(network, ipaddress.IPv4Network):
        return _within_v4(column, network)
    return _within_v6(column, network)


def _within_v4(column: str, network: ipaddress.IPv4Network) -> str:
    octets = str(network.network_address).split(".")
    whole, bits = divmod(network.prefixlen, 8)
    start = "".join(f"{octet}." for octet in octets[:whole])
    # '0'..':' is every text that begins with a digit; IPv6 texts among them have a colon.
    found = [_begins(column, start)] if start else [f"{column} NOT LIKE '%:%'"]
    if bits:
        low = int(octets[whole])
        high = low + (1 << (8 - bits)) - 1
        rest = f"substr({column}, {len(start) + 1})" if start else column
        found.append(f"CAST({rest} AS INTEGER) BETWEEN {low} AND {high}")
    return _all(found)


def _within_v6(column: str, network: ipaddress.IPv6Network) -> str:
    groups = [int(group, 16) for group in network.network_address.exploded.split(":")]
    whole, bits = divmod(network.prefixlen, 16)
    plain = next((at for at, group in enumerate(groups[:whole]) if group == 0), whole)
    start = "".join(f"{group:x}:" for group in groups[:plain])
    found = [_begins(column, start)] if start else [f"{column} LIKE '%:%'"]
    if plain < whole or (bits and groups[whole] < 0x1000):
        found.append(f"in_prefix({column}, {literal(str(network))})")
    elif bits:
        # The next group has four digits throughout, so its text is in the order of its value.
        low = f"{groups[whole]:04x}"
        high = f"{groups[whole] + (1 << (16 - bits)) - 1:04x}"
        more = ":*" if whole < _GROUPS - 1 else ""
        found = [
            f"{column} >= {literal(start + low)}",
            f"{column} < {literal(start + high + ';')}",
            f"{column} GLOB {literal(start + '[0-9a-f]' * 4 + more)}",
        ]
    return _all(found)


def _begins(column: str, start: str) -> str:
    """A condition for texts that begin with `start`, which ends in '.' or ':', followed in ASCII by '/' and ';'."""
    end = start[:-1] + chr(ord(start[-1]) + 1)
    return f"{column} >= {literal(start)} AND {column} < {literal(end)}"


def _all(conditions: list[str]) -> str:
    return f"({' AND '.join(conditions)})"


def register(connection: sqlite3.Connection) -> None:
    """Register `in_prefix(address, prefix)` with the connection."""
    connection.create_function("in_prefix", 2, _in_prefix, deterministic=True)


@functools.lru_cache(65536)
def _in_prefix(address: str, prefix: str) -> bool:
    return networks.holds(networks.known(prefix), address)
