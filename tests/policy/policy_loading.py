"""Files and tables as a policy, in one call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from trafficmond.npt import U32
from trafficmond.policy.collect import Cache
from trafficmond.policy.geography import Geography
from trafficmond.policy.lastgood import LastGood
from trafficmond.policy.load import Policy, make_policy, read_files
from trafficmond.policy.rules import ListSource

ROOT = Path(__file__).parents[2]

Judge = Callable[..., tuple[U32, U32]]  # the fixture `kernel_judge`


def load_policy(
    cidr_dir: Path | None,
    lists: Sequence[ListSource] = (),
    *,
    saved: Path | None = None,
    cache: Cache | None = None,
    last_good: LastGood | None = None,
    geography: Geography | None = None,
    **rest: Any,
) -> Policy:
    """`make_policy` of `read_files`. Raises ConfigError with every mistake found."""
    return make_policy(read_files(cidr_dir, lists, saved, cache, last_good, geography), **rest)
