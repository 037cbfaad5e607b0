"""A measured figure, and the two ways to show it: a table for people, JSON for programs.

Beside a median stands the best: on a machine that is shared, the fastest run is the one that nobody disturbed.
"""

from __future__ import annotations

import json
import platform
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Figure:
    """A median with its range over `runs`; `goal` is the most (or, if `at_least`, the least) it should be.

    `best`: of a ratio of times, the ratio of the two fastest runs. The goal is for that where it is known.
    """

    key: str
    what: str
    value: float
    unit: str
    low: float
    high: float
    runs: int
    goal: float | None = None
    at_least: bool = False
    parts: dict[str, float] = field(default_factory=dict)  # what it was made of
    best: float | None = None

    @property
    def met(self) -> bool | None:
        if self.goal is None:
            return None
        judged = self.value if self.best is None else self.best
        return judged >= self.goal if self.at_least else judged <= self.goal


def figure(key: str, what: str, samples: Sequence[float], unit: str, goal: float | None = None, **more: Any) -> Figure:
    """The median and range of `samples`."""
    return Figure(key, what, statistics.median(samples), unit, min(samples), max(samples), len(samples), goal, **more)


def interleaved(contestants: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Samples of each, taken in turns after one warm-up, so that what disturbs the machine disturbs all alike."""
    samples: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(rounds + 1):
        for name, measure in contestants.items():
            value = measure()
            if turn:
                samples[name].append(value)
    return samples


def ratio(
    key: str,
    what: str,
    samples: dict[str, list[float]],
    of: str,
    to: str,
    goal: float | None = None,
    *,
    net_of: str = "",
    unit: str = "ns",
    **more: Any,
) -> Figure:
    """`of` over `to`, round by round: median and range. What disturbs a while disturbs both of its rounds alike.

    `net_of`: what both pay for being run at all, taken from both. `unit`: of the samples.
    """
    spared = samples[net_of] if net_of else [0.0] * len(samples[of])
    rounds = [(a - c) / (b - c) for a, b, c in zip(samples[of], samples[to], spared, strict=True)]
    best = (min(samples[of]) - min(spared)) / (min(samples[to]) - min(spared))
    parts = {}
    for name in dict.fromkeys((of, to, *([net_of] if net_of else []))):
        parts[f"{name}_{unit}"] = round(statistics.median(samples[name]), 1)
        parts[f"{name}_{unit}_best"] = round(min(samples[name]), 1)
    value = statistics.median(rounds)
    return Figure(key, what, value, "x", min(rounds), max(rounds), len(rounds), goal, parts=parts, best=best, **more)


def difference(
    key: str, what: str, samples: dict[str, list[float]], of: str, to: str, goal: float | None = None
) -> Figure:
    """Nanoseconds that `of` takes more than `to`: median and range round by round, at best by the fastest runs."""
    rounds = [a - b for a, b in zip(samples[of], samples[to], strict=True)]
    best = min(samples[of]) - min(samples[to])
    return Figure(key, what, statistics.median(rounds), "ns", min(rounds), max(rounds), len(rounds), goal, best=best)


def table(figures: Sequence[Figure]) -> str:
    """For people: what, how much, at best, between what, what for."""
    rows = [("", "median", "best", "range", "goal", "")]
    for each in figures:
        number = f"{_number(each.value)} {each.unit}".rstrip()
        best = "" if each.best is None else _number(each.best)
        goal = "" if each.goal is None else f"{'>=' if each.at_least else '<='} {_number(each.goal)}"
        verdict = {None: "", True: "met", False: "MISSED"}[each.met]
        rows.append((each.what, number, best, f"{_number(each.low)} .. {_number(each.high)}", goal, verdict))
        for name, value in each.parts.items():
            if not name.endswith("_best"):
                fastest = each.parts.get(f"{name}_best")
                rows.append((f"    {name}", _number(value), "" if fastest is None else _number(fastest), "", "", ""))
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(row[i].rjust(widths[i]) for i in (1, 2))]
        cells += [row[i].ljust(widths[i]) for i in (3, 4)]
        lines.append("  ".join([*cells, row[5]]).rstrip())
    return "\n".join(lines)


def save(figures: Sequence[Figure], path: Path) -> None:
    """Each key's number on top, all else under `details`; keys not measured this time keep what they had."""
    known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    details = known.get("details", {}) | {each.key: asdict(each) | {"met": each.met} for each in figures}
    machine = {"kernel": platform.release(), "machine": platform.machine(), "cpus": len(_cpus())}
    numbers = {key: detail["value"] for key, detail in details.items()}
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(numbers | {"machine": machine, "details": details}, indent=1) + "\n")


def _cpus() -> list[str]:
    return [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("processor")]


def _number(value: float) -> str:
    if value and abs(value) < 10:
        return f"{value:.2f}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.1f}".removesuffix(".0")
