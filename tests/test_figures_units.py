"""A unit's short name means the same unit when it is typed again."""

import pytest

from trafficmond import figures
from trafficmond.flows.owners import unit_name


@pytest.mark.parametrize("word", ["kernel", "forwarded", "nobody"])
def test_a_service_named_like_a_word_keeps_its_suffix(word: str) -> None:
    for unit in (word, f"{word}.service", f"user@1000.service/{word}.service"):
        assert unit_name(figures.brief_unit(unit)) == unit


def test_other_services_are_brief() -> None:
    assert figures.brief_unit("nginx.service") == "nginx"
    assert figures.brief_unit("user@1000.service/app.service") == "user@1000/app"
