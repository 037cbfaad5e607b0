"""Reads many bans from text lines, in the formats that people and other tools write:

    203.0.113.5                                       an address or a prefix
    203.0.113.5, 10m, tried 400 passwords             with how long (seconds, 10m, forever) and why
    203.0.113.5 600 tried 400 passwords               the same with blanks
    192.0.2.1  2026-01-31 10:00:00 + 600 = 2026-01-31 10:10:00       fail2ban-client get JAIL banip --with-time
    id,source,ip,reason,action,country,as,events_count,expiration,simulated,alert_id    cscli decisions list -o raw
    add NAME 192.0.2.1 timeout 300 comment "why"      ipset save

A line of several addresses bans each (fail2ban-client get JAIL banip). Blank lines and lines that begin with # or ; are
skipped. So are decisions other than bans, simulated decisions, and the `create` of a set.
"""

import csv
import io
import re
import shlex
import sys
import time
from collections.abc import Iterable, Iterator

from trafficctl import session
from trafficctl.exits import UsageError
from trafficctl.values import FOREVER, is_a, prefix, ttl
from trafficmond import networks
from trafficmond.dataclass import dataclass
from trafficmond.errors import ControlError, Mistake

_WITH_TIME = re.compile(r"(\S+)\s+\S+ \S+ \+ (-?\d+) = (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)")
_GO_DURATION = re.compile(r"-?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?")
_LESS_THAN_A_SECOND = re.compile(r"-?\d+(?:\.\d+)?(?:ms|[\u00b5\u03bcu]s|ns)")
_SCOPES = ("ip", "range")
_NAMED = 20  # mistakes shown one by one


@dataclass(frozen=True, slots=True)
class Line:
    """The ban in one line; `ttl_s` is None if the line has no duration."""

    cidr: str
    ttl_s: float | None = None
    reason: str = ""


def of_input(done: str) -> list[Line]:
    """Reads bans from standard input. Raises ControlError if a line is wrong or there is none: nothing was `done`."""
    if sys.stdin.isatty():
        session.print_waiting("type one address on each line; Ctrl-D ends")
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8", errors="replace")
    lines = sys.stdin.readlines()
    if not any(map(str.strip, lines)):
        raise ControlError("standard input is empty", hint=f"nothing was {done}")
    found, mistakes = read(lines)
    if mistakes:
        named = [str(mistake) for mistake in mistakes[:_NAMED]]
        named += [f"and {len(mistakes) - _NAMED:,} more"] if len(mistakes) > _NAMED else []
        raise UsageError("\n".join(named), f"nothing was {done}")
    return found


def read(lines: Iterable[str]) -> tuple[list[Line], list[Mistake]]:
    found: list[Line] = []
    mistakes: list[Mistake] = []
    decisions: list[str] | None = None  # the columns of CrowdSec's
    for number, raw in enumerate(lines, 1):
        line = raw.strip().removeprefix("\ufeff")
        if not line or line[0] in "#;":
            continue
        if line.startswith("id,source,ip,"):
            decisions = line.split(",")
            continue
        if not found and not mistakes and line[0] in "[{":
            what = "JSON cannot be read; give lines, for example those of cscli decisions list -o raw"
            return [], [Mistake(f"line {number}", what)]
        try:
            found += _decision(decisions, line) if decisions else _line(line)
        except ValueError as error:
            mistakes.append(Mistake(f"line {number}", str(error)))
    return found, mistakes


def _line(line: str) -> Iterator[Line]:
    if line.startswith(("create ", "flush ", "destroy ")):
        return
    if line.startswith("add "):
        yield from _of_set(line)
        return
    timed = _WITH_TIME.fullmatch(line)
    if timed:
        yield from _of_fail2ban(*timed.groups())
        return
    words = line.split()
    if "," not in line and len(words) > 1 and all(is_a(prefix, word) and not word.isdigit() for word in words):
        yield from (Line(prefix(word)) for word in words)
        return
    parts = [part.strip() for part in line.split(",", 2)] if "," in line else line.split(None, 2)
    cidr, lasting, reason = [*parts, "", ""][:3]
    yield Line(prefix(cidr), ttl(lasting) if lasting else None, reason)


def _of_set(line: str) -> Iterator[Line]:
    """Reads an `add` line of ipset save; its counters are ignored."""
    words = shlex.split(line)
    if len(words) < 3 or "nomatch" in words[3:]:
        raise ValueError("this entry of the set is not an address, or it is an exception (nomatch)")
    options = dict(zip(words[3::2], words[4::2], strict=False))
    seconds = options.get("timeout")
    lasts = None if seconds is None else FOREVER if seconds == "0" else ttl(seconds)
    yield Line(prefix(words[2]), lasts, options.get("comment", ""))


def _of_fail2ban(address: str, lasts: str, end: str) -> Iterator[Line]:
    if lasts.startswith("-"):
        yield Line(prefix(address), FOREVER)
        return
    left = time.mktime(time.strptime(end, "%Y-%m-%d %H:%M:%S")) - time.time()
    if left > 0:
        yield Line(prefix(address), left)


def _decision(columns: list[str], line: str) -> Iterator[Line]:
    try:
        (values,) = csv.reader([line])
    except csv.Error as error:
        raise ValueError(f"not a line of CSV: {error}") from None
    row = dict(zip(columns, values, strict=False))
    scope, _, value = row.get("ip", "").partition(":")
    if row.get("action", "ban") != "ban" or row.get("simulated") == "true" or scope.lower() not in _SCOPES:
        return
    expiration = row.get("expiration", "")
    if _LESS_THAN_A_SECOND.fullmatch(expiration):
        return
    lasts = _GO_DURATION.fullmatch(expiration)
    if lasts is None or not lasts[0].strip("-"):
        raise ValueError(f"{networks.quoted(expiration)} is not a valid expiration, for example 3h59m57s")
    hours, minutes, seconds = (float(part or 0) for part in lasts.groups())
    total = 3600 * hours + 60 * minutes + seconds
    if total > 0 and not expiration.startswith("-"):
        yield Line(prefix(value), total, row.get("reason", ""))
