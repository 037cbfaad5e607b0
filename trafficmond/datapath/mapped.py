"""BPF arrays mapped into this process: numpy views on live kernel memory, read without a system call."""

import contextlib
import mmap
from typing import Any

import numpy as np

from trafficmond import npt


class Mapped:
    """One mmapable BPF array as a numpy view `.array` of `dtype` (whose size divides the map's values')."""

    def __init__(self, map_fd: int, dtype: np.dtype[Any], count: int) -> None:
        length = dtype.itemsize * count
        whole = -(-length // mmap.PAGESIZE) * mmap.PAGESIZE
        self._mmap = mmap.mmap(map_fd, whole, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        self.array: npt.NDArray[Any] = np.frombuffer(self._mmap, dtype, count)

    def close(self) -> None:
        """Unmaps, or leaves it to the last view of `.array`: a traceback may still refer to one."""
        del self.array
        with contextlib.suppress(BufferError):
            self._mmap.close()
