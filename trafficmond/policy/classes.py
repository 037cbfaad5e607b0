"""Classes of services: services that the same rules name form one, which keeps rows of the verdict table short."""

from collections.abc import Iterable
from typing import Self

import numpy as np

from trafficmond import abi, npt
from trafficmond.dataclass import dataclass
from trafficmond.services import Places


class TooManyClasses(ValueError):
    """The number of classes does not fit into a byte."""


@dataclass(frozen=True, slots=True, eq=False)
class Classes:
    """`of_place` is the class of each place (abi.WHAT_*); class 0 are the places that no rule names."""

    of_place: npt.NDArray[np.uint8]
    count: int
    _members: dict[Places, npt.NDArray[np.bool_]]  # by set: the classes in it

    @classmethod
    def of(cls, sets: Iterable[Places]) -> Self:
        """The classes of all `sets` that rules name; () and duplicates are ignored. Raises TooManyClasses."""
        distinct = sorted({places for places in sets if places})
        turns = {0: 0, abi.WHAT_BYTES: 0}  # by place: the sets that begin or end there, a bit each
        for number, places in enumerate(distinct):
            for first, last in places:
                for at in (first, last + 1):
                    turns[at] = turns.get(at, 0) ^ 1 << number
        order = sorted(turns)
        known, classes, present = {0: 0}, [], 0  # the sets that name a class -> its number
        for place in order[:-1]:
            present ^= turns[place]
            classes.append(known.setdefault(present, len(known)))
            if len(known) > abi.CLASSES_MAX:
                raise TooManyClasses
        of_place = np.repeat(np.array(classes, np.uint8), np.diff(order))
        members = {
            places: np.array([naming >> number & 1 for naming in known], np.bool_)
            for number, places in enumerate(distinct)
        }
        return cls(of_place, len(known), members)

    def members(self, places: Places) -> npt.NDArray[np.bool_]:
        """A mask of the classes in `places`, one of the sets given to `of`; () has every class."""
        return self._members[places] if places else np.ones(self.count, np.bool_)

    def same(self, other: Self) -> bool:
        """Whether a row for one is a row for the other."""
        return self.count == other.count and np.array_equal(self.of_place, other.of_place)
