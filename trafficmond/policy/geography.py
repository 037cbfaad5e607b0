"""Rules on countries and autonomous systems, and the prefixes of these in a database."""

from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

from trafficmond.errors import Advice
from trafficmond.model import Named
from trafficmond.policy import prefixes
from trafficmond.policy.prefixes import Prefixes

_MOST = 300  # in a rule
_NO_DATABASE = "needs a database; name one in the settings under [geo], such as databases = [{}]"
_EXAMPLES = {"country": '"/var/lib/GeoIP/GeoLite2-Country.mmdb"', "asn": '"/var/lib/GeoIP/GeoLite2-ASN.mmdb"'}


class By(Named):
    """The ways in which a rule names addresses, the weakest first: each decides only if nothing stronger covers the
    address, whatever the prefix length."""

    COUNTRY = 0
    ASN = 1
    CIDR = 2


class Geography(Protocol):
    @property
    def mark(self) -> object:
        """A value that is equal while the content is the same."""

    @property
    def notes(self) -> tuple[Advice, ...]: ...

    def knows(self, kind: str) -> bool:
        """Whether there is a database of `kind`, "country" or "asn"."""

    def sources(self, kind: str) -> str:
        """The names of the databases, with their dates."""

    def values(self, kind: str) -> Collection[object]: ...

    def prefixes_of(self, kind: str, wanted: Collection[object]) -> Prefixes: ...


def named(table: Mapping[str, Any], wrong: Callable[[str, str], None]) -> tuple[By, tuple[str | int, ...]]:
    """The way in which a rule's table names addresses, and the countries or numbers, if any."""
    keys = [by for by in By if str(by) in table]
    if len(keys) > 1:
        wrong(str(keys[0]), "a rule can have only one of cidr, country and asn; write a rule for each")
    if not keys or keys[0] is By.CIDR:
        return By.CIDR, ()
    key = str(keys[0])
    value = table[key]
    items = value if isinstance(value, list) else [value]
    good = [each for each in (map(_READ[key], items)) if each is not None]
    if not items or len(good) < len(items) or len(items) > _MOST:
        wrong(key, f"{value!r} is not valid; write {_WRITE[key]}")
        return keys[0], ()
    return keys[0], tuple(dict.fromkeys(good))


def located(
    by: By, wanted: tuple[str | int, ...], geography: Geography | None, wrong: Callable[[str, str], None]
) -> Prefixes:
    """The prefixes of the result of `named`. Without a geography, as when a file is checked alone, there are none."""
    key = str(by)
    if geography is None or not wanted:
        return prefixes.concat([])
    if not geography.knows(key):
        faults = "".join(f" ({note})" for note in geography.notes[:1])
        wrong(key, _NO_DATABASE.format(_EXAMPLES[key]) + faults)
        return prefixes.concat([])
    known = geography.values(key)
    for each in wanted:
        if each not in known:
            near = sorted(str(other) for other in known if str(other)[:1] == str(each)[:1]) if by is By.COUNTRY else ()
            wrong(key, f"{geography.sources(key)} has no network of {each}; it has {', '.join(near) or 'others'}")
    return geography.prefixes_of(key, set(wanted))


def _country(value: Any) -> str | None:
    good = isinstance(value, str) and len(value) == 2 and value.isascii() and value.isalpha()
    return value.upper() if good else None


def _number(value: Any) -> int | None:
    good = isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 32
    return value if good else None


_READ: Mapping[str, Callable[[Any], str | int | None]] = {"country": _country, "asn": _number}
_WRITE = {"country": 'ISO codes such as country = ["CH", "DE"]', "asn": "numbers such as asn = [64500, 64501]"}
