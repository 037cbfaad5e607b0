"""Composes a message about threats: a title and a text for people, and the same as data for programs. Pure."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from trafficmond import figures
from trafficmond.dataclass import dataclass
from trafficmond.model import Severity
from trafficmond.notifier.news import AGAIN, ENDED, OPENED, WORSE, News, Record, severity_of

MOST_LINES = 30  # threats that a text names; of more, the most severe
MOST_BYTES = 2400  # of these lines: with the counts less than the 4,096 bytes that a server of ntfy accepts by default
MOST_ITEMS = 1000  # threats that the data holds

INFO, SUCCESS, WARNING, FAILURE = "info", "success", "warning", "failure"
_SUFFIXES = {OPENED: "", WORSE: " (got worse)", AGAIN: " (is back)", ENDED: " (ended)"}


@dataclass(frozen=True, slots=True)
class Message:
    """The content of one delivery. A command gets `data`."""

    title: str
    text: str
    level: str  # info, success, warning or failure, as services colour it
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Situation:
    threat: Record  # the newest
    kinds: tuple[str, ...]

    @property
    def last(self) -> str:
        return self.kinds[-1]

    def rank(self) -> tuple[bool, int, float]:
        """The sort key: open threats first, then the most severe, then the latest."""
        return self.last == ENDED, -severity_of(self.threat), -self.threat["last_seen"]


def compose(host: str, news: Sequence[News], lost: int = 0) -> Message:
    """The message for `news`, at least one item; those about one threat are joined. `lost`: items not kept."""
    by_id: dict[str, _Situation] = {}
    for each in news:
        before = by_id.get(each.threat["id"])
        by_id[each.threat["id"]] = _Situation(each.threat, (*(before.kinds if before else ()), each.kind))
    found = sorted(by_id.values(), key=_Situation.rank)
    gravest = max(severity_of(each.threat) for each in found)
    text = _single(found[0]) if len(found) == 1 else _many(found)
    if lost:
        text += f"\n{figures.many(lost, 'more message')} dropped, because this target could not be reached for too long"
    over = all(each.last == ENDED for each in found)
    level = SUCCESS if over else FAILURE if gravest >= Severity.HIGH else WARNING
    title = _title(host, found, gravest)
    items = [{**each.threat, "news": list(each.kinds)} for each in found[:MOST_ITEMS]]
    data = {"host": host, "title": title, "text": text, "level": level, "threats": items}
    return Message(title, text, level, data | {"count": len(found), "lost": lost, "test": False})


def trial_message(host: str) -> Message:
    """The message of `trafficctl notify --test`."""
    title = f"{host}: test of trafficmon's notifications"
    text = "This is a test. Messages about threats will look like this one and arrive here."
    data = {"host": host, "title": title, "text": text, "level": INFO, "threats": [], "count": 0, "lost": 0}
    return Message(title, text, INFO, data | {"test": True})


def _title(host: str, found: Sequence[_Situation], gravest: Severity) -> str:
    if len(found) == 1:
        return f"{host}: {gravest} {found[0].threat['detector']}{_SUFFIXES[found[0].last]}"
    still = sum(each.last != ENDED for each in found)
    how = "all of them ended" if not still else f"the most severe is {gravest}"
    return f"{host}: {len(found)} threats, {how}"


def _single(found: _Situation) -> str:
    threat = found.threat
    seen = f"seen {_clock(threat['first_seen'])} to {_clock(threat['last_seen'])}"
    return f"{threat['summary']}\n{seen}\nmore: trafficctl threat {threat['id']}"


def _many(found: Sequence[_Situation]) -> str:
    lines = [
        f"{each.threat['severity']} {each.threat['detector']}{_SUFFIXES[each.last]}: {each.threat['summary']}"
        for each in found[:MOST_LINES]
    ]
    while len(lines) > 1 and len("\n".join(lines).encode()) > MOST_BYTES:
        lines.pop()
    if len(lines) < len(found):
        counts = Counter((severity_of(each.threat), each.threat["detector"]) for each in found)
        all_of_them = [f"{count} x {level} {name}" for (level, name), count in sorted(counts.items(), reverse=True)]
        lines = [*all_of_them, "", f"the {len(lines)} most severe:", *lines]
    since = min(each.threat["first_seen"] for each in found)
    return "\n".join([*lines, f"more: trafficctl threats --since '{_clock(since)}'"])


def _clock(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds):%Y-%m-%d %H:%M}"
