"""What numbers are called: an immutable snapshot for the threads that make text of batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from trafficmond.flows.owners import UNKNOWN, Owner
from trafficmond.verdict import reason_of, reason_text, rule_of


@dataclass(frozen=True, slots=True)
class Names:
    """Interface names by ifindex and rule labels by rule id, as they were at one moment, and what the `inner` of the
    batch that this goes with stands for, as far as that is known (abi.INNER), and whom its `owner` stands for.

    The mappings are copied on construction, unless they are read-only, so that a snapshot may cross threads. Numbers
    that nobody named any more (an interface that went away, a rule that was removed) are still called something.
    """

    interfaces: Mapping[int, str] = field(default_factory=dict)
    rules: Mapping[int, str] = field(default_factory=dict)
    inners: Mapping[int, bytes] = field(default_factory=dict)
    owners: Mapping[int, Owner] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("interfaces", "rules", "inners", "owners"):
            given = getattr(self, name)
            if not isinstance(given, MappingProxyType):
                object.__setattr__(self, name, MappingProxyType(dict(given)))

    def interface(self, ifindex: int) -> str:
        """The interface's name, "if7" where unknown."""
        return self.interfaces.get(ifindex) or f"if{ifindex}"

    def rule(self, verdict: int) -> str:
        """What decided: the rule's label ("rule 12" where unknown), or where no rule did, the reason ("default")."""
        rule = rule_of(verdict)
        if rule:
            return self.rules.get(rule) or f"rule {rule}"
        return reason_text(reason_of(verdict))

    def owner(self, number: int) -> Owner:
        """Whose it is; of a cgroup that was gone before it had a name, the number."""
        return self.owners.get(number) or (Owner(f"cgroup {number}") if number else UNKNOWN)


NO_NAMES = Names()
