"""Adds the places of addresses (country and autonomous system) to rows of replies, from the current databases."""

from collections.abc import Iterable, Sequence

from trafficmond.control.call import Row
from trafficmond.geo.geoip import GeoIp

ENDS = ("src_ip", "dst_ip")
_NAMES = ("country", "asn", "as_name")
_KINDS = {  # kind of database -> its columns, their plural, an example
    "country": ({"country"}, "countries", "GeoLite2-Country"),
    "asn": ({"asn", "as_name"}, "networks", "GeoLite2-ASN"),
}


def place_of(geoip: GeoIp, address: str) -> Row:
    """The place of one address; unknown fields are None."""
    return dict(zip(_NAMES, (part or None for part in geoip.of([address])[address]), strict=True))


def placed(geoip: GeoIp, rows: Sequence[Row], ends: Sequence[str] = ENDS) -> Sequence[Row]:
    """The rows with the places of these fields: "src_country", "src_asn" and "src_as_name" for "src_ip", "country" and
    so on for "address". Without databases the rows are unchanged."""
    if not geoip:
        return rows
    known = geoip.of(row[end] for row in rows for end in ends if row.get(end))
    found = []
    for row in rows:
        there = {end: known[row[end]] for end in ends if row.get(end)}
        more = {
            name: value or None for end, record in there.items() for name, value in zip(names(end), record, strict=True)
        }
        found.append({**row, **more})
    return found


def missing(geoip: GeoIp, wanted: Iterable[str]) -> list[str]:
    """Notes on the wanted columns or kinds for which there is no database."""
    kinds = {word.removeprefix("src_").removeprefix("dst_") for word in wanted}
    return [
        f"no database has {what}: name one in trafficmond.toml, for example "
        f'[geo] databases = ["/var/lib/GeoIP/{example}.mmdb"]'
        for kind, (of, what, example) in _KINDS.items()
        if kinds & of and not geoip.knows(kind)
    ]


def names(end: str) -> list[str]:
    """The fields that are added for the field `end`."""
    side = f"{end.removesuffix('_ip')}_" if end.endswith("_ip") else ""
    return [side + name for name in _NAMES]
