"""The rules that match an address, in the compiled table's order, taken from the policy itself."""

import numpy as np

from trafficmond import services
from trafficmond.dataclass import dataclass
from trafficmond.model import Action, Direction, Reason
from trafficmond.npt import I64, U8, U64, Bool
from trafficmond.policy import prefixes
from trafficmond.policy.leaves import rank
from trafficmond.policy.load import Policy
from trafficmond.policy.prefixes import mask
from trafficmond.policy.rules import Rule
from trafficmond.policy.table import default_action
from trafficmond.services import Places


@dataclass(frozen=True, slots=True)
class Decision:
    action: Action
    reason: Reason
    prefix: str = ""  # the prefix that covers the address
    rule: Rule | None = None
    index: int = -1  # of the rule in the policy
    shadow: bool = False  # reports its action and does not take it
    applies: bool | None = True  # to the given service; None: to some services, and none was given


def explain(policy: Policy, address: str, direction: Direction, now: float, service: Places = ()) -> list[Decision]:
    """All decisions on packets from `address` (ingress) or to it (egress) at `now`, strongest first. The first one that
    applies to `service` (one place; (): any) and is not in shadow decides; the others would if those before them ended.
    The last is the default. Bans are not included; they come before the first one that is neither guard nor allowlist.
    Raises ValueError if `address` is invalid.
    """
    hi, lo, family = prefixes.parse_address(address)
    rows = np.flatnonzero(_covers(policy, hi, lo, family, 128))
    decisions = []
    for row in sorted(rows.tolist(), key=lambda row: _strength(policy, row), reverse=True):
        index = int(policy.owner[row])
        rule = policy.rules[index]
        alive = rule.expires is None or rule.expires > now
        if alive and rule.direction in (direction, Direction.BOTH):
            applies = None if rule.services and not service else services.contains(rule.judged, service)
            decisions.append(
                Decision(rule.action, rule.reason, policy.prefixes.text(row), rule, index, rule.shadow, applies)
            )
    if policy.default_shadow is not None and direction is Direction.INGRESS:
        decisions.append(Decision(policy.default_shadow, Reason.DEFAULT, shadow=True))
    return [*decisions, Decision(default_action(policy.default, direction), Reason.DEFAULT)]


def overlapping(policy: Policy, cidr: str) -> I64:
    """Rows of `policy.prefixes` that share an address with `cidr`, in its order. Raises ValueError if it is invalid."""
    wanted = prefixes.parse_one(cidr)
    covers = _covers(policy, int(wanted.hi[0]), int(wanted.lo[0]), int(wanted.family[0]), int(wanted.plen[0]))
    return np.flatnonzero(covers)


def exactly(policy: Policy, cidr: str) -> list[int]:
    """The rules on exactly this prefix, as indexes into those of `policy`, the strongest first. Raises ValueError."""
    wanted, rows = prefixes.parse_one(cidr), policy.prefixes
    same = (rows.hi == wanted.hi[0]) & (rows.lo == wanted.lo[0])
    same &= (rows.plen == wanted.plen[0]) & (rows.family == wanted.family[0])
    found = (int(policy.owner[row]) for row in np.flatnonzero(same)[::-1])
    return [index for index in found if policy.starts[index + 1] - policy.starts[index] == 1]


def _covers(policy: Policy, hi: int, lo: int, family: int, plen: int) -> Bool:
    """A mask of prefixes equal to the address in the first min(their length, `plen`) bits."""
    rows = policy.prefixes
    same: Bool = (rows.family == family) & _agree(rows.hi, hi, rows.plen, plen)
    candidates = np.flatnonzero(same & (rows.plen > 64)) if family == 6 and plen > 64 else np.zeros(0, np.int64)
    same[candidates] = _agree(rows.lo[candidates], lo, rows.plen[candidates], plen, 64)
    return same


def _agree(words: U64, word: int, lengths: U8, plen: int, skip: int = 0) -> Bool:
    netmask = mask(np.arange(129) - skip)
    return np.asarray((words ^ np.uint64(word)) & netmask[np.minimum(lengths, plen)] == 0)


def _strength(policy: Policy, row: int) -> tuple[int, int, bool, int]:
    index = int(policy.owner[row])
    rule = policy.rules[index]
    return rank(rule), int(policy.prefixes.plen[row]), bool(rule.services), index
