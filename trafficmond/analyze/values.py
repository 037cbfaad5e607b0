"""Reads the values of text formats: addresses, protocols, numbers, times, TCP flags. They raise ValueError."""

import contextlib
import math
import re
import socket
import zlib
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple

from trafficmond.analyze.dates import in_order, seconds
from trafficmond.flows.batch import V4_MAPPED, split_address
from trafficmond.flows.canonical import TYPE_UNKNOWN
from trafficmond.protocols import ACK, FIN, ICMP, ICMPV6, PSH, RST, SYN, URG, protocol_number

# Names of IP protocols in other programs' logs: those of IANA, in lower case, by number.
_NAMES = """
hopopt icmp igmp ggp ipip st tcp cbt egp igp bbn-rcc-mon nvp-ii pup argus emcon xnet chaos udp mux dcn-meas hmp prm
xns-idp trunk-1 trunk-2 leaf-1 leaf-2 rdp irtp iso-tp4 netblt mfe-nsp merit-inp dccp 3pc idpr xtp ddp idpr-cmtp tp++
il ipv6 sdrp ipv6-route ipv6-frag idrp rsvp gre dsr bna esp ah i-nlsp swipe narp mobile tlsp skip ipv6-icmp ipv6-nonxt
ipv6-opts - cftp - sat-expak kryptolan rvd ippc - sat-mon visa ipcu cpnx cphb wsn pvp br-sat-mon sun-nd wb-mon
wb-expak iso-ip vmtp secure-vmtp vines ttp nsfnet-igp dgp tcf eigrp ospf sprite-rpc larp mtp ax.25 os micp scc-sp
etherip encap - gmtp ifmp pnni pim aris scps qnx a/n ipcomp snp compaq-peer ipx-in-ip vrrp pgm - l2tp ddx iatp stp srp
uti smp sm ptp isis fire crtp crudp sscopmce iplt sps pipe sctp fc rsvp-e2e-ignore mobility udplite mpls-in-ip manet
hip shim6 wesp rohc ethernet aggfrag nsh
"""  # 0, 1, ...; "-": has no name

IANA = {name: number for number, name in enumerate(_NAMES.split()) if name != "-"}


TIME_MAX = 1e11  # epoch seconds; a later time is an error of the file
_MAPPED = int(V4_MAPPED)
_ALIASES = {
    **dict.fromkeys(("ipv4", "ipencap", "ipnip", "ip-in-ip"), 4),  # ipnip: Argus; ip-in-ip: Suricata 8
    **dict.fromkeys(("rtp", "rtcp", "udt"), 17),  # Argus: recognised inside UDP
    **dict.fromkeys(("ospfigp", "ospfv2"), 89),
    **dict.fromkeys(("unknown", "unknown_transport", "any"), 255),  # any: Suricata, a number that IANA has not assigned
    **{"icmp6": 58, "is-is": 124},
}
_PORTS = {"domain": 53, "http": 80, "https": 443, "ssh": 22, "telnet": 23, "smtp": 25, "ntp": 123}  # no netbase


class Address(NamedTuple):
    """An address as in a batch: see flows/batch.py."""

    hi: int
    lo: int
    family: int


@lru_cache(maxsize=65536)
def address(text: str) -> Address:
    """Parses an address. Raises ValueError if it is not valid."""
    try:
        if ":" not in text:
            return Address(*split_address(socket.inet_pton(socket.AF_INET, text)), 4)
        hi, lo = split_address(socket.inet_pton(socket.AF_INET6, text.split("%")[0]))
    except OSError:
        raise ValueError(f"{text!r} is not a valid address") from None
    return Address(hi, lo, 4 if hi == 0 and lo & ~0xFFFFFFFF == _MAPPED else 6)


@lru_cache(maxsize=1024)
def protocol(text: str) -> int:
    """The IANA number of a protocol given by name, alias or number. Raises ValueError if it is unknown."""
    name = text.strip().lower()
    known = _ALIASES.get(name, IANA.get(name))
    if known is None:
        with contextlib.suppress(ValueError):  # pandas turns a column with gaps into floats
            known = whole(name)
    if known is None or not 0 <= known < 256:
        known = protocol_number(text)
    return known


def whole(value: Any) -> int:
    """Parses a whole number, which may be written as a float (5.0, "5.0"). Raises ValueError."""
    if isinstance(value, int):
        return int(value)
    value = bare(value)
    try:
        return int(value) if isinstance(value, str) else _exact(float(value))
    except (ValueError, TypeError):
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            return int(re.sub("[,']", "", value)) if THOUSANDS.fullmatch(value) else _exact(float(value))
        raise ValueError(f"{value!r} is not a valid number") from None


