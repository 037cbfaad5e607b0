"""Types of arguments: each reads a text into a value, or raises ValueError saying which text would be valid."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from trafficmond.config.target import Target

INPUT = "-"  # in place of an address: read many from standard input
FOREVER = float("inf")
NEGATIVE = re.compile(r"-\d+[a-z]*")  # what argparse must accept as a value: "--ttl -1s" of fail2ban, "--since -1h"

_ASIDE = {"(none)": "", "(other)": "(other)"}  # keys of totals that are not one country or system
_MAX_RATE = 999_999_999  # the highest limit of a rule
_LONG = re.compile(r"(?:sec|second|min|minute|hr|hour|day|week)s?(?![a-z])")  # as date and journalctl read them
_PERMANENT = ("forever", "-1", "-1s")


def lifetime(text: str) -> float:
    """The seconds that a rule lasts."""
    if text in _PERMANENT:
        raise ValueError("a rule without an end has no --ttl; --save keeps it over restarts")
    return duration(text)


def duration(text: str) -> float:
    """Seconds of "30s", "1h30m", "7d"."""
    from trafficmond.config.units import parse_duration

    seconds = parse_duration(text)
    if seconds <= 0:
        raise ValueError("must be greater than zero")
    return seconds


def moment(text: str) -> float:
    """Epoch seconds of "1h" or "2 hours ago", "02:55" (the latest), "today", "yesterday", "Jan 31 12:00" as in tables,
    "2026-01-31", "2026-01-31T12:00" (local time unless it has a zone), "@1700000000"."""
    from datetime import datetime

    if text.startswith("@"):
        try:
            return datetime.fromtimestamp(float(text[1:])).timestamp()
        except (ValueError, OverflowError, OSError):
            raise ValueError(f"{text!r} is not a time: after @ write seconds since 1970") from None
    with contextlib.suppress(ValueError):
        return time.time() - duration(
            _LONG.sub(lambda word: word[0][0], text.strip().removesuffix("ago").removeprefix("-"))
        )
    try:
        return (_spoken(text.strip(), datetime.now()) or datetime.fromisoformat(text)).timestamp()
    except (ValueError, OverflowError, OSError):
        what = (
            f'{text!r} is not a time; write how long ago ("1h", "7d"), a time of the day ("02:55"), today, yesterday, '
            'a date ("2026-01-31T12:00") or @EPOCH'
        )
        raise ValueError(what) from None


def _spoken(text: str, now: datetime) -> datetime | None:
    """The latest moment before `now` with that name ("today"), time of day, or date as in tables; else None."""
    from datetime import datetime, timedelta

    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    days = {"now": now, "today": midnight, "yesterday": midnight - timedelta(days=1)}
    if text in days:
        return days[text]
    for form in ("%H:%M", "%H:%M:%S"):
        try:
            moment = datetime.combine(now.date(), datetime.strptime(text, form).time())
        except ValueError:
            continue
        return moment if moment <= now else moment - timedelta(days=1)
    try:
        moment = datetime.strptime(f"{now.year} {text}", "%Y %b %d %H:%M")
    except ValueError:
        return None
    return moment if moment <= now else moment.replace(year=now.year - 1)


def address(text: str) -> str:
    """An IPv4 or IPv6 address in canonical form."""
    from trafficmond import networks

    try:
        return str(networks.parse_address(text))
    except ValueError as error:
        what = str(error)
        if is_a(prefix, text):
            what += f"; for a prefix: trafficctl rules {text}"
        elif is_a(services, text):
            what += f"; for a service, say whose packets: trafficctl explain 192.0.2.7 {text}"
        elif any(c.isalpha() for c in text) and ":" not in text and networks.OF_A_NAME not in what:
            what += f"; {networks.OF_A_NAME} {text}"
        raise ValueError(what) from None


def prefix(text: str) -> str:
    """A prefix in canonical form. An address is accepted too; host bits are cleared."""
    from trafficmond import networks

    return str(networks.parse(text))


def is_a(reads: Callable[[str], object], text: str) -> bool:
    """Whether a function that raises ValueError or OSError for other texts reads this one."""
    try:
        reads(text)
    except (ValueError, OSError):
        return False
    return True


def written_prefix(text: str) -> str:
    """The same, but a prefix with host bits stays as written: the daemon's reply then explains how it was read."""
    from trafficmond import networks

    usual = prefix(text)
    return text.strip() if networks.has_host_bits(text) else usual


def prefix_or_input(text: str) -> str:
    return text if text == INPUT else written_prefix(text)


def services(text: str) -> list[str]:
    """A comma-separated list of services, in the syntax of rules."""
    from trafficmond import services as known

    texts = [re.sub(r"(\d):(\d)", r"\1-\2", part.strip()) for part in text.split(",")]  # fail2ban, iptables: 80:90
    known.parse(texts)
    return texts


