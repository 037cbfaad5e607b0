"""The state of the live screen: the latest reply, drops a second, and what the user has chosen. Pure."""

from collections import deque
from typing import Any

from trafficmond.dataclass import dataclass, field
from trafficmond.model import LIVE_SORTS, LIVE_WINDOWS_S

HISTORY = 240  # samples kept for the sparklines
LISTS = ("flows", "hosts", "units", "threats")
_SOON_S = 10.0  # the bell rings this long before the end of a probation
PAGE = 10  # rows that a page key moves by
_RATES = ("sent_packets", "sent_bytes", "received_packets", "received_bytes")


@dataclass(slots=True)
class Meter:
    row: dict[str, Any]
    at: float
    dropped_per_s: float = 0.0
    history: deque[float] = field(default_factory=lambda: deque(maxlen=HISTORY))  # bytes a second, in and out

    def update(self, row: dict[str, Any], at: float) -> None:
        """Takes a later reading. If counters went back, the interface was attached again and the rate is kept once."""
        elapsed = at - self.at
        if elapsed <= 0:
            return
        old, self.row, self.at = self.row, row, at
        self.history.append(both(row, LIVE_WINDOWS_S[0], "bytes"))
        dropped = row["dropped_packets"] - old["dropped_packets"]
        if dropped >= 0:
            self.dropped_per_s = dropped / elapsed


@dataclass(slots=True)
class Live:
    """The screen's state. `answer` is the latest reply of Top, None before the first."""

    sort: str = "bytes"
    window_s: int = 10
    match: str = ""
    names: bool = False  # hosts by name
    answer: dict[str, Any] | None = None
    meters: dict[str, Meter] = field(default_factory=dict)
    paused: bool = False
    focus: str = "flows"
    selected: int = 0
    chosen: tuple[Any, ...] | None = None  # the row that the user selected; it stays selected when it moves
    choices: list[str] = field(default_factory=list)  # addresses to ban, during that question; the screen then pauses
    prompt: str = ""  # a question being answered on the last line
    typed: str = ""
    message: str = ""  # the result of the last key
    trouble: str = ""  # why there is no newer reply
    bell: bool = False  # the bell is to ring: a probation has begun, or is about to end
    rung: tuple[float, bool] = (0.0, False)  # for which probation it rang last (by its beginning), and if for its end

    def update(self, answer: dict[str, Any]) -> None:
        at = answer["at"]
        present = {row["name"]: row for row in answer["interfaces"]}
        self.meters = {name: meter for name, meter in self.meters.items() if name in present}
        for name, row in present.items():
            self.meters.setdefault(name, Meter(row, at)).update(row, at)
        self.answer = answer
        if probation := answer.get("probation"):
            now = probation["begun_at"], probation["left_s"] <= _SOON_S
            self.bell |= now > self.rung
            self.rung = max(now, self.rung)
        names = [_name(row) for row in self.rows()]
        if self.chosen in names:
            self.selected = names.index(self.chosen)
        else:
            self.move(0)

    @property
    def unit(self) -> str:
        return "packets" if self.sort == "packets" else "bytes"

    def rows(self) -> list[dict[str, Any]]:
        return list(self.answer.get(self.focus) or ()) if self.answer else []

    def move(self, by: int) -> None:
        """Selects another row of the list. At the top, whichever row is the first stays selected."""
        rows = self.rows()
        self.selected = max(0, min(self.selected + by, len(rows) - 1))
        self.chosen = _name(rows[self.selected]) if self.selected else None

    def next_list(self) -> None:
        self.focus = LISTS[(LISTS.index(self.focus) + 1) % len(LISTS)]
        self.selected, self.chosen = 0, None

    def next_sort(self) -> None:
        self.sort = LIVE_SORTS[(LIVE_SORTS.index(self.sort) + 1) % len(LIVE_SORTS)]

    @property
    def still(self) -> bool:
        """Whether the screen is paused."""
        return self.paused or bool(self.choices)

    def addresses(self) -> list[str]:
        """The addresses of the selected row that could be banned, the likelier one first."""
        row = next(iter(self.rows()[self.selected :]), {})
        return [row[end] for end in ("address", "src_ip", "dst_ip") if row.get(end)]


def rate(row: dict[str, Any], window_s: int, side: str, unit: str) -> float:
    """The packets or bytes a second that a row "sent" or "received", averaged over a window."""
    for each in row.get("rates") or ():
        if each["window_s"] == window_s:
            return float(each[f"{side}_{unit}_per_s"])
    return 0.0


def both(row: dict[str, Any], window_s: int, unit: str) -> float:
    return rate(row, window_s, "sent", unit) + rate(row, window_s, "received", unit)


def others(all_of_them: dict[str, Any], shown: list[dict[str, Any]]) -> dict[str, Any]:
    """A row for the flows that are not `shown`: the rates of all without theirs."""
    left = []
    for each in all_of_them.get("rates") or ():
        window = each["window_s"]
        row = {"window_s": window}
        for key in _RATES:
            side, _, unit = key.partition("_")
            row[f"{key}_per_s"] = max(0.0, each[f"{key}_per_s"] - sum(rate(one, window, side, unit) for one in shown))
        left.append(row)
    return {"rates": left, "flows": max(0, (all_of_them.get("moving") or 0) - len(shown))}


def _name(row: dict[str, Any]) -> tuple[Any, ...]:
    """The fields that identify a row: of a threat, a host, a unit or a flow."""
    keys = ("id", "unit", "address", "src_ip", "src_port", "dst_ip", "dst_port", "protocol", "interface")
    return tuple(row.get(key) for key in keys)
