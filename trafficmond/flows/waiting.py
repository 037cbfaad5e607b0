"""The waiting socket of each incoming flow, by its destination. Pure."""

from __future__ import annotations

import numpy as np

from trafficmond.flows.batch import Batch, Column, octets
from trafficmond.flows.processes import END
from trafficmond.protocols import TCP, UDP

_ODD = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F), np.uint64(0x165667B19E3779F9))
_FOUR, _SIX = np.uint32(0), np.uint32(1 << 31)


class Waiting:
    """Waiting sockets by destination: those of an address precede those of every address."""

    def __init__(self, rows: Batch) -> None:
        """Built from WAITING rows (datapath.waiting)."""
        every_four = rows[(rows["family"] == 6) & (rows["hi"] == 0) & (rows["lo"] == 0) & ~rows["only_six"]]
        every_four["family"] = 4
        rows = np.concatenate([rows, every_four])
        what = _what(rows["family"], rows["proto"], rows["port"])
        self._keys, first = np.unique(_keys(what, rows["hi"], rows["lo"]), return_index=True)  # of several, the first
        self._what, self._hi, self._lo, self._cgroups = (
            column[first] for column in (what, rows["hi"], rows["lo"], rows["cgroup"])
        )

    def of(self, rows: Batch) -> Column:
        """The cgroup that waits for each row's destination; 0: nobody."""
        found = np.zeros(len(rows), np.uint64)
        served = np.flatnonzero((rows["proto"] == TCP) | (rows["proto"] == UDP))
        if len(served) and len(self._keys):
            family, proto, port, hi, lo = (
                rows[name][served] for name in ("family", "proto", "dport", "dst_hi", "dst_lo")
            )
            what, every = _what(family, proto, port), np.zeros(len(served), np.uint64)
            of_address = self._find(what, hi, lo)
            found[served] = np.where(of_address > 0, of_address, self._find(what, every, every))
        return found

    def at(self, proto: int, port: int) -> Column:
        """The cgroups that wait on a port, on any address."""
        return np.asarray(np.unique(self._cgroups[self._what & ~_SIX == np.uint32(proto << 16 | port)]))

    def places(self, proto: int, port: int) -> Batch:
        """The local ends (flows.processes.END) of sockets that wait on a port."""
        at = self._what & ~_SIX == np.uint32(proto << 16 | port)
        ends = np.zeros(int(at.sum()), END)
        ends["local"] = octets(self._hi[at], self._lo[at])
        ends["local_port"], ends["proto"] = port, proto
        return ends

    def _find(self, what: Column, hi: Column, lo: Column) -> Column:
        at = np.minimum(np.searchsorted(self._keys, _keys(what, hi, lo)), len(self._keys) - 1)
        same = (self._what[at] == what) & (self._hi[at] == hi) & (self._lo[at] == lo)
        return np.asarray(np.where(same, self._cgroups[at], 0))


def _what(family: Column, proto: Column, port: Column) -> Column:
    """Family, protocol and port in one number."""
    return np.asarray(np.where(family == 6, _SIX, _FOUR) | proto.astype(np.uint32) << np.uint32(16) | port)


def _keys(what: Column, hi: Column, lo: Column) -> Column:
    """A number per row to sort by; the fields behind a match must be compared."""
    return np.asarray(what * _ODD[0] ^ hi * _ODD[1] ^ lo * _ODD[2])
