"""The live screen: its state, its keys and its drawing."""

from __future__ import annotations

from typing import Any

import pytest
from control_replies import LIVE_FLOW, LIVE_RATES, STATUS, T0, THREAT, TOP
from hypothesis import given, settings
from hypothesis import strategies as st

from trafficctl.live import keys, screen
from trafficctl.live.keys import Keys
from trafficctl.live.model import Live, Meter, both, others
from trafficctl.render import table
from trafficctl.render.style import Style

PLAIN = Style(False)


def live(flows: int = 3, threats: int = 1, hosts: int = 2) -> Live:
    answer = dict(TOP)
    host = answer["hosts"][0]
    answer |= {
        "flows": [{**LIVE_FLOW, "src_port": 1000 + index} for index in range(flows)],
        "threats": [THREAT] * threats,
        "hosts": [host] * hosts,
    }
    state = Live()
    state.update(answer)
    return state


# ---- state ----


def reading(packets: int, octets: int, dropped: int = 0) -> dict[str, Any]:
    return {**STATUS["interfaces"][0], "packets": packets, "bytes": octets, "dropped_packets": dropped}


def test_what_is_dropped_is_a_difference_over_time() -> None:
    meter = Meter(reading(100, 1_000), T0)
    meter.update(reading(300, 5_000, 20) | {"rates": LIVE_RATES}, T0 + 2)
    assert meter.dropped_per_s == 10.0
    assert list(meter.history) == [1_499_800.0]


def test_counters_that_went_back_and_time_that_stood_still_are_no_rates() -> None:
    meter = Meter(reading(100, 1_000, 50), T0)
    meter.update(reading(100, 1_000, 60), T0)
    assert not meter.history
    meter.update(reading(5, 50, 0), T0 + 1)
    assert meter.dropped_per_s == 0.0
    meter.update(reading(15, 150, 7), T0 + 2)
    assert meter.dropped_per_s == 7.0


def test_rows_and_the_others_are_all_there_is() -> None:
    state = live(flows=3)
    assert state.answer is not None
    shown = state.answer["flows"]
    everything = [
        {key: 10 * value if key != "window_s" else value for key, value in each.items()} for each in LIVE_RATES
    ]
    rest = others(state.answer | {"rates": everything, "moving": 12}, shown)
    assert rest["flows"] == 9
    for window in (2, 10, 40):
        for unit in ("packets", "bytes"):
            rows = sum(both(row, window, unit) for row in [*shown, rest])
            assert rows == pytest.approx(both({"rates": everything}, window, unit))
    assert both(others(state.answer, [*shown, *shown]), 2, "bytes") == 0.0, "never below nothing"


def test_an_interface_that_vanished_is_not_shown() -> None:
    state = live()
    assert state.answer is not None
    state.update({**state.answer, "interfaces": [], "at": T0 + 9})
    assert state.meters == {}


def test_the_selection_stays_within_a_list_that_shrinks() -> None:
    state = live(flows=10)
    state.move(99)
    assert state.selected == 9
    assert state.answer is not None
    state.update({**state.answer, "flows": state.answer["flows"][:2]})
    assert state.selected == 1
    state.update({**state.answer, "flows": []})
    assert (state.selected, state.addresses()) == (0, [])


def test_what_was_chosen_stays_chosen_wherever_it_goes() -> None:
    state = live(flows=5)
    assert state.answer is not None
    flows = state.answer["flows"]
    state.move(2)
    wanted = state.addresses()
    state.update({**state.answer, "flows": [flows[2], flows[4], flows[0]]})
    assert (state.selected, state.addresses()) == (0, wanted)
    state.update({**state.answer, "flows": [flows[4], flows[0], flows[1], flows[2]]})
    assert (state.selected, state.addresses()) == (3, wanted)
    state.update({**state.answer, "flows": [flows[4], flows[1]]})  # it ended: another has its place
    assert state.selected == 1
    state.update({**state.answer, "flows": [flows[1], flows[4]]})
    assert state.selected == 0  # and is followed now


def test_who_has_not_chosen_looks_at_the_first() -> None:
    state = live(flows=3)
    assert state.answer is not None
    state.update({**state.answer, "flows": state.answer["flows"][::-1]})
    assert state.selected == 0


