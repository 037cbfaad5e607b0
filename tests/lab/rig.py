"""The data path without a wire: packets through BPF_PROG_TEST_RUN, and what the ledger and the totals then hold.

The host build of the parser is run over the very same packets, and the two accounts are compared.
"""

from __future__ import annotations

import ctypes
import os
import struct
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
from tmlab.daemon import BPFFS, mount_bpffs

from trafficmond import abi
from trafficmond.analyze import native
from trafficmond.datapath import libbpf, libbpf_structs
from trafficmond.datapath.datapath import Datapath
from trafficmond.datapath.loading import Options
from trafficmond.datapath.mapped import Mapped
from trafficmond.flows.batch import DELTA, Batch
from trafficmond.flows.malformed import MALFORMED

SHORTEST, LONGEST = 14, 3400  # bytes of a frame that BPF_PROG_TEST_RUN takes in one page
XDP_DROP, XDP_PASS = 1, 2
LOOPBACK = 1  # the interface that a test run comes in by
_ETHERNET, _RAW = 1, 101  # link types of captures
_KEY = ("src_hi", "src_lo", "dst_hi", "dst_lo", "sport", "dport", "proto", "family", "vlan")
_SUMS = ("packets", "bytes", "payload_bytes", "payload_packets")
_FIRSTS = ("first_len", "last_len", "first_flags", "bits", "ttl")

ACCOUNT = np.dtype([*((name, "u8") for name in _KEY + _SUMS), ("tcp_flags", "u1"), *((name, "u2") for name in _FIRSTS)])


@dataclass(frozen=True)
class Account:
    """What a parser made of some packets: totals by name, and its flows by key, sorted."""

    totals: dict[str, int]
    flows: npt.NDArray[np.void]
    split: npt.NDArray[np.bool_]  # flows that came in more than one record: only their sums can be compared
    inners: Counter[int]  # packets by the name of what they carry

    def differences(self, other: Account) -> list[str]:
        """What the two do not agree on, in words; nothing if they do."""
        found = [
            f"{name}: {self.totals.get(name, 0)} here, {other.totals.get(name, 0)} there"
            for name in sorted(self.totals.keys() | other.totals.keys())
            if self.totals.get(name, 0) != other.totals.get(name, 0)
        ]
        if len(self.flows) != len(other.flows):
            return [*found, f"{len(self.flows)} flows here, {len(other.flows)} there"]
        whole = ~(self.split | other.split)
        for name in (*_KEY, *_SUMS, "tcp_flags", *_FIRSTS):
            compared = whole if name in _FIRSTS else np.ones(len(whole), bool)
            wrong = np.flatnonzero((self.flows[name] != other.flows[name]) & compared)
            found += [f"{name}: {self.flows[at]} here, {other.flows[at]} there" for at in wrong[:3]]
        return found


def account(totals: dict[str, int], rows: Batch) -> Account:
    """The rows of one reader, one to a flow."""
    merged = np.zeros(len(rows), ACCOUNT)
    for name in ACCOUNT.names or ():
        merged[name] = rows[name]
    keys = np.ascontiguousarray(merged[list(_KEY)].copy().astype([(name, "u8") for name in _KEY]))
    _, first, owner, count = np.unique(
        keys.view(np.dtype((np.void, keys.itemsize))), return_index=True, return_inverse=True, return_counts=True
    )
    flows = merged[first]
    for name in _SUMS:
        flows[name] = 0
        np.add.at(flows[name], owner.ravel(), merged[name])
    flows["tcp_flags"] = 0
    np.bitwise_or.at(flows["tcp_flags"], owner.ravel(), merged["tcp_flags"])
    inners: Counter[int] = Counter()
    for name, packets in zip(rows["inner"].tolist(), rows["packets"].tolist(), strict=True):
        inners[name] += packets
    del inners[0]
    return Account(totals, flows, count > 1, inners)


