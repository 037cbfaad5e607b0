"""What the live screen knows: the latest answer, rates between answers, and what the person chose. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

HISTORY = 240  # samples kept for the sparklines
SORTS = ("bytes", "packets")
LISTS = ("flows", "hosts", "threats")


@dataclass(slots=True)
class Meter:
    """One interface's counters and their rates over time."""

    row: dict[str, Any]
    at: float
    packets_per_s: float = 0.0
    bytes_per_s: float = 0.0
    dropped_per_s: float = 0.0
    history: deque[float] = field(default_factory=lambda: deque(maxlen=HISTORY))  # bytes a second

    def update(self, row: dict[str, Any], at: float) -> None:
        """A later reading. Counters that went back belong to a new attachment: the rate is unknown once."""
        elapsed = at - self.at
        if elapsed <= 0:
            return
        old, self.row, self.at = self.row, row, at
        grown = {key: row[key] - old[key] for key in ("packets", "bytes", "dropped_packets")}
        if min(grown.values()) < 0:
            return
        self.packets_per_s = grown["packets"] / elapsed
        self.bytes_per_s = grown["bytes"] / elapsed
        self.dropped_per_s = grown["dropped_packets"] / elapsed
        self.history.append(self.bytes_per_s)


@dataclass(slots=True)
class Live:
    """The screen's state. `answer` is the latest reply of Top, None before the first."""

    sort: str = "bytes"
    match: str = ""
    answer: dict[str, Any] | None = None
    meters: dict[str, Meter] = field(default_factory=dict)
    paused: bool = False
    focus: str = "flows"
    selected: int = 0
    chosen: tuple[Any, ...] | None = None  # what the person moved to, which stays selected wherever it goes
    choices: list[str] = field(default_factory=list)  # whom to ban, while that is asked: the screen stands still
    prompt: str = ""  # a question being answered on the last line
    typed: str = ""
    message: str = ""  # what came of the last key
    trouble: str = ""  # why there is no newer answer

    def update(self, answer: dict[str, Any]) -> None:
        """A new reply of Top."""
        at = answer["at"]
        for row in answer["interfaces"]:
            meter = self.meters.get(row["name"])
            if meter is None:
                self.meters[row["name"]] = Meter(row, at)
            else:
                meter.update(row, at)
        present = {row["name"] for row in answer["interfaces"]}
        self.meters = {name: meter for name, meter in self.meters.items() if name in present}
        self.answer = answer
        names = [_name(row) for row in self.rows()]
        if self.chosen in names:
            self.selected = names.index(self.chosen)
        else:
            self.move(0)

    def rows(self) -> list[dict[str, Any]]:
        """Of the list that has the focus."""
        return list(self.answer[self.focus]) if self.answer else []

    def move(self, by: int) -> None:
        """Select another row, within the list; at the first, whichever is the first."""
        rows = self.rows()
        self.selected = max(0, min(self.selected + by, len(rows) - 1))
        self.chosen = _name(rows[self.selected]) if self.selected else None

    def next_list(self) -> None:
        """Give the focus to the next list."""
        self.focus = LISTS[(LISTS.index(self.focus) + 1) % len(LISTS)]
        self.selected, self.chosen = 0, None

    def next_sort(self) -> None:
        """Sort by the next measure."""
        self.sort = SORTS[(SORTS.index(self.sort) + 1) % len(SORTS)]

    @property
    def still(self) -> bool:
        """Shall the screen keep what it shows?"""
        return self.paused or bool(self.choices)

    def addresses(self) -> list[str]:
        """Those of the selected row, whom a ban could mean; the likelier one first."""
        rows = self.rows()
        if not rows:
            return []
        row = rows[self.selected]
        ends = (row.get("address"), row.get("src_ip"), row.get("dst_ip"))
        return [address for address in ends if address]


def _name(row: dict[str, Any]) -> tuple[Any, ...]:
    """What a row is about: a threat, a host, a flow."""
    keys = ("id", "address", "src_ip", "src_port", "dst_ip", "dst_port", "protocol", "interface")
    return tuple(row.get(key) for key in keys)
