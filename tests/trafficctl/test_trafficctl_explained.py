"""The first line of an explanation, and its table, as people read them."""

from __future__ import annotations

from typing import Any

from trafficctl.render.detail import render_explanation
from trafficctl.render.style import Style


def decision(action: str, *ports: str, prefix: str | None = "0.0.0.0/0", **more: Any) -> dict[str, Any]:
    made_up = " ".join([prefix or "", *ports])
    row = {"kind": "rule" if prefix else "default", "prefix": prefix, "action": action, "label": made_up or None}
    return {**row, "ports": list(ports) or None, "wins": False, "why": None, "source": None, "expires": None, **more}


def told(*decisions: dict[str, Any], service: str | None = None) -> list[str]:
    winner = next(each for each in decisions if each["wins"])
    reply = {"address": "198.51.100.7", "direction": "ingress", "service": service, "decisions": list(decisions)}
    reply |= {"action": winner["action"], "reason": winner["kind"], "packets": 0, "bytes": 0, "dropped_packets": 0}
    return list(render_explanation({**reply, "threats": [], "flows": [], "advice": []}, Style(False), 100))


DROP = decision("drop", prefix=None, wins=True)


def test_services_that_share_a_fate_are_named_together() -> None:
    rules = [decision("allow", each) for each in ("tcp/22", "tcp/80", "tcp/443", "udp/53", "tcp/25", "tcp/587")]
    assert told(*rules, DROP)[0] == (
        "packets from 198.51.100.7: allow tcp/22, tcp/80, tcp/443, udp/53, tcp/25, tcp/587 (by rule), "
        "drop all else (by default)"
    )
    assert told(decision("allow", "tcp/22", wins=True), DROP, service="tcp/22")[0].endswith(": allow (by rule)")


def test_where_there_are_too_many_one_is_to_be_named() -> None:
    rules = [decision(("allow", "drop")[port % 2], f"tcp/{port}") for port in range(1, 9)]
    assert told(*rules, DROP)[0] == (
        "packets from 198.51.100.7: that depends on the service; name one after the address, such as tcp/443"
    )


def test_a_name_that_nobody_gave_is_not_shown() -> None:
    assert not any("LABEL" in line for line in told(decision("allow", "tcp/22"), DROP))
    shown = told(decision("allow", "tcp/22", label="office"), decision("allow", "tcp/25"), DROP)
    assert [line.count("0.0.0.0/0") for line in shown if " rule " in line] == [1, 1]
    assert any("office" in line for line in shown)