class Rig:
    """A loaded data path that is attached to nothing, on the CPU that the caller stays on. Its pins go with it."""

    def __init__(
        self,
        loader: str = "libbpf",
        *,
        capacity: int = 131072,
        pins: Path | None = None,
        look_inside: bool = False,
        owners: bool = False,
    ) -> None:
        mount_bpffs()
        self.pins = pins or Path(tempfile.mkdtemp(prefix="tmlab-rig", dir=BPFFS))
        self._affinity = os.sched_getaffinity(0)
        self._capacity = capacity
        self.load(loader, look_inside=look_inside, owners=owners)
        self._buffer = ctypes.create_string_buffer(LONGEST)
        self._options = libbpf_structs.TestRunOptions(
            sz=ctypes.sizeof(libbpf_structs.TestRunOptions), data_in=ctypes.addressof(self._buffer), repeat=1
        )
        self._run = libbpf.library().bpf_prog_test_run_opts
        self._reference = ctypes.byref(self._options)

    def load(self, loader: str, *, look_inside: bool = False, owners: bool = False) -> None:
        """Loads by this loader, over what is pinned."""
        options = Options(
            loader, "auto", True, self.pins, self._capacity, False, False, look_inside=look_inside, owners=owners
        )
        self.datapath = Datapath(options)
        entries = self.datapath.sizes.entries()
        maps = self.datapath.loaded.maps
        self._maps = {
            "tm_totals": Mapped(maps["tm_totals"], abi.TOTALS, entries["tm_totals"]),
            "tm_sets": Mapped(maps["tm_sets"], abi.FLOW, 2 * entries["tm_sets"]),
            "tm_taken": Mapped(maps["tm_taken"], abi.TAKEN, entries["tm_taken"]),
            "tm_ifslots": Mapped(maps["tm_ifslots"], np.dtype(np.uint8), abi.IFINDEX_SLOTS),
        }

    def unload(self) -> None:
        """Lets go of programs and maps; what is pinned stays."""
        for mapped in self._maps.values():
            mapped.close()
        self.datapath.close(detach=False)

    def __enter__(self) -> Rig:
        os.sched_setaffinity(0, {min(self._affinity)})
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.sched_setaffinity(0, self._affinity)
        for mapped in self._maps.values():
            mapped.close()
        self.datapath.close(detach=True)
        self.pins.rmdir()

    def raw(self, on: bool) -> None:
        """Whether frames start at the IP header."""
        self._maps["tm_ifslots"].array[LOOPBACK] = abi.IFSLOT_RAW_IP if on else 0

    def forget(self) -> None:
        """Empties ledger and totals; nothing is attached, so nobody writes meanwhile."""
        self.datapath.read_ledger()
        for name in ("tm_totals", "tm_sets", "tm_taken"):
            self._maps[name].array[:] = np.zeros((), self._maps[name].array.dtype)

    def run(self, frames: Iterable[bytes], program: str = "tm_xdp") -> list[int]:
        """What XDP, or TC, says to each frame."""
        fd, buffer, options = self.datapath.loaded.programs[program], self._buffer, self._options
        verdicts = []
        for frame in frames:
            ctypes.memmove(buffer, frame, len(frame))
            options.data_size_in, options.data_size_out = len(frame), 0  # the last run left its own there
            done = self._run(fd, self._reference)
            if done:
                raise OSError(-done, f"test run of {len(frame)} bytes: {os.strerror(-done)}")
            verdicts.append(options.retval)
        return verdicts

    def account(self) -> Account:
        """Everything since `forget`, read."""
        rows = self.datapath.read_ledger()
        totals = self._maps["tm_totals"].array
        counted: dict[str, int] = {}
        for name in ("seen", "not_ip", "malformed"):
            counted[name] = int(totals[name]["packets"].sum())
            counted[f"{name} bytes"] = int(totals[name]["bytes"].sum())
        by = totals["malformed_by"].sum(axis=0)
        return account(counted | {name: int(by[number]) for number, name in MALFORMED.items()}, rows)


def host_account(frames: Sequence[bytes], *, raw: bool = False) -> Account:
    """What the host build makes of the same frames."""
    head = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, _RAW if raw else _ETHERNET)
    records = [struct.pack("<IIII", 1_700_000_000, 0, len(frame), len(frame)) + frame for frame in frames]
    ledger = native.Ledger(3600.0)
    capture = native.Capture(ledger, strict=True)
    data = head + b"".join(records)
    used, notes = capture.feed(data, final=True)
    assert used == len(data), f"{used} of {len(data)} bytes read"
    assert not notes
    rows = ledger.take(close=True)
    totals = ledger.totals()
    counted: dict[str, int] = {}
    for name in ("seen", "not_ip", "malformed"):
        part: Any = getattr(totals, name)
        counted[name], counted[f"{name} bytes"] = part.packets, part.bytes
    assert rows.dtype == DELTA
    return account(counted | {name: totals.malformed_by[number] for number, name in MALFORMED.items()}, rows)
