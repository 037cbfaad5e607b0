"""Numbers of rules, with one meaning in the daemon, the client and metrics."""

from dataclasses import dataclass

from trafficmond import figures
from trafficmond.model import Reason
from trafficmond.policy.load import Policy


@dataclass(frozen=True, slots=True)
class RuleCounts:
    """The numbers of rules and lists in files, settings and from clients, and of their prefixes.

    The guard is not among them: it is the daemon's own, and changes with the host's addresses.
    """

    rules: int = 0
    lists: int = 0
    prefixes: int = 0

    def __str__(self) -> str:
        return figures.ruling(self.rules, self.lists, self.prefixes)


def count(policy: Policy) -> RuleCounts:
    rules = lists = prefixes = 0
    for index, rule in enumerate(policy.rules):
        if rule.reason is Reason.GUARD:
            continue
        lists += rule.reason is Reason.LIST
        rules += rule.reason is not Reason.LIST
        prefixes += int(policy.starts[index + 1] - policy.starts[index])
    return RuleCounts(rules, lists, prefixes)
