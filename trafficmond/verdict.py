"""The verdict word of a packet (bpf/abi.h): action, reason and rule. Functions take one word or a column of them."""

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np

from trafficmond import abi, npt
from trafficmond.dataclass import dataclass
from trafficmond.model import Action, Reason

Words = TypeVar("Words", int, npt.NDArray[Any])


@dataclass(frozen=True, slots=True)
class Pair:
    """A rule in shadow, as the verdict word that it would give, and the rules (0: none) that may decide in its place.

    `trafficmond.policy.ids` numbers them.
    """

    would: int
    judges: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Shadowed:
    """A verdict word with a pair's number, taken apart."""

    judge: int  # the rule that decided, 0: none
    rule: int  # the one in shadow, 0: the default
    would: Action  # the action that it would have taken
    reason: Reason


def verdict_word(action: Action, reason: Reason = Reason.DEFAULT, rule: int = 0) -> int:
    """The word; `rule` 0: no rule decided."""
    return rule | reason << abi.REASON_SHIFT | action << abi.ACTION_SHIFT


def action_of(words: Words) -> Words:
    return words >> abi.ACTION_SHIFT & abi.ACTION_MASK


def reason_of(words: Words) -> Words:
    return words >> abi.REASON_SHIFT & abi.REASON_MASK


def rule_of(words: Words) -> Words:
    """The rule's id, 0 where none decided; of a shadowed word a number of its pair."""
    return words & abi.RULE_MASK


def is_drop(words: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    return np.asarray(action_of(words) == Action.DROP)


def reason_text(number: int) -> str:
    """ "default", "rule" ...; the number itself if a later version wrote it."""
    return str(Reason(number)) if number < len(Reason) else f"reason {number}"


def is_shadowed(word: int) -> bool:
    """Whether a rule in shadow would have decided."""
    return bool(word & abi.SHADOWED)


def taken_apart(word: int, known: Mapping[int, Pair]) -> Shadowed | None:
    """The parts of a shadowed word; None: its pair is forgotten."""
    number = rule_of(word)
    pair = known.get(number & ~(abi.PAIR_BLOCK - 1))
    place = (number & (abi.PAIR_BLOCK - 1)) >> 1
    if pair is None or place >= len(pair.judges):
        return None
    reason = Reason(reason_of(word)) if reason_of(word) < len(Reason) else Reason.DEFAULT
    judge = 0 if reason in (Reason.GUARD, Reason.ESTABLISHED) else pair.judges[place]
    would = Action(action_of(pair.would))
    if number & 1 and would in (Action.DROP, Action.LIMIT):
        would = Action.ALLOW
    elif would is Action.LIMIT:
        would = Action.DROP
    return Shadowed(judge, rule_of(pair.would), would, Reason(reason_of(pair.would)))
