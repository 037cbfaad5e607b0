"""Checks and converts fetched lists. Pure.

Three formats are known: prefixes, one a line, which are stored as they are; JSON lines with a `cidr` each (Spamhaus);
and the columns of DShield (first address, last address, prefix length). The latter two become prefixes, one a line.
"""

import json
import re
from collections.abc import Callable

import numpy as np

from trafficmond.dataclass import dataclass
from trafficmond.policy.listfile import parse_list
from trafficmond.policy.prefixes import Prefixes

# bound: lines of a fetched list, including comments | the list is refused; the last fetched one stays
MOST_LINES = 1_500_000  # less than half of the prefixes that all rules may have, and twice the largest list known
_SHORTEST_4, _SHORTEST_6 = 3, 7  # lengths of prefixes for whole classes of addresses, as in lists of bogons
_MOST_SHARE = 0.5  # of all IPv4 addresses, or of the assigned IPv6 addresses (2000::/3)
_TOP = np.uint64(61)
_BOM = b"\xef\xbb\xbf"
_DSHIELD = re.compile(r"(\d+\.\d+\.\d+\.\d+)\t\d+\.\d+\.\d+\.\d+\t(\d+)(?:\t|$)")


class NoList(Exception):
    """The content is not a list of prefixes; the text says why."""


@dataclass(frozen=True, slots=True)
class Shaped:
    data: bytes
    prefixes: int
    wrong: int  # lines that are not prefixes


def shape(body: bytes, empty: bool = False) -> Shaped:
    """The list in the body of a reply; `empty`: it may have no prefix. Raises NoList."""
    if b"\0" in body:
        raise NoList("it is not plain text")
    if (lines := max(body.count(b"\n"), body.count(b"\r"))) > MOST_LINES:
        raise NoList(f"it has {lines:,} lines; the maximum is {MOST_LINES:,}")
    convert = _converter(body)
    data = _converted(body, convert) if convert else body
    announced = re.search(rb'^(?=.*"type"\s*:\s*"metadata").*"records"\s*:\s*(\d+)', body, re.MULTILINE)
    if convert is _of_json and announced and (held := body.count(b'"cidr"')) != int(announced[1]):
        raise NoList(f"it announces {int(announced[1]):,} records and holds {held:,}")
    found = parse_list(data, "line")
    if found.wrong > len(found.prefixes):  # for example an error page
        raise NoList(f"{found.wrong:,} of its lines are not prefixes, {len(found.prefixes):,} are")
    if not (empty or len(found.prefixes)):
        raise NoList("it holds no prefix")
    short = found.prefixes.plen < np.where(found.prefixes.family == 4, _SHORTEST_4, _SHORTEST_6)
    if short.any():
        raise NoList(f"it holds {found.prefixes.text(int(short.argmax()))}, a large part of the internet")
    for family in (4, 6):
        if (share := _share(found.prefixes, family)) > _MOST_SHARE:
            raise NoList(f"its prefixes are {share:.0%} of IPv{family} together, a large part of the internet")
    return Shaped(data, len(found.prefixes), found.wrong)


def _share(prefixes: Prefixes, family: int) -> float:
    """The share of IPv4, or of 2000::/3, that prefixes cover together."""
    rows = prefixes.take((prefixes.family == 4) if family == 4 else (prefixes.family == 6) & (prefixes.hi >> _TOP == 1))
    rows = rows.take(np.argsort(rows.hi, kind="stable"))
    begins = rows.hi.astype(np.float64) / 2.0**64
    ends = np.maximum.accumulate(begins + 0.5 ** rows.plen.astype(np.float64))
    new = np.maximum(begins[1:], ends[:-1])  # what the ones before do not cover
    covered = float((ends[1:] - new).clip(0).sum() + (ends[0] - begins[0])) if len(rows) else 0.0
    return covered if family == 4 else covered * 8


def _converter(body: bytes) -> Callable[[str], str | None] | None:
    """The function that converts a line to a prefix, chosen by the first line that is no comment; None: not needed."""
    for found in re.finditer(rb"[^\r\n]+", body):
        line = found[0].removeprefix(_BOM).strip().decode("utf-8", "replace")
        if line and not line.startswith(("#", ";")):
            if line.startswith("{"):
                return _of_json
            return _of_dshield if _DSHIELD.match(line) or line.startswith("Start\tEnd\t") else None
    return None


def _converted(body: bytes, convert: Callable[[str], str | None]) -> bytes:
    lines = []
    for line in body.decode("utf-8-sig", "replace").replace("\r", "\n").split("\n"):
        if line.strip() and not line.lstrip().startswith(("#", ";")) and (prefix := convert(line)) is not None:
            lines.append(prefix)
    return ("\n".join(lines) + "\n").encode()


def _of_json(line: str) -> str | None:
    """The prefix in a line of JSON; None for the line with the licence."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return f"no JSON: {line[:40]}"
    if not isinstance(found, dict):
        return f"no object: {line[:40]}"
    cidr = found.get("cidr")
    if not isinstance(cidr, str):  # for example an error, with which a list that may be empty would be
        return None if found.get("type") == "metadata" else f"no cidr: {line[:40]}"
    return re.sub(r"\s", "", cidr)


def _of_dshield(line: str) -> str | None:
    if line.startswith("Start\t"):
        return None
    found = _DSHIELD.match(line)
    return f"{found[1]}/{found[2]}" if found else line