# ---- drawing ----


@pytest.mark.parametrize(("width", "height"), [(60, 20), (80, 24), (120, 40), (200, 60)])
def test_every_size_shows_what_matters(width: int, height: int) -> None:
    lines = screen.draw(live(), width, height, PLAIN)
    assert len(lines) == height
    assert all(table.cells(line) <= width for line in lines)
    text = "\n".join(lines)
    for told in ("eth0", "203.0.113.5:443", "192.0.2.10", "t-5f2a91c0", "q quit"):
        assert told in text
    assert sum(line.startswith("> ") for line in lines) == 1


@settings(max_examples=60)
@given(
    st.integers(1, 220),
    st.integers(1, 70),
    st.integers(0, 80),
    st.integers(0, 80),
    st.integers(0, 80),
    st.sampled_from(["flows", "hosts", "threats"]),
)
def test_no_size_or_content_spills(width: int, height: int, flows: int, threats: int, hosts: int, focus: str) -> None:
    state = live(flows, threats, hosts)
    state.focus = focus
    state.move(1000)
    lines = screen.draw(state, width, height, PLAIN)
    assert len(lines) <= height
    assert all(table.cells(line) <= width for line in lines)
    if state.rows() and width >= 60 and height >= 20:
        assert sum(line.startswith("> ") for line in lines) == 1  # the selected row is always in sight


def test_actions_are_coloured_but_in_the_selected_row() -> None:
    state = live(flows=2)
    assert state.answer is not None
    for flow in state.answer["flows"]:
        flow["action"] = "drop"
    lines = screen.draw(state, 120, 40, Style(True))
    (chosen,) = (line for line in lines if "> " in line)
    assert chosen.startswith("\x1b[7m> ")
    assert chosen.count("\x1b") == 2
    assert sum("\x1b[31mdrop" in line for line in lines) == 1


@pytest.mark.parametrize("sort", ["bytes", "packets", "total"])
def test_what_is_left_out_is_reported_as_others(sort: str) -> None:
    state = live(flows=60)
    assert state.answer is not None
    state.sort = sort
    state.answer |= {"moving": 300}
    text = "\n".join(screen.draw(state, 200, 24, PLAIN))
    (last,) = (line for line in text.splitlines() if " others " in line)
    shown = sum("203.0.113.5:443" in line for line in text.splitlines())
    assert f"{300 - shown} others" in last
    assert "None" not in text
    for told in ("SENT", "RECEIVED", "2 S", "10 S", "40 S", "TOTAL", "IN", "OUT"):
        assert told in text


def test_what_decides_about_the_order_has_its_column_at_any_width() -> None:
    for window in (2, 10, 40):
        state = live()
        state.window_s = window
        heading = next(line for line in screen.draw(state, 80, 24, PLAIN) if line.lstrip().startswith("FROM"))
        assert f"{window} S" in heading
        assert {"SENT", "RECEIVED"} <= set(heading.split())


@pytest.mark.parametrize("focus", ["flows", "hosts", "units", "threats"])
def test_an_open_threat_is_shown_beside_many_hosts_and_units(focus: str) -> None:
    state = live(40, 1, 40)
    assert state.answer is not None
    state.answer["units"] = [each | {"unit": f"a{number}.service"} for number, each in enumerate(state.answer["hosts"])]
    state.focus = focus
    text = "\n".join(screen.draw(state, 80, 24, PLAIN))
    for heading in ("FROM", "SEVERITY", "HOST", "UNIT"):
        assert f" {heading} " in text, text


def test_much_content_fills_the_screen() -> None:
    lines = screen.draw(live(100, 100, 100), 100, 50, PLAIN)
    assert len([line for line in lines if line.strip()]) >= 45
    assert any("HOST" in line for line in lines)


def test_the_rest_has_no_unit_of_its_own() -> None:
    state = live()
    assert state.answer is not None
    flows = [{**LIVE_FLOW, "src_port": port, "unit": "nginx.service" if port else None} for port in range(90)]
    state.answer |= {"flows": flows, "moving": 100}
    lines = screen.draw(state, 160, 30, PLAIN)
    (rest,) = (line for line in lines if " others " in line)
    assert "(none)" not in rest
    assert any("(none)" in line for line in lines)


