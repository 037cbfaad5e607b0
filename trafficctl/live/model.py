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
        self.move(0)

    def rows(self) -> list[dict[str, Any]]:
        """Of the list that has the focus."""
        return list(self.answer[self.focus]) if self.answer else []

    def move(self, by: int) -> None:
        """Select another row, within the list."""
        self.selected = max(0, min(self.selected + by, len(self.rows()) - 1))

    def next_list(self) -> None:
        """Give the focus to the next list."""
        self.focus = LISTS[(LISTS.index(self.focus) + 1) % len(LISTS)]
        self.selected = 0

    def next_sort(self) -> None:
        """Sort by the next measure."""
        self.sort = SORTS[(SORTS.index(self.sort) + 1) % len(SORTS)]

    def addresses(self) -> list[str]:
        """Those of the selected row, whom a ban could mean; the likelier one first."""
        rows = self.rows()
        if not rows:
            return []
        row = rows[self.selected]
        ends = (row.get("address"), row.get("src_ip"), row.get("dst_ip"))
        return [address for address in ends if address]
