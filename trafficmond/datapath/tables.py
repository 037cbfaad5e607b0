"""The verdict tables in force: the confirmed one, and possibly one on probation, which the kernel itself ends.

A table is in one of three slots by its size, and the first used slot counts (bpf/maps.h).
"""

import os
import time
from collections.abc import Mapping
from concurrent.futures import Executor
from typing import Self

import numpy as np

from trafficmond import abi, npt
from trafficmond.dataclass import dataclass
from trafficmond.datapath import libbpf
from trafficmond.datapath.mapped import Mapped
from trafficmond.errors import DatapathError

_GLANCE_S = 0.0002
_PAGE_BYTES = abi.PAGE.itemsize
_ROOM_PAGES = 16  # after a table, for additions in place
_ROOM_PART = 8  # or an eighth of it
_MOVED_WORDS = 1 << 20  # at once
_SLOTS = (("tm_table_small", abi.SMALL_PAGES), ("tm_table_large", abi.LARGE_PAGES), ("tm_table_huge", None))


@dataclass(frozen=True, slots=True)
class _Staged:
    """A table in a map that is not in force yet."""

    fd: int
    slot: str
    live: npt.NDArray[np.uint32]

    @classmethod
    def of(cls, words: npt.NDArray[np.uint32], *, emptied: bool = False) -> Self:
        """`emptied`: the words are not needed again, and released as they are copied. Raises DatapathError."""
        needed = words.nbytes // _PAGE_BYTES
        slot, padded = next(each for each in _SLOTS if each[1] is None or needed <= each[1])
        roomy = needed + max(_ROOM_PAGES, needed // _ROOM_PART)
        mapped = roomy if padded is None else min(roomy, padded)
        flags = libbpf.F_MMAPABLE | (libbpf.F_INNER_MAP if padded is None else 0)
        try:
            fd = libbpf.create_array("tm_rules", _PAGE_BYTES, padded or roomy, flags)
        except OSError as error:
            raise DatapathError(f"no memory for a table of {words.nbytes >> 20} MiB: {error.strerror}") from error
        try:
            live = Mapped(fd, np.dtype(np.uint32), mapped * abi.PAGE_WORDS).array
            while emptied and len(words):
                first = max(len(words) - _MOVED_WORDS, 0)
                live[first : len(words)] = words[first:]
                words.resize(first, refcheck=False)
            live[: len(words)] = words
        except OSError as error:
            os.close(fd)
            raise DatapathError(f"the kernel refused the verdict table: {error.strerror}") from error
        return cls(fd, slot, live)

    def close(self) -> None:
        """Closes the map; memory in use by the kernel or this process stays."""
        os.close(self.fd)


class Tables:
    """Both places of the tables' maps. `grace`: executor that waits for the kernel's grace periods."""

    def __init__(self, maps: Mapping[str, int], grace: Executor) -> None:
        self._maps = maps
        self._grace = grace
        self._staged: _Staged | None = None
        self._taken = ["", ""]  # slot by place; unknown: an earlier daemon may have used any

    def stage(self, words: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
        """Prepares a compiled table in a separate map; returns the words there, followed by some room, which `put`
        swaps in at once, unless `unstage` was called. `words` is emptied, so that a large table is not in memory twice.
        From any thread, one at a time. Raises DatapathError."""
        self._staged = staged = _Staged.of(words, emptied=True)
        return staged.live

    def unstage(self) -> None:
        """Discards a prepared table that was not put in force."""
        if self._staged:
            self._staged.close()
            self._staged = None

    def put(self, words: npt.NDArray[np.uint32], place: int = abi.CONFIRMED) -> npt.NDArray[np.uint32]:
        """Swaps in a compiled table at this place (abi.CONFIRMED, abi.TRIAL): every packet sees the old one or the new
        one. Returns the words that the kernel reads, followed by some room; they may be those staged last.

        Raises DatapathError if the kernel has no memory for it; then the old one stays.
        """
        if self._staged and self._staged.live is words:
            staged, self._staged = self._staged, None
        else:
            staged = _Staged.of(words)
        slot = staged.slot
        try:
            self._swap(slot, place, staged.fd)
        except OSError as error:
            raise DatapathError(f"the kernel refused the verdict table: {error.strerror}") from error
        finally:
            staged.close()
        # The first used slot counts, so a table in another slot is removed once the new one is there.
        if slot != self._taken[place]:
            self.clear(place, but=slot)
        self._taken[place] = slot
        return staged.live

    def clear(self, place: int, but: str = "") -> None:
        """Removes the tables at a place from every slot but one."""
        for slot, _ in _SLOTS:
            if slot != but:
                libbpf.delete(self._maps[slot], place.to_bytes(4, "little"))
        self._taken[place] = but

    def _swap(self, slot: str, place: int, fd: int) -> None:
        """Returns as soon as the new table applies to every later packet.

        The call itself lasts a grace period, about 15 ms, after which no CPU reads the old table. A thread waits for
        that, and only the next change waits for it too. Raises OSError.
        """
        outer, key, new = self._maps[slot], place.to_bytes(4, "little"), libbpf.map_info(fd).id
        done = self._grace.submit(libbpf.update, outer, key, fd.to_bytes(4, "little"))
        while not done.done():
            there = libbpf.lookup(outer, key, 4)
            if there is not None and int.from_bytes(there, "little") == new:
                return
            time.sleep(_GLANCE_S)
        done.result()
