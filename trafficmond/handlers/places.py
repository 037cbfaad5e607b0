"""Rows of answers with where their addresses are, as the databases of the settings have it at this moment."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from trafficmond.control.call import Row
from trafficmond.geo.atlas import Atlas

ENDS = ("src_ip", "dst_ip")
_NAMES = ("country", "asn", "as_name")
_UNTOLD = {  # kind of databases: its columns, what it tells, an example
    "country": ({"country"}, "countries", "GeoLite2-Country"),
    "asn": ({"asn", "as_name"}, "networks", "GeoLite2-ASN"),
}


def place_of(atlas: Atlas, address: str) -> Row:
    """Of one address; null what is unknown."""
    return dict(zip(_NAMES, (part or None for part in atlas.of([address])[address]), strict=True))


def placed(atlas: Atlas, rows: Sequence[Row], ends: Sequence[str] = ENDS) -> Sequence[Row]:
    """Rows with the places of these ends: of "src_ip" in "src_country", "src_asn" and "src_as_name", of "address" in
    "country" and so on. Without databases as they are."""
    if not atlas:
        return rows
    known = atlas.of(row[end] for row in rows for end in ends if row.get(end))
    found = []
    for row in rows:
        there = {end: known[row[end]] for end in ends if row.get(end)}
        more = {
            name: value or None for end, record in there.items() for name, value in zip(names(end), record, strict=True)
        }
        found.append({**row, **more})
    return found


def untold(atlas: Atlas, wanted: Iterable[str]) -> list[str]:
    """What whoever wants sums by these (columns or kinds) should know: which of them no database tells."""
    kinds = {word.removeprefix("src_").removeprefix("dst_") for word in wanted}
    return [
        f"no database has {what}: name one in trafficmond.toml, for example "
        f'[geo] databases = ["/var/lib/GeoIP/{example}.mmdb"]'
        for kind, (of, what, example) in _UNTOLD.items()
        if kinds & of and not atlas.knows(kind)
    ]


def names(end: str) -> list[str]:
    """What is added for an end."""
    side = f"{end.removesuffix('_ip')}_" if end.endswith("_ip") else ""
    return [side + name for name in _NAMES]