def test_before_the_first_answer_and_when_too_small() -> None:
    assert screen.draw(Live(trouble="no daemon"), 80, 24, PLAIN) == ["no daemon"]
    assert "too small" in screen.draw(live(), 39, 24, PLAIN)[0]


@pytest.mark.parametrize(
    ("values", "drawn"),
    [([], ""), ([0, 0], "▁▁"), ([1, 2, 4, 8], "▂▃▅█"), (range(100), "████"), ([5], "█")],
)
def test_sparklines(values: Any, drawn: str) -> None:
    assert screen.sparkline(list(values), 4) == drawn
    assert screen.sparkline(list(values), 4, unicode=False).isascii()


# ---- keys ----


@pytest.fixture
def pressed() -> Keys:
    bans: list[str] = []

    def ban(address: str) -> str:
        bans.append(address)
        return f"banned {address}"

    made = Keys(live(), ban)
    made.bans = bans  # type: ignore[attr-defined]
    return made


def press(pressed: Keys, *names: str) -> Live:
    for name in names:
        assert pressed.press(name)
    return pressed._live


def test_moving_sorting_pausing(pressed: Keys) -> None:
    assert press(pressed, keys.DOWN, "j", keys.DOWN).selected == 2
    assert press(pressed, keys.UP, "k").selected == 0
    assert press(pressed, "s").sort == "packets"
    assert pressed.stale
    assert [press(pressed, "s").sort for _ in range(4)] == ["sent", "received", "total", "bytes"]
    assert [press(pressed, key).window_s for key in "132"] == [2, 40, 10]
    press(pressed, "s", keys.END)
    assert pressed._live.selected == 2
    assert press(pressed, keys.HOME).selected == 0
    assert press(pressed, keys.PAGE_DOWN).selected == 2
    assert press(pressed, keys.PAGE_UP).selected == 0
    assert press(pressed, "p").paused
    assert not press(pressed, "p").paused
    assert press(pressed, keys.TAB).focus == "hosts"
    assert press(pressed, keys.TAB).focus == "units"
    assert press(pressed, keys.TAB, keys.TAB).focus == "flows"
    assert not pressed.press("q")


def test_filtering(pressed: Keys) -> None:
    state = press(pressed, "/", "5", "x", keys.BACKSPACE, "3")
    assert "53_" in screen.draw(state, 80, 24, PLAIN)[-1]
    assert press(pressed, keys.ENTER).match == "53"
    assert press(pressed, "/", "q", keys.ESCAPE).match == "53"  # a q that is typed does not leave
    assert press(pressed, "/", keys.BACKSPACE, keys.BACKSPACE, keys.ENTER).match == ""


def test_banning_asks_whom(pressed: Keys) -> None:
    state = press(pressed, "b")
    assert "[1] 192.0.2.10  [2] 203.0.113.5" in state.prompt
    assert press(pressed, "2").message == "banned 203.0.113.5"
    assert press(pressed, "b", "x").message == "nobody was banned"
    assert press(pressed, "b", "9").message == "nobody was banned"
    assert pressed.bans == ["203.0.113.5"]  # type: ignore[attr-defined]


def test_the_screen_stands_still_while_a_ban_is_asked_for(pressed: Keys) -> None:
    assert press(pressed, "b").still
    assert not press(pressed, "x").still
    assert press(pressed, "p").still


def test_banning_nothing() -> None:
    made = Keys(Live(), lambda _: "never")
    assert press(made, "b").message == "nothing is selected"


def test_help_and_back(pressed: Keys) -> None:
    press(pressed, "h")
    assert pressed.helping
    assert press(pressed, "q").sort == "bytes"  # any key only goes back
    assert not pressed.helping


@given(st.lists(st.sampled_from([*"qsp/b?123xjk", keys.ENTER, keys.ESCAPE, keys.BACKSPACE, keys.UP, keys.TAB])))
def test_no_sequence_of_keys_breaks_it(names: list[str]) -> None:
    made = Keys(live(), lambda address: f"banned {address}")
    for name in names:
        if not made.press(name):
            break
        screen.draw(made._live, 80, 24, PLAIN)
