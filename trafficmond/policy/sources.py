"""The sources of a policy: rules in the settings, the lists and files they name, and force."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from trafficmond import networks, services
from trafficmond.config.settings import Settings
from trafficmond.model import Action, Direction
from trafficmond.networks import Network
from trafficmond.policy.geography import Geography
from trafficmond.policy.load import Files, Policy, make_policy, read_files
from trafficmond.policy.rules import ListSource
from trafficmond.policy.tables import CIDR, FORCE, Table

SAVED_NAME = "rules.toml"  # in state_dir: rules made by hand that are kept


def read_policy(settings: Settings, geography: Geography) -> Policy:
    """The policy of `settings` and their files, without run-time rules. Raises ConfigError with every mistake."""
    saved = settings.state_dir / SAVED_NAME
    files = read_files(settings.cidr_dir, lists_of(settings), saved, geography=geography)
    return make_policy(files, **own_of(settings))


def lists_of(settings: Settings) -> list[ListSource]:
    return [
        ListSource(
            each.file(settings.feeds_dir),
            Action.parse(each.action),
            each.label,
            Direction.parse(each.direction),
            each.on_error,
            services.parse(each.ports),
            bool(each.url),
            each.shadow,
            "empty" in each.url_allow,
        )
        for each in settings.lists
    ]


def own_of(settings: Settings) -> dict[str, Any]:
    """The parts of a policy in the settings themselves."""
    return {
        "default": Action.parse(settings.policy.default),
        "default_shadow": settings.policy.default_shadow,
        "permitted_cidrs": settings.permitted_cidrs,
        "allowlist": settings.policy.allowlist,
    }


def forced_by(runtime: Sequence[Table], files: Files, now: float) -> list[Network]:
    """The prefixes that rules made by hand, saved or not, exclude from guard and allowlist while they last."""
    found = [networks.parse(table[CIDR]) for table in runtime if table.get(FORCE)]
    for part in files.saved:
        starts = np.cumsum(part.counts) - part.counts
        for index, rule in enumerate(part.rules):
            if rule.forced and not (rule.expires and rule.expires <= now):
                rows = range(int(starts[index]), int(starts[index] + part.counts[index]))
                found += [networks.parse(part.prefixes.text(row)) for row in rows]
    return found
