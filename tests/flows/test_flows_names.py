"""What numbers are called."""

from __future__ import annotations

import pytest

from trafficmond.flows.names import NO_NAMES, Names
from trafficmond.model import Action, Reason
from trafficmond.verdict import verdict_word


def test_known_and_unknown_interfaces_and_rules() -> None:
    names = Names({2: "eth0"}, {12: "office"})
    assert names.interface(2) == "eth0"
    assert names.interface(7) == "if7"
    assert names.rule(verdict_word(Action.DROP, Reason.RULE, 12)) == "office"
    assert names.rule(verdict_word(Action.DROP, Reason.LIST, 13)) == "rule 13"


@pytest.mark.parametrize("reason", list(Reason))
def test_where_no_rule_spoke_the_reason_is_named(reason: Reason) -> None:
    assert NO_NAMES.rule(verdict_word(Action.DROP, reason)) == str(reason)


def test_every_reason_that_fits_a_verdict_word_has_a_name() -> None:
    assert NO_NAMES.rule(15 << 24) == "reason 15"


def test_a_snapshot_does_not_follow_its_source() -> None:
    source = {2: "eth0"}
    names = Names(source)
    source[2] = "wan0"
    assert names.interface(2) == "eth0"
    with pytest.raises(TypeError):
        names.interfaces[2] = "wan0"  # type: ignore[index]
