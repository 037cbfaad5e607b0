"""Loads programs and maps from the BPF sources, by one of two loaders with the same result.

`libbpf` loads the object that was built ahead of time. `bcc` compiles the same source on this host, in a
short-lived child (see bcc/), because importing it costs more memory than the whole daemon.
"""

from __future__ import annotations

import os
import secrets
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from trafficmond import abi, compiled, npt
from trafficmond.datapath import libbpf
from trafficmond.datapath.btf import Btf
from trafficmond.errors import DatapathError

XDP_PROGRAM = "tm_xdp"
_SMALL, _LARGE = ("tm_tick",), (XDP_PROGRAM, "tm_tc")  # programs by duration of the kernel's verification
PROGRAMS = (*_LARGE, *_SMALL)
# Maps that a new program reuses from the last one, with the dtype of their values (None: not read from here).
MAPS: dict[str, np.dtype[np.void] | None] = {
    "tm_config": abi.CONFIG,
    "tm_clock": abi.CLOCK,
    "tm_ifslots": abi.IFSLOTS,
    "tm_totals": abi.TOTALS,
    "tm_sets": abi.SET,
    "tm_taken": abi.TAKEN,
    "tm_rings": abi.RING,
    "tm_evicted": abi.FLOW,
    "tm_table_small": None,
    "tm_table_large": None,
    "tm_table_huge": None,
    "tm_bans": abi.BAN,
    "tm_ban_services": abi.BAN_SET,
    "tm_conns": None,
    "tm_buckets": abi.BUCKET,
    "tm_inners": abi.INNER,
}
_HASHED_BYTES = 72  # size of an LRU hash element besides its value: 48 of its own, the key, a bucket
_OBJECTS = {False: "trafficmon.bpf.o", True: "trafficmon-inside.bpf.o"}  # by whether tunnels are decoded


def possible_cpus() -> int:
    """The number of possible CPUs: the limit of the kernel's per-CPU numbering."""
    last = Path("/sys/devices/system/cpu/possible").read_text().strip().split(",")[-1]
    return int(last.split("-")[-1]) + 1


def tick_hz() -> int:
    """The kernel's HZ, from the resolution of its coarse clock (clock_getres(2), CLOCK_MONOTONIC_COARSE)."""
    clock_monotonic_coarse = 6
    return round(1 / time.clock_getres(clock_monotonic_coarse))


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes of the ledger. `capacity` and `ring` are records per CPU, powers of two; `inners` is the number of stored
    conversations inside tunnels, 1 if tunnels are not decoded."""

    cpus: int
    capacity: int
    ring: int
    inners: int = 1

    @property
    def look_inside(self) -> bool:
        """Whether the programs decode tunnels."""
        return self.inners > 1

    def entries(self) -> dict[str, int]:
        """max_entries of the maps that follow the machine."""
        return {
            "tm_totals": self.cpus * 2 * abi.MAX_INTERFACES,
            "tm_sets": self.cpus * self.capacity // 2,
            "tm_taken": self.cpus * self.capacity,
            "tm_rings": self.cpus,
            "tm_evicted": self.cpus * self.ring,
            "tm_inners": self.inners,
        }

    def memory_bytes(self) -> int:
        """Memory of the ledger's maps."""
        sizes = {name: dtype.itemsize for name, dtype in MAPS.items() if dtype is not None}
        return sum(count * sizes[name] for name, count in self.entries().items()) + self.inners * _HASHED_BYTES


@dataclass(slots=True)
class Loaded:
    """Descriptors of one load, owned by this object. `reused`: all maps are those of the last run."""

    loader: str
    programs: dict[str, int]
    maps: dict[str, int]
    seed: int
    reused: bool
    owners: bool = False  # records have owners
    notes: list[str] = field(default_factory=list)

    def close(self) -> None:
        """Closes every descriptor; attachments and pins stay."""
        for fd in (*self.programs.values(), *self.maps.values()):
            os.close(fd)
        self.programs.clear()
        self.maps.clear()


