"""The verdict word of a packet (bpf/abi.h): what was done, why, and by which rule. Of one word or a column of them."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from trafficmond import abi
from trafficmond.model import Action, Reason

Words = TypeVar("Words", int, npt.NDArray[Any])


def verdict_word(action: Action, reason: Reason = Reason.DEFAULT, rule: int = 0) -> int:
    """The word; `rule` 0: no rule decided."""
    return rule | reason << abi.REASON_SHIFT | action << abi.ACTION_SHIFT


def action_of(words: Words) -> Words:
    """The number of the model.Action."""
    return words >> abi.ACTION_SHIFT & abi.ACTION_MASK


def reason_of(words: Words) -> Words:
    """The number of the model.Reason."""
    return words >> abi.REASON_SHIFT & abi.REASON_MASK


def rule_of(words: Words) -> Words:
    """The rule's id, 0 where none decided."""
    return words & abi.RULE_MASK


def is_drop(words: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Whether each word dropped its packets."""
    dropped: npt.NDArray[np.bool_] = action_of(words) == Action.DROP
    return dropped


def reason_text(number: int) -> str:
    """ "default", "rule" ...; of a later version's number at least that."""
    return str(Reason(number)) if number < len(Reason) else f"reason {number}"
