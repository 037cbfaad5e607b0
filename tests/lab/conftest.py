"""A laboratory and the addresses of its first link, for live tests that need no other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tmlab import Lab


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as made:
        yield made


@pytest.fixture
def ends(lab: Lab) -> list[tuple[str, str]]:
    """(host's address, outside's address) of both families."""
    link = lab.links[0]
    return [(link.host_ip, link.outside_ip), (link.host_ip6, link.outside_ip6)]
