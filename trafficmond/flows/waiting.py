"""The waiting socket of each incoming flow, by its destination. Pure."""

import numpy as np

from trafficmond.flows.batch import Batch, Column, octets, take
from trafficmond.flows.processes import END, served

_ODD = tuple(
    np.uint64(each)
    for each in (
        *(0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9),
        *(0xD6E8FEB86659FD93, 0xA0761D6478BD642F, 0xE7037ED1A0B428DB),
    )
)
_ENDS = ("hi", "lo", "peer_hi", "peer_lo", "peer_port")
_FOUR, _SIX = np.uint32(0), np.uint32(1 << 31)


class Waiting:
    """Waiting sockets by destination: those with the peer come first, then those of the address."""

    def __init__(self, rows: Batch) -> None:
        """Built from WAITING rows (datapath.waiting)."""
        every_four = rows[(rows["family"] == 6) & (rows["hi"] == 0) & (rows["lo"] == 0) & ~rows["only_six"]]
        every_four["family"] = 4
        rows = np.concatenate([rows, every_four])
        columns = (_what(rows["family"], rows["proto"], rows["port"]), *(rows[name] for name in _ENDS))
        self._keys, first = np.unique(keys(columns), return_index=True)  # of several, the first
        self._columns = tuple(column[first] for column in columns)
        self._cgroups = rows["cgroup"][first]

    def of(self, rows: Batch) -> Column:
        """The cgroup that waits for each row's destination; 0: nobody."""
        found = np.zeros(len(rows), np.uint64)
        at = np.flatnonzero(served(rows))
        if len(at) and len(self._keys):
            of = take(rows, at)
            what, none = _what(of["family"], of["proto"], of["dport"]), np.zeros(len(at), np.uint64)
            for ends in (
                (of["dst_hi"], of["dst_lo"], of["src_hi"], of["src_lo"], of["sport"]),
                (of["dst_hi"], of["dst_lo"], none, none, none),
                (none,) * len(_ENDS),
            ):
                found[at] = np.where(found[at] > 0, found[at], self._find((what, *ends)))
        return found

    def at(self, proto: int, port: int) -> Column:
        """The cgroups that wait on a port, on any address."""
        return np.asarray(np.unique(self._cgroups[self._waits(proto, port)]))

    def places(self, proto: int, port: int) -> Batch:
        """The local ends (flows.processes.END) of sockets that wait on a port."""
        at = self._waits(proto, port)
        ends = np.zeros(int(at.sum()), END)
        ends["local"] = octets(*(column[at] for column in self._columns[1:3]))
        ends["local_port"], ends["proto"] = port, proto
        return ends

    def _waits(self, proto: int, port: int) -> Column:
        """A mask of the sockets without a peer on a port."""
        what, peer_port = self._columns[0], self._columns[-1]
        return np.asarray((what & ~_SIX == np.uint32(proto << 16 | port)) & (peer_port == 0))

    def _find(self, wanted: tuple[Column, ...]) -> Column:
        at = np.minimum(np.searchsorted(self._keys, keys(wanted)), len(self._keys) - 1)
        same = np.logical_and.reduce([mine[at] == each for mine, each in zip(self._columns, wanted, strict=True)])
        return np.asarray(np.where(same, self._cgroups[at], 0))


def _what(family: Column, proto: Column, port: Column) -> Column:
    """Family, protocol and port in one number."""
    return np.asarray(np.where(family == 6, _SIX, _FOUR) | proto.astype(np.uint32) << np.uint32(16) | port)


def keys(columns: tuple[Column, ...]) -> Column:
    """A number per row of up to six columns to sort by; those behind a match must be compared."""
    return np.asarray(np.bitwise_xor.reduce([column * odd for column, odd in zip(columns, _ODD, strict=False)]))
