"""Classes of services: few, whatever the rules, and a refusal that says what to do where there are too many."""

from __future__ import annotations

import numpy as np
import pytest

from trafficmond import abi
from trafficmond.errors import ConfigError
from trafficmond.model import Action
from trafficmond.policy.classes import Classes, TooManyClasses
from trafficmond.policy.load import Files, make_policy
from trafficmond.services import parse


def test_services_that_the_same_rules_name_are_one_class() -> None:
    web, mail, high = parse(["tcp/80", "tcp/443"]), parse(["tcp/25", "tcp/443"]), parse(["tcp/1024-65535", "udp/443"])
    classes = Classes.of([web, mail, high, web, ()])
    of = classes.of_place
    assert classes.count == 5
    assert len({of[80], of[25], of[443], of[1024], of[22]}) == 5
    assert of[22] == of[abi.WHAT_UDP + 53] == of[abi.WHAT_FRAGMENT + 6] == 0
    assert of[1024] == of[65535] == of[abi.WHAT_UDP + 443]
    assert np.flatnonzero(classes.members(web)).tolist() == sorted({int(of[80]), int(of[443])})
    assert classes.members(()).all()
    assert Classes.of([]).count == 1


def test_as_many_as_fit_and_one_more() -> None:
    each = [parse([f"tcp/{port}"]) for port in range(1, 257)]
    assert Classes.of(each[:255]).count == 256
    with pytest.raises(TooManyClasses):
        Classes.of(each)


def test_too_many_are_refused_with_the_names_of_those_that_could_be_one() -> None:
    tables = [
        {"cidr": "192.0.2.0/24", "action": "allow", "label": f"a{port}", "ports": [f"tcp/{port}"]}
        for port in range(1, 200)
    ]
    tables += [
        {"cidr": "198.51.100.0/24", "action": "drop", "label": f"b{port}", "ports": [f"udp/{port}"]}
        for port in range(1, 80)
    ]
    make_policy(Files(), default=Action.DROP, runtime=tables[:253])  # and what cannot be read
    with pytest.raises(ConfigError, match="more than 255 different sets of services") as refused:
        make_policy(Files(), default=Action.DROP, runtime=tables)
    said = str(refused.value)
    assert "a1, a2, a3" in said
    assert "a10 and 189 more, which differ in nothing else" in said
    assert "b1" not in said