THOUSANDS = re.compile(r"[1-9]\d{0,2}(?:[,']\d{3})+")
"""A whole number as people read it."""


def bare(value: Any) -> Any:
    """The value that MongoDB writes with its type: {"$date": ...}, {"$numberLong": ...}."""
    while type(value) is dict and len(value) == 1:
        (value,) = value.values()
    return value


def _exact(value: float) -> int:
    if not math.isfinite(value) or value != int(value):
        raise ValueError(f"{value} is not a whole number")
    return int(value)


def count(value: Any) -> int:
    """Parses a count as Zeek and others write it; 0 if it is `unset`. Raises ValueError."""
    try:
        number = int(value) if type(value) is str else value if type(value) is int else _counted(value)
    except ValueError:
        number = _counted(value)
    if 0 <= number < _COUNT_END:
        return number
    raise ValueError(f"{number} is not a valid count; the maximum is {_COUNT_END - 1}")


_COUNT_END = 1 << 48
"""No flow has so many packets or bytes (281 TB), and the sum of a batch of such counts still fits into 64 bits."""


def _counted(value: Any) -> int:
    return 0 if unset(value) else whole(value)


def hashed(name: Any) -> int:
    """A number for the id of a connection; 0 for none."""
    return (zlib.crc32(str(name).encode(errors="surrogatepass")) or 1) if name else 0


def unset(value: Any) -> bool:
    """Whether a value only says that there is none, as Zeek, AWS, pandas, R, MySQL and Hive write it."""
    return value is None or (type(value) is str and value in _UNSET)


_UNSET = frozenset(("", "-", "(empty)", "nan", "NaN", "NULL", "null", "None", "NA", "\\N"))


def port(value: Any) -> int:
    """Parses a port, also in hexadecimal or as the name of a service; 0 if it is `unset`. Raises ValueError."""
    try:
        number = int(value) if type(value) is str else value if type(value) is int else _named(value)
    except ValueError:
        number = _named(value)
    if 0 <= number <= 65535:
        return number
    raise ValueError(f"{number} is not a valid port")


def _named(value: Any) -> int:
    if unset(value):
        return 0
    if isinstance(value, str) and value.startswith("0x"):
        return int(value, 16)
    name = value.partition("/")[0] if isinstance(value, str) else value  # 443/tcp
    try:
        return whole(name)
    except ValueError:
        return _service(str(name))


@lru_cache(maxsize=4096)
def _service(name: str) -> int:
    known = _PORTS.get(name)
    if known is not None:
        return known
    try:
        return socket.getservbyname(name)
    except (OSError, ValueError, UnicodeError):
        raise ValueError(f"{name!r} is not a valid port") from None


def icmp_ends(kind: int | None, code: int | None = 0) -> tuple[int, int]:
    """The values for the port columns of ICMP: type and code; None for a type that the log does not have."""
    if kind is None:
        return TYPE_UNKNOWN, 0
    if not (0 <= kind <= 255 and 0 <= (code or 0) <= 255):
        raise ValueError(f"{kind}/{code} is not an ICMP type and code")
    return kind, code or 0


def is_icmp(proto: int) -> bool:
    """Whether a protocol has types and codes instead of ports."""
    return proto in (ICMP, ICMPV6)


def moment(value: Any) -> float:
    """Parses a time to epoch seconds: a number of seconds, milli-, micro- or nanoseconds, which may have a decimal
    comma, or a date in ISO 8601 or another order (UTC without a zone). Raises ValueError."""
    if type(value) is str and value[4:5] == "-":
        return iso_time(value)
    try:
        number = seconds(value)
    except (ValueError, TypeError):
        return moment(bare(value)) if type(value) is dict and len(value) == 1 else iso_time(str(value))
    if number > TIME_MAX:
        return number / next(unit for limit, unit in _UNITS if number > limit)
    return number


_UNITS = ((1e17, 1e9), (1e14, 1e6), (TIME_MAX, 1e3))


def iso_time(text: str) -> float:
    """Epoch seconds of an ISO 8601 time; without a zone it is taken for UTC. Raises ValueError."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:  # other orders; a zone apart, or as a name; small letters (RFC 3339, 5.6)
        moment = datetime.fromisoformat(_ZONE.sub(r"\1", in_order(text.strip()).upper()))
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


_ZONE = re.compile(r"\s*([+-]\d\d:?\d\d)?\s*(?:UTC|GMT)?$")


@lru_cache(maxsize=4096)
def flags(letters: str) -> int:
    """Parses TCP flags written as letters (Argus: "FSPA"). Other letters (Argus: E, C) are ignored."""
    return sum(_LETTERS.get(letter, 0) for letter in set(letters))


_LETTERS = {"F": FIN, "S": SYN, "R": RST, "P": PSH, "A": ACK, "U": URG}
