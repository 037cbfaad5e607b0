"""Parsing of addresses and prefixes as people write them, into one canonical form.

Two spellings of an address never become two entries. IPv4-mapped IPv6 (::ffff:192.0.2.7) is the IPv4 address
(RFC 4291, 2.5.5.2): packets carry it as IPv4. A shorter IPv6 prefix around ::ffff:0:0/96 covers IPv6 only. Leading
zeros are refused: some read them as octal.
"""

import re
import socket
from contextlib import suppress
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, summarize_address_range
from itertools import islice
from typing import Any

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

MAPPED = IPv6Network("::ffff:0:0/96")  # IPv4-mapped IPv6
_MAPPED_BYTES = MAPPED.network_address.packed[:12]
_LENGTHS = {4: {str(length): length for length in range(33)}, 6: {str(length): length for length in range(129)}}
OF_A_NAME = "for a name, ask for its addresses first: getent ahosts"
_NAME = re.compile(r"([a-z0-9-]+\.)+[a-z][a-z0-9-]*", re.ASCII | re.IGNORECASE)
_WITH_PORT = re.compile(r"\[([^]]+)\](?::\d+)?|([\d.]+):\d+", re.ASCII)
_SHOWN = 60
_PARTS = 6  # prefixes of a range that are named


def split(text: str) -> tuple[bytes, int]:
    """The packed address with host bits, and the prefix length. Raises ValueError naming valid forms."""
    address, slash, length = text.strip().partition("/")
    host, zone, _ = address.partition("%")
    if zone and _packed(host) is not None:
        raise ValueError(
            f"{quoted(text)} names an interface; leave out the % and what follows; rules apply to every interface"
        )
    packed = _packed(address)
    if (packed is None or "," in length) and (several := _several(text)):
        raise ValueError(several)
    if packed is None:
        what = f"{quoted(text)} is not an address or prefix; write one such as 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32"
        raise ValueError(what + _meant(text.strip()))
    if slash and not length:
        raise ValueError(f"{quoted(text)} has no length after its slash")
    family = 4 if len(packed) == 4 else 6
    bits = _LENGTHS[family].get(length) if slash else 8 * len(packed)
    if bits is None:
        what = f"the length of an IPv{family} prefix is 0 to {8 * len(packed)}, not {quoted(length)}"
        raise ValueError(f"{quoted(text)}: {what}{_of_mask(length) if family == 4 else ''}")
    if family == 6 and bits >= MAPPED.prefixlen and packed.startswith(_MAPPED_BYTES):
        return packed[12:], bits - MAPPED.prefixlen
    return packed, bits


def _meant(text: str) -> str:
    """What to write in place of a text that is no prefix; empty if nothing comes near."""
    if _NAME.fullmatch(text):
        return f"; {OF_A_NAME} {text}"
    if text in ("any", "all", "anywhere"):
        return "; every address is 0.0.0.0/0, and ::/0 of IPv6"
    bare = _WITH_PORT.fullmatch(text)  # as logs have it
    if bare and _packed(bare[1] or bare[2]) is not None:
        return f"; write {bare[1] or bare[2]} alone"
    return "; leave out the leading zeros" if _packed(re.sub(r"\b0+(?=\d)", "", text)) else ""


def _of_mask(mask: str) -> str:
    with suppress(ValueError):
        return f"; write /{IPv4Network(('0.0.0.0', mask)).prefixlen}" if "." in mask else ""
    return ""


def parse(text: str) -> Network:
    """The prefix; an address is one too, and host bits are cleared. Raises ValueError naming valid forms."""
    packed, bits = split(text)
    return (IPv4Network if len(packed) == 4 else IPv6Network)((packed, bits), strict=False)


@lru_cache(4096)
def known(text: str) -> Network:
    """Cached `parse`, for recurring texts: those of bans, sessions and filters."""
    return parse(text)


def parse_address(text: str) -> Address:
    """The address. Raises ValueError naming valid forms."""
    packed, bits = split(text)
    if bits != 8 * len(packed):
        raise ValueError(f"{quoted(text)} is a prefix; one address is wanted")
    return ip_address(packed)


def has_host_bits(text: str) -> bool:
    """Whether a prefix was written with bits beyond its length. Raises the same errors as `parse`."""
    packed, _ = split(text)
    return parse(text).network_address.packed != packed


def within(inner: Network, outer: Network) -> bool:
    """Whether a prefix lies within another of the same family."""
    return inner.version == outer.version and inner.subnet_of(outer)  # type: ignore[arg-type]


def holds(network: Network, address: str) -> bool:
    """Whether an address, given as text, lies in a prefix. Raises ValueError if it is not an address."""
    return parse_address(address) in network


def unmapped(address: Address) -> Address:
    """The IPv4 address if an IPv6 one maps one, else the address itself."""
    return getattr(address, "ipv4_mapped", None) or address


def sixteen(address: Address) -> bytes:
    """The address as 16 bytes: IPv4 as IPv4-mapped IPv6."""
    return address.packed if isinstance(address, IPv6Address) else _MAPPED_BYTES + address.packed


def shown(network: Network | str) -> str:
    """A prefix as people write it: a host without its length."""
    text = str(network)
    return text.removesuffix("/128" if ":" in text else "/32")


def quoted(text: str) -> str:
    """The text in quotes, for a message; shortened if it is long."""
    return repr(text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "...")


def _several(text: str) -> str:
    """The message for a range or a list in place of one prefix; empty if the text is neither."""
    if "," in text:
        return f"{quoted(text)} is more than one prefix; write them one at a time"
    first, last = (_packed(part.strip()) for part in text.partition("-")[::2])
    if first is None or last is None or len(first) != len(last) or first > last:
        return ""
    ends: Any = ip_address(first), ip_address(last)
    parts = [shown(each) for each in islice(summarize_address_range(*ends), _PARTS + 1)]
    more = " ..." if len(parts) > _PARTS else ""
    return f"{quoted(text)} is a range; write its prefixes: {', '.join(parts[:_PARTS])}{more}"


def _packed(address: str) -> bytes | None:
    try:
        return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
    except (OSError, ValueError):  # ValueError: characters that no address has, such as a null
        return None
