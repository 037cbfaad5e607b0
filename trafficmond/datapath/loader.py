"""Loads programs and maps from the BPF sources, by one of two loaders with the same result.

`libbpf` loads the object that was built ahead of time. `bcc` compiles the same source on this host, in a
short-lived child (see bcc/), because importing it costs more memory than the whole daemon.
"""

import os
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

from trafficmond import abi, compiled
from trafficmond.dataclass import dataclass, field
from trafficmond.datapath import libbpf
from trafficmond.errors import DatapathError

XDP_PROGRAM = "tm_xdp"
_SMALL, _LARGE = ("tm_tick",), (XDP_PROGRAM, "tm_tc")  # programs by duration of the kernel's verification
PROGRAMS = (*_LARGE, *_SMALL)
# Maps that a new program reuses from the last one, with the struct of their values (None: not read from here).
MAPS: dict[str, str | None] = {
    "tm_config": "tm_config",
    "tm_clock": "tm_clock",
    "tm_ifslots": "tm_ifslots",
    "tm_totals": "tm_totals",
    "tm_sets": "tm_set",
    "tm_taken": "tm_taken",
    "tm_rings": "tm_ring",
    "tm_evicted": "tm_flow",
    "tm_table_small": None,
    "tm_table_large": None,
    "tm_table_huge": None,
    "tm_bans": "tm_ban",
    "tm_ban_services": "tm_ban_set",
    "tm_conns": None,
    "tm_buckets": "tm_bucket",
    "tm_inners": "tm_inner",
}
_HASHED_BYTES = 72  # size of an LRU hash element besides its value: 48 of its own, the key, a bucket


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
        sizes = {name: abi.STRUCTS[struct].itemsize for name, struct in MAPS.items() if struct is not None}
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


def find_object(look_inside: bool = False, owners: bool = False) -> Path:
    """The path of the prebuilt object for these settings: beside the sources, or where the package installs it."""
    return find(f"trafficmon{'-inside' * look_inside}{'-units' * owners}.bpf.o")


def find(name: str) -> Path:
    for folder in compiled.FOLDERS:
        if (folder / name).exists():
            return folder / name
    raise DatapathError(f"{name} is not built", hint=compiled.HINT)


def constants(sizes: Sizes, seed: int) -> dict[str, int]:
    """The programs' constants: fields of struct tm_constants."""
    masks = {"set_mask": sizes.capacity // 2 - 1, "ring_mask": sizes.ring - 1}
    return {"seed": seed, **masks, "hz": tick_hz()}


def check(path: Path) -> None:
    """Raises DatapathError if the structs of an object are not those of abi.py."""
    from trafficmond.datapath.btf import Btf

    for name, dtype in Btf(path).structs(abi.STRUCTS).items():
        if abi.STRUCTS[name] != dtype:
            raise DatapathError(
                f"{path} and this daemon disagree about struct {name}",
                hint="in a checkout run make build; else install the package again",
            )


def open_libbpf(sizes: Sizes, kept: Mapping[str, int], seed: int, *, owners: bool) -> libbpf.Object:
    """The prebuilt object, sized and with its constants, ready to be loaded; `kept` are maps to reuse. Raises
    DatapathError if it is missing, or its layout is not that of abi.py."""
    path = find_object(sizes.look_inside, owners)
    check(path)
    return _opened(path, sizes, kept, seed)


def _opened(path: Path, sizes: Sizes, kept: Mapping[str, int], seed: int) -> libbpf.Object:
    target = libbpf.Object(str(path))
    try:
        for name, entries in sizes.entries().items():
            target.resize(name, entries)
        target.set_constants(".rodata.tm", abi.packed("CONSTANTS", **constants(sizes, seed)))
        for name, fd in kept.items():
            target.reuse(name, fd)
    except BaseException:
        target.close()
        raise
    return target


def load_libbpf(sizes: Sizes, kept: Mapping[str, int], seed: int | None, *, owners: bool = False) -> Loaded:
    """Loads the prebuilt object; `kept`: maps of the last run, `seed`: their flow hash's, `owners`: records get owners.

    Raises DatapathError if the object is missing, its layout is not that of abi.py, or the kernel refuses it. Programs
    with a long verification are verified in parallel; meanwhile the layout is checked, which needs numpy.
    """
    seed = int.from_bytes(os.urandom(8)) if seed is None else seed
    path = find_object(sizes.look_inside, owners)
    with ThreadPoolExecutor(1 + len(_LARGE), "verify") as side_by_side, ExitStack() as opened:
        checking = side_by_side.submit(check, path)
        loaded = Loaded("libbpf", {}, {}, seed, kept.keys() == MAPS.keys(), owners)
        opened.callback(loaded.close)
        try:
            with closing(_opened(path, sizes, kept, seed)) as first:
                first.load_only(_SMALL, PROGRAMS)
                first.load(_SMALL)  # and all maps, which the other loads share
                loaded.maps.update((name, first.map_fd(name)) for name in MAPS)
                loaded.programs.update((name, first.program_fd(name)) for name in _SMALL)
            one = partial(_load_one, path, sizes, loaded.maps, seed)
            loading = {name: side_by_side.submit(one, name) for name in _LARGE}
            wait(loading.values())
            loaded.programs.update((name, each.result()) for name, each in loading.items() if not each.exception())
            for each in loading.values():
                each.result()
        finally:
            checking.result()
        opened.pop_all()
    return loaded


def _load_one(path: Path, sizes: Sizes, maps: Mapping[str, int], seed: int, name: str) -> int:
    with closing(_opened(path, sizes, maps, seed)) as target:
        target.load_only((name,), PROGRAMS)
        target.load((name,))
        return target.program_fd(name)