def find_object(look_inside: bool = False) -> Path:
    """The path of the prebuilt object: beside the sources, or where the package installs it."""
    return find(_OBJECTS[look_inside])


def find(name: str) -> Path:
    """The path of the object of that name."""
    for folder in compiled.FOLDERS:
        if (folder / name).exists():
            return folder / name
    raise DatapathError(f"{name} is not built", hint=compiled.HINT)


def constants(sizes: Sizes, seed: int) -> npt.NDArray[np.void]:
    """The programs' constants, as one struct tm_constants."""
    found = np.zeros(1, abi.CONSTANTS)
    found["seed"] = seed
    found["set_mask"] = sizes.capacity // 2 - 1
    found["ring_mask"] = sizes.ring - 1
    found["hz"] = tick_hz()
    return found


def open_libbpf(sizes: Sizes, kept: Mapping[str, int], seed: int, *, owners: bool) -> libbpf.Object:
    """The prebuilt object, sized and with its constants, ready to be loaded; `kept` are maps to reuse.

    Raises DatapathError if it is missing, or its layout is not that of abi.py.
    """
    path = find_object(sizes.look_inside)
    btf = Btf(path)
    for name, dtype in btf.structs(abi.STRUCTS).items():
        if abi.STRUCTS[name] != dtype:
            raise DatapathError(
                f"{path} and this daemon disagree about struct {name}",
                hint="in a checkout run make build; else install the package again",
            )
    return _opened(path, sizes, kept, seed, owners)


def _opened(path: Path, sizes: Sizes, kept: Mapping[str, int], seed: int, owners: bool) -> libbpf.Object:
    target = libbpf.Object(str(path))
    try:
        for name, entries in sizes.entries().items():
            target.resize(name, entries)
        target.set_constants(".rodata.tm", constants(sizes, seed).tobytes())
        target.set_constants(".rodata.owners", int(owners).to_bytes(4, sys.byteorder))
        for name, fd in kept.items():
            target.reuse(name, fd)
    except BaseException:
        target.close()
        raise
    return target


def load_libbpf(sizes: Sizes, kept: Mapping[str, int], seed: int | None, *, owners: bool = False) -> Loaded:
    """Loads the prebuilt object; `kept` are maps of the last run to reuse, `seed` their flow hash's, `owners`: records
    get owners.

    Raises DatapathError if the object is missing, its layout is not that of abi.py, or the kernel refuses it. Programs
    with a long verification are verified in parallel.
    """
    seed = secrets.randbits(64) if seed is None else seed
    with ExitStack() as opened, closing(open_libbpf(sizes, kept, seed, owners=owners)) as first:
        first.load_only(_SMALL, PROGRAMS)
        first.load(_SMALL)  # and all maps, which the other loads share
        loaded = Loaded("libbpf", {}, {}, seed, kept.keys() == MAPS.keys(), owners)
        opened.callback(loaded.close)
        loaded.maps.update((name, first.map_fd(name)) for name in MAPS)
        loaded.programs.update((name, first.program_fd(name)) for name in _SMALL)
        one = partial(_load_one, find_object(sizes.look_inside), sizes, loaded.maps, seed, owners)
        with ThreadPoolExecutor(len(_LARGE), "verify") as side_by_side:
            loading = {name: side_by_side.submit(one, name) for name in _LARGE}
        loaded.programs.update((name, each.result()) for name, each in loading.items() if not each.exception())
        for each in loading.values():
            each.result()
        opened.pop_all()
    return loaded


def _load_one(path: Path, sizes: Sizes, maps: Mapping[str, int], seed: int, owners: bool, name: str) -> int:
    """Loads one program with existing maps; returns its descriptor."""
    with closing(_opened(path, sizes, maps, seed, owners)) as target:
        target.load_only((name,), PROGRAMS)
        target.load((name,))
        return target.program_fd(name)
