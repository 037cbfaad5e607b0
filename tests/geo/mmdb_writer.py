"""Databases in MaxMind's format for tests: written here, so that no one else's data is needed."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

BUILT = 1_781_654_400  # 2026-06-17
Said = Mapping[str, Any]


def country(code: str) -> Said:
    """As MaxMind's and DB-IP's say it, with what else they say."""
    names = {"en": f"Country {code}", "de": f"Land {code}"}
    return {"continent": {"code": "EU", "geoname_id": 6255148}, "country": {"names": names, "iso_code": code}}


def system(number: int, name: str) -> Said:
    """As GeoLite2-ASN says it."""
    return {"autonomous_system_number": number, "autonomous_system_organization": name}


def mmdb(networks: Iterable[tuple[str, Said]], *, version: int = 6, bits: int = 28, built: int = BUILT) -> bytes:
    """A database of these networks, a later one within an earlier one coming before it."""
    root: list[Any] = [None, None]
    for text, said in networks:
        network = ipaddress.ip_network(text)
        value, width, length = int(network.network_address), network.max_prefixlen, network.prefixlen
        if version == 6 and network.version == 4:
            width, length = 128, length + 96
        node = root
        for depth in range(length - 1):
            bit = value >> (width - 1 - depth) & 1
            if not isinstance(node[bit], list):
                node[bit] = [node[bit], node[bit]]
            node = node[bit]
        node[value >> (width - length) & 1] = said
    return _written(root, version, bits, built)


def _written(root: list[Any], version: int, bits: int, built: int) -> bytes:
    nodes: list[list[Any]] = [root]
    for node in nodes:
        nodes += [child for child in node if isinstance(child, list)]
    number = {id(node): at for at, node in enumerate(nodes)}
    data, places = bytearray(), dict[str, int]()
    for node in nodes:
        for said in node:
            if isinstance(said, Mapping) and str(said) not in places:
                places[str(said)] = len(data)
                data += encoded(said)
    count = len(nodes)

    def word(child: Any) -> int:
        if isinstance(child, list):
            return number[id(child)]
        return count if child is None else count + 16 + places[str(child)]

    tree = bytearray()
    for left, right in (map(word, node) for node in nodes):
        if bits == 28:
            tree += (left & 0xFFFFFF).to_bytes(3, "big") + bytes([left >> 24 << 4 | right >> 24])
            tree += (right & 0xFFFFFF).to_bytes(3, "big")
        else:
            tree += left.to_bytes(bits // 8, "big") + right.to_bytes(bits // 8, "big")
    about = {
        "node_count": count,
        "record_size": bits,
        "ip_version": version,
        "database_type": "Test",
        "build_epoch": built,
        "binary_format_major_version": 2,
        "binary_format_minor_version": 0,
        "languages": ["en"],
        "description": {"en": "for tests"},
    }
    return bytes(tree + bytes(16) + data) + b"\xab\xcd\xefMaxMind.com" + encoded(about)


def encoded(value: Any) -> bytes:
    """A value of the data section."""
    if isinstance(value, Mapping):
        return _control(7, len(value)) + b"".join(encoded(key) + encoded(each) for key, each in value.items())
    if isinstance(value, list):
        return _control(11, len(value)) + b"".join(map(encoded, value))
    if isinstance(value, str):
        return _control(2, len(value.encode())) + value.encode()
    if isinstance(value, bool):
        return _control(14, int(value))
    octets = value.to_bytes((value.bit_length() + 7) // 8, "big")
    return _control(9 if len(octets) > 4 else 6, len(octets)) + octets


def _control(kind: int, size: int) -> bytes:
    extended = bytes([kind - 7]) if kind > 7 else b""
    first = 0 if kind > 7 else kind << 5
    if size < 29:
        return bytes([first | size]) + extended
    if size < 285:
        return bytes([first | 29]) + extended + bytes([size - 29])
    return bytes([first | 30]) + extended + (size - 285).to_bytes(2, "big")