def service(text: str) -> str:
    """One service, as rules name it."""
    named = services(text)
    if len(named) != 1:
        raise ValueError(f"{text!r} is more than one service; give one of them")
    return named[0]


def host(cidr: str) -> str:
    """A prefix for people: a single host without its length."""
    return cidr.removesuffix("/128" if ":" in cidr else "/32")


def hosts(subject: str) -> str:
    """What a change was about, for people: each host of "A, B" without its length."""
    return ", ".join(map(host, subject.split(", ")))


def ttl(text: str) -> float:
    """The seconds that a ban lasts, of "600", "10m" or "forever" (FOREVER)."""
    from trafficmond.config.units import parse_duration

    if text in _PERMANENT:
        return FOREVER
    try:
        seconds = parse_duration(text, plain="s")
    except ValueError as error:
        raise ValueError(f'{error}; for a ban without an end write "forever"') from error
    if seconds <= 0:
        raise ValueError(f"{text!r} is not a valid duration, for example 10m, 2h or forever")
    return seconds


def prefixes(text: str) -> str:
    """A comma-separated list of prefixes in canonical form; a leading "!" negates it."""
    from trafficmond import choice

    chosen = choice.prefixes(text)
    return "!" * chosen.but + ",".join(map(str, chosen.items))


def ports(text: str) -> str:
    """A comma-separated list of ports, ranges and service names, as numbers; a leading "!" negates it."""
    from trafficmond import choice

    but, names = text.startswith("!"), text.removeprefix("!").split(",")
    numbers = "!" * but + ",".join(_port(name.strip()) for name in names)
    choice.ports(numbers)
    return numbers


def _port(name: str) -> str:
    import socket

    if not name[:1].isalpha():
        return name
    try:
        return str(socket.getservbyname(name))
    except OSError:
        raise ValueError(f"{name!r} is not the name of a service; write its port's number") from None


def fleet(text: str) -> Target:
    """The ClickHouse server of a fleet: "clickhouse://USER@HOST:PORT/DATABASE"."""
    from trafficmond.config.target import parse_target

    if not text.startswith("clickhouse"):
        raise ValueError(f"{text!r} is not the address of a fleet's server; write clickhouse://HOST:PORT/DATABASE")
    return parse_target(text)


def path(text: str) -> Path:
    """A path. An empty one is refused: it often comes from an unset variable, and would mean the current folder."""
    from pathlib import Path

    if not text:
        raise ValueError("the path is empty; write . for the current folder")
    return Path(text)


def named(text: str) -> str:
    """A text that is not empty: an unset variable must not select everything."""
    if not text.strip():
        raise ValueError("it is empty, perhaps from a variable that is not set")
    return text


def country(text: str) -> str:
    """An ISO country code, or (other), or (none), which is "" in the totals."""
    if text in _ASIDE:
        return _ASIDE[text]
    if not re.fullmatch(r"[A-Za-z]{2}", text):
        raise ValueError(f"{text!r} is not a country code; write two letters, for example CH")
    return text.upper()


def system(text: str) -> str:
    """The number of an autonomous system, with or without AS, or (other), or (none), which is "" in the totals."""
    if text in _ASIDE:
        return _ASIDE[text]
    digits = text.upper().removeprefix("AS")
    if not (digits.isascii() and digits.isdigit()) or int(digits) >> 32:
        raise ValueError(f"{text!r} is not a valid AS number, for example 64500 or AS64500")
    return str(int(digits))


def count(text: str) -> int:
    """A whole number from 1 up."""
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"{text!r} is not a whole number above 0")
    return int(text)


def change(text: str) -> int:
    """The number of a change; 0 is the state before the first."""
    if not text.isdecimal():
        raise ValueError(f"{text!r} is not the number of a change; see trafficctl history")
    return int(text)


def changes(text: str) -> tuple[int, int]:
    """The numbers of two changes, "17..21"; "17" is short for "16..17"."""
    first, dots, last = text.partition("..")
    if not dots and text.isdecimal() and int(text):
        return int(text) - 1, int(text)
    if not dots or not first.isdecimal() or not last.isdecimal():
        raise ValueError(f"{text!r} is not a change or a range of changes, for example 17 or 17..21")
    return int(first), int(last)


def rate(text: str) -> int:
    """Packets a second: "100" or "100/s"."""
    number = text.removesuffix("/s")
    if not number.isdecimal() or not 1 <= int(number) <= _MAX_RATE:
        raise ValueError(f"{text!r} is not a valid rate; give packets a second, such as 100/s")
    return int(number)
