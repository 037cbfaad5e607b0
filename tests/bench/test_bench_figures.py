"""How figures are made of samples, and shown."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from analyze_figures import cpu_and_peak
from figures import Figure, figure, interleaved, ratio, save, table


def test_a_figure_is_the_median_of_its_samples_with_their_range() -> None:
    made = figure("k", "what", [3.0, 1.0, 100.0], "ms", 2)
    assert (made.value, made.low, made.high, made.runs, made.met) == (3.0, 1.0, 100.0, 3, False)


@pytest.mark.parametrize(
    ("value", "at_least", "met"), [(2, False, True), (2.1, False, False), (1.9, True, False), (2, True, True)]
)
def test_a_goal_is_a_bound_from_above_or_below(value: float, at_least: bool, met: bool) -> None:
    assert figure("k", "what", [value], "x", 2, at_least=at_least).met is met


def test_a_ratio_is_taken_round_by_round() -> None:
    made = ratio("k", "what", {"a": [1.0, 8.0, 3.0], "b": [4.0, 4.0, 2.0], "c": [9.0] * 3}, "a", "b", 1)
    assert (made.value, made.low, made.high) == (1.5, 0.25, 2.0)
    assert made.parts == {"a_ns": 3.0, "a_ns_best": 1.0, "b_ns": 4.0, "b_ns_best": 2.0}


def test_the_goal_of_a_ratio_is_for_the_fastest_runs() -> None:
    made = ratio("k", "what", {"a": [9.0, 4.0], "b": [9.0, 10.0]}, "a", "b", 0.5)
    assert (made.value, made.best, made.met) == (0.7, pytest.approx(4 / 9), True)
    assert "0.44" in table([made]).splitlines()[1]


def test_what_both_pay_can_be_taken_from_both() -> None:
    made = ratio("k", "what", {"a": [30.0], "b": [50.0], "pass": [10.0]}, "a", "b", net_of="pass")
    assert (made.value, made.best) == (0.5, 0.5)


def test_contestants_take_turns_after_one_warm_up() -> None:
    order: list[str] = []

    def run(name: str) -> float:
        order.append(name)
        return len(order)

    samples = interleaved({"a": lambda: run("a"), "b": lambda: run("b")}, 2)
    assert order == ["a", "b"] * 3
    assert samples == {"a": [3, 5], "b": [4, 6]}


def test_saving_keeps_what_was_not_measured_this_time(tmp_path: Path) -> None:
    path = tmp_path / "build" / "bench.json"
    save([figure("old", "what", [1.0], "ms"), figure("again", "what", [1.0], "ms")], path)
    save([figure("again", "what", [2.0], "ms", 5)], path)
    read = json.loads(path.read_text())
    assert (read["old"], read["again"], read["details"]["again"]["met"]) == (1.0, 2.0, True)


def test_the_table_lines_up_and_says_what_was_missed() -> None:
    shown = table([figure("a", "short", [1.0], "ms", 0.5), Figure("b", "a longer one", 12345, "", 1, 2, 3)])
    lines = shown.splitlines()
    assert "MISSED" in lines[1]
    assert "12,345" in lines[2]
    assert lines[1].index("1.00 ms") + len("1.00 ms") == lines[2].index("12,345") + len("12,345")


def test_the_peak_of_a_command_is_its_own() -> None:
    held = b"x" * (200 << 20)
    seconds, peak = cpu_and_peak([sys.executable, "-c", "held = b'x' * (60 << 20)"])
    assert 60 < peak < 120 < len(held) >> 20
    assert 0 < seconds < 5


def test_a_command_that_fails_is_no_figure() -> None:
    with pytest.raises(subprocess.CalledProcessError):
        cpu_and_peak([sys.executable, "-c", "raise SystemExit(3)"])
