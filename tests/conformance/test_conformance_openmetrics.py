"""Metrics as the reference implementation's parsers read them: the strict one of OpenMetrics, and the older text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from metrics_status import COUNTERS, STATUS

from trafficmond.metrics.families import families
from trafficmond.metrics.text import Family, openmetrics, prometheus

pytest.importorskip("prometheus_client", reason="needs apt-get install python3-prometheus-client")
from prometheus_client.openmetrics.parser import text_string_to_metric_families as strict
from prometheus_client.parser import text_string_to_metric_families as older

NAMES = st.from_regex(r"[a-z][a-z_]{0,10}[a-z]", fullmatch=True).filter(
    lambda name: not name.endswith(("_total", "_created", "_info", "_bucket", "_count", "_sum", "_gcount", "_gsum"))
)
TEXTS = st.text(st.characters(blacklist_categories=["Cs"]), max_size=30)
VALUES = st.integers(0, 2**53) | st.floats(0, 1e15, allow_nan=False)
LABELS = st.dictionaries(NAMES, TEXTS, max_size=3)


def test_all_that_the_daemon_has() -> None:
    made = list(families(STATUS, COUNTERS))
    read = list(strict(openmetrics(made)))
    assert [family.name for family in read] == [each.name for each in made if each.samples]
    assert sum(len(family.samples) for family in read) == sum(len(each.samples) for each in made)
    again = list(older(prometheus(openmetrics(made))))
    assert sum(len(family.samples) for family in again) == sum(len(each.samples) for each in made)


@given(st.lists(st.tuples(NAMES, st.sampled_from(["counter", "gauge"]), TEXTS, LABELS, VALUES), max_size=4,
                unique_by=lambda each: each[0]))  # fmt: skip
def test_whatever_names_labels_and_texts_hold(given_: list[tuple[str, str, str, dict[str, str], float]]) -> None:
    made = [Family(name, kind, text, ((labels, value),)) for name, kind, text, labels, value in given_]
    read = list(strict(openmetrics(made)))
    assert [(family.name, family.type) for family in read] == [(each.name, each.kind) for each in made]
    for family, (_, _, text, labels, value) in zip(read, given_, strict=True):
        (sample,) = family.samples
        assert (sample.labels, sample.value, family.documentation) == (labels, pytest.approx(value, rel=1e-9), text)
