"""The place of each 64-bit key in tables that grow: keys in the order in which they first came."""

import numpy as np

from trafficmond.flows import compiled
from trafficmond.flows.batch import Column

_LEAST_PLACES = 1 << 12


class Index:
    """Keys and their places 0, 1, 2...; unbounded, so the caller starts a new one when there are too many."""

    def __init__(self) -> None:
        self._keys = np.empty(0, np.uint64)
        self._count = 0
        self._places = np.zeros(0, np.uint32)  # by hash, of a place its number plus 1; at most half of it is taken

    def __len__(self) -> int:
        return self._count

    @property
    def keys(self) -> Column:
        return np.asarray(self._keys[: self._count])

    def place(self, keys: Column) -> tuple[Column, Column]:
        """(place of each key, indexes of the new ones in the order of their places)."""
        self._make_room(len(keys))
        places, fresh = compiled.places(self._keys, self._count, self._places, keys)
        self._count += len(fresh)
        return places, fresh

    def keep(self, places: Column) -> None:
        """Forget all others; the keys at these places get the places 0, 1, 2..."""
        keys = self._keys[places]
        self._keys[: len(keys)], self._count = keys, len(keys)
        self._places[:] = 0
        compiled.places(self._keys, 0, self._places, keys)

    def _make_room(self, more: int) -> None:
        most = self._count + more
        if most > len(self._keys):
            self._keys = np.concatenate([self.keys, np.empty(max(more, self._count // 8), np.uint64)])
        if 2 * most > len(self._places):
            size = max(_LEAST_PLACES, 1 << (2 * most - 1).bit_length())
            self._places = np.zeros(size, np.uint32)
            compiled.places(self._keys, 0, self._places, self.keys)
