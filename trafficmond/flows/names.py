"""Names for numbers: an immutable snapshot for the threads that render batches as text."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from trafficmond.dataclass import dataclass, field
from trafficmond.flows.owners import UNKNOWN, Owner
from trafficmond.flows.processes import cgroup_of
from trafficmond.model import Action, Direction
from trafficmond.protocols import protocol_name
from trafficmond.verdict import Pair, action_of, is_shadowed, reason_of, reason_text, rule_of, taken_apart


@dataclass(frozen=True, slots=True)
class Names:
    """Interface names by ifindex and rule labels by rule id at one moment, and the known conversations (abi.INNER) and
    owners behind `inner` and `owner` of the batch that this belongs to.

    The mappings are copied on construction, unless they are read-only, so that a snapshot may cross threads. Numbers
    without a name (a removed interface or rule) still get a text.
    """

    interfaces: Mapping[int, str] = field(default_factory=dict)
    rules: Mapping[int, str] = field(default_factory=dict)
    inners: Mapping[int, bytes] = field(default_factory=dict)
    owners: Mapping[int, Owner] = field(default_factory=dict)
    pairs: Mapping[int, Pair] = field(default_factory=dict)  # of rules in shadow and those that judge

    def __post_init__(self) -> None:
        for name in ("interfaces", "rules", "inners", "owners", "pairs"):
            given = getattr(self, name)
            if not isinstance(given, MappingProxyType):
                object.__setattr__(self, name, MappingProxyType(dict(given)))

    def interface(self, ifindex: int) -> str:
        """The interface's name, "if7" if unknown."""
        return self.interfaces.get(ifindex) or f"if{ifindex}"

    def rule(self, verdict: int) -> str:
        """The deciding rule's label ("rule 12" if unknown), or the reason if no rule decided ("default")."""
        if is_shadowed(verdict):
            apart = taken_apart(verdict, self.pairs)
            return self._called(apart.judge if apart else 0, reason_of(verdict))
        return self._called(rule_of(verdict), reason_of(verdict))

    def would(self, verdict: int) -> tuple[str, str] | None:
        """The action ("drop") and the name of the rule in shadow in a verdict, if there is one."""
        apart = taken_apart(verdict, self.pairs) if is_shadowed(verdict) else None
        return (str(apart.would), self._called(apart.rule, apart.reason)) if apart else None

    def texts(self) -> dict[str, tuple[str, Callable[[int], str]]]:
        """The columns of stored flows that are names: the field of REPORT, and the name of its number."""
        return {
            "protocol": ("proto", protocol_name),
            "action": ("verdict", lambda word: str(Action(action_of(word)))),
            "rule": ("verdict", self.rule),
            "interface": ("ifindex", self.interface),
            "direction": ("direction", lambda number: str(Direction(number))),
        }

    def _called(self, rule: int, reason: int) -> str:
        return self.rules.get(rule) or f"rule {rule}" if rule else reason_text(reason)

    def owner(self, number: int) -> Owner:
        """The owner; the number of a cgroup that has no name."""
        return self.owners.get(number) or (Owner(f"cgroup {cgroup_of(number)}") if number else UNKNOWN)


NO_NAMES = Names()
