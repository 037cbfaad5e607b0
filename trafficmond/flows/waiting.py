"""Who waits for what came in: the socket of each flow by its destination. Pure."""

from __future__ import annotations

import numpy as np

from trafficmond.flows.batch import Batch, Column
from trafficmond.protocols import TCP, UDP

_PLACE = np.dtype([("what", "u4"), ("hi", "u8"), ("lo", "u8")])  # `what`: family, protocol and port
_ODD = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F), np.uint64(0x165667B19E3779F9))
_FOUR, _SIX = np.uint32(0), np.uint32(1 << 31)


class Waiting:
    """Sockets that wait, to be found by destination: those of an address go before those of every address."""

    def __init__(self, rows: Batch) -> None:
        """Of WAITING rows (datapath.waiting)."""
        every_four = rows[(rows["family"] == 6) & (rows["hi"] == 0) & (rows["lo"] == 0) & ~rows["only_six"]]
        every_four["family"] = 4
        rows = np.concatenate([rows, every_four])
        places = _places(rows["family"], rows["proto"], rows["port"], rows["hi"], rows["lo"])
        self._keys, first = np.unique(_keys(places), return_index=True)  # of several on one port the first is told
        self._places, self._cgroups = places[first], rows["cgroup"][first]

    def of(self, rows: Batch) -> Column:
        """The cgroup that waits for each row's destination; 0: nobody."""
        found = np.zeros(len(rows), np.uint64)
        served = np.flatnonzero((rows["proto"] == TCP) | (rows["proto"] == UDP))
        if not len(served) or not len(self._keys):
            return found
        columns = [rows[name][served] for name in ("family", "proto", "dport", "dst_hi", "dst_lo")]
        exact = _places(*columns)
        every = exact.copy()
        every["hi"] = every["lo"] = 0
        told = self._find(every)
        of_address = self._find(exact)
        found[served] = np.where(of_address > 0, of_address, told)
        return found

    def at(self, proto: int, port: int) -> list[int]:
        """The cgroups that wait there, on whatever address."""
        what = np.uint32(proto << 16 | port)
        found: list[int] = np.unique(self._cgroups[self._places["what"] & ~_SIX == what]).tolist()
        return found

    def _find(self, places: Batch) -> Column:
        at = np.minimum(np.searchsorted(self._keys, _keys(places)), len(self._keys) - 1)
        found: Column = np.where(self._places[at] == places, self._cgroups[at], 0)
        return found


def _keys(places: Batch) -> Column:
    """A number each, to be sorted by; whoever finds it compares the place."""
    key: Column = places["what"] * _ODD[0] ^ places["hi"] * _ODD[1] ^ places["lo"] * _ODD[2]
    return key


def _places(family: Column, proto: Column, port: Column, hi: Column, lo: Column) -> Batch:
    places = np.zeros(len(family), _PLACE)
    places["what"] = np.where(family == 6, _SIX, _FOUR) | proto.astype(np.uint32) << np.uint32(16) | port
    places["hi"], places["lo"] = hi, lo
    return places
