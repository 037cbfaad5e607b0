"""What is measured: sums that must agree, and labels."""

from __future__ import annotations

import copy
from collections.abc import Callable

from metrics_status import COUNTERS, STATUS

from trafficmond.metrics.families import Family, families

FAMILIES = {family.name: family for family in families(STATUS, COUNTERS)}


def value(name: str, **labels: str) -> float:
    (found,) = [value for held, value in FAMILIES[f"trafficmon_{name}"].samples if held == labels]
    return found


def total(name: str, chosen: Callable[[dict[str, str]], bool] = lambda _: True) -> float:
    return sum(value for labels, value in FAMILIES[f"trafficmon_{name}"].samples if chosen(dict(labels)))


def test_traffic_by_interface_direction_and_verdict() -> None:
    assert value("packets", interface="eth0", direction="ingress", verdict="pass") == 600
    assert value("packets", interface="eth0", direction="ingress", verdict="drop") == 100
    assert value("bytes", interface="eth0", direction="egress", verdict="pass") == 30_000
    assert total("packets") == 1_000 == total("accounted_packets")
    assert total("bytes") == 100_000 == total("accounted_bytes")


def test_verdicts_are_summed_over_rules() -> None:
    assert value("decided_packets", action="drop", reason="rule") == 100
    assert value("decided_bytes", action="drop", reason="rule") == 10_000
    assert total("decided_packets") == value("accounted_packets", **{"class": "in_flows"})


def test_an_interface_that_is_not_there_is_reported_as_such() -> None:
    assert value("interface_attached", interface="eth0") == 1
    assert value("interface_attached", interface='we"ird\\') == 0


def test_states() -> None:
    assert value("export_ok", to="ipfix+udp://192.0.2.5:4739") == 1
    assert value("export_ok", to="clickhouse://ch:8123/trafficmon") == 0
    assert value("export_queue_threats", to="clickhouse://ch:8123/trafficmon") == 2
    assert value("export_lost_threats", to="clickhouse://ch:8123/trafficmon") == 1
    assert value("store_ok") == 1
    assert value("config_refused") == 0
    broken = copy.deepcopy(STATUS)
    broken["store"]["state"], broken["config"]["error"] = "disk full", "a mistake"
    told = {family.name: family.samples[0][1] for family in families(broken, COUNTERS) if family.samples}
    assert (told["trafficmon_store_ok"], told["trafficmon_config_refused"]) == (0, 1)


def test_every_metric_is_documented_in_the_same_words_and_none_else() -> None:
    import re
    from pathlib import Path

    text = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text("utf-8")
    rows = re.findall(r"^\| `(trafficmon_\w+)` \| (counter|gauge) \|[^|]*\| (.*) \|$", text, re.MULTILINE)
    told = {name: (kind, meaning) for name, kind, meaning in rows}
    assert told == {_sample_name(family): (family.kind, family.help) for family in FAMILIES.values()}


def _sample_name(family: Family) -> str:
    return family.name + ("_total" if family.kind == "counter" else "")
