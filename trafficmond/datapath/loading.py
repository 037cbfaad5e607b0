"""Programs and maps on their way into the kernel: what takes longest of a start.

It is begun before the rest of the daemon is imported, so this imports little.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from trafficmond import abi
from trafficmond.config.settings import XdpModeSetting
from trafficmond.datapath.bcc import loader as bcc_loader
from trafficmond.datapath.loader import Loaded, Sizes, load_libbpf, possible_cpus
from trafficmond.datapath.mapped import Mapped
from trafficmond.datapath.pins import Pins
from trafficmond.errors import DatapathError

# bound: records in the eviction ring, for each CPU | the record's packets and bytes are added to `unattributed`
RING_RECORDS = 32768  # a CPU: what a flood of new flows may evict between two readings before it is only summed up
# bound: conversations inside tunnels (`flows.look_inside`) | the oldest goes, counted; its rows have no inner columns
_INNERS = 131072  # 15 MiB: conversations inside tunnels that are remembered, the latest


@dataclass(frozen=True, slots=True)
class Options:
    """What of the settings concerns the data path."""

    loader: str  # auto | libbpf | bcc
    xdp_mode: XdpModeSetting
    egress: bool
    pin_dir: Path
    capacity: int
    established: bool
    drop_malformed: bool
    look_inside: bool = False
    drop_unparsed: bool = False  # of what comes in, what no verdict can be found for
    owners: bool = False  # records tell whose they are
    dns_names: bool = False  # answers of DNS are read
    processes: bool = False  # who binds, connects or sends is noted
    shared: tuple[str, ...] = ()  # interfaces to share with other XDP programs, as patterns


class Load:
    """What the kernel has taken: programs and maps, attached to nothing as yet; and the pins that they go on with."""

    def __init__(self, options: Options) -> None:
        """Goes on with the maps of an earlier daemon if they fit. Raises DatapathError; nothing stays open."""
        self.sizes = sizes(options)
        with ExitStack() as stack:
            self.pins = stack.enter_context(closing(Pins(options.pin_dir, self.sizes)))
            with _closed(self.pins.maps()) as kept:
                self.loaded = stack.enter_context(closing(_load_with_owners(options, self.sizes, kept)))
            self._opened = stack.pop_all()

    def close(self) -> None:
        """Lets go of them; what is attached or pinned stays."""
        self._opened.close()


@contextmanager
def begun(options: Options) -> Iterator[Future[Load]]:
    """A load in a thread of its own, which ends with it. Whatever became of it, nothing is open after the block."""
    with ThreadPoolExecutor(1, "load") as thread:
        loading = thread.submit(Load, options)
        thread.shutdown(wait=False)
        try:
            yield loading
        finally:
            if not loading.exception():
                loading.result().close()


def sizes(options: Options) -> Sizes:
    """How large the ledger of this host is to be."""
    inners = _INNERS if options.look_inside else 1
    return Sizes(possible_cpus(), options.capacity, RING_RECORDS, inners)


def _load_with_owners(options: Options, sizes: Sizes, kept: dict[str, int]) -> Loaded:
    """Without, where the kernel was built to know of no cgroups and so refuses: filtering does not hang on that."""
    try:
        return _load_over(options, sizes, kept)
    except DatapathError as error:
        if not options.owners:
            raise
        try:
            loaded = _load_over(replace(options, owners=False), sizes, kept)
        except DatapathError:
            raise error from None
        loaded.owners = False
        loaded.notes.append("flows have no units: the kernel does not report the cgroup of a packet")
        return loaded


def _load_over(options: Options, sizes: Sizes, kept: dict[str, int]) -> Loaded:
    """By the loader that the settings name; for "auto" libbpf, and where it fails bcc, with the reason in a note."""
    seed = _kept_seed(kept)
    if options.loader == "bcc":
        return bcc_loader.load(sizes, kept, seed, options.pin_dir, owners=options.owners)
    try:
        return load_libbpf(sizes, kept, seed, owners=options.owners)
    except DatapathError as error:
        if options.loader == "libbpf":
            raise
        try:
            loaded = bcc_loader.load(sizes, kept, seed, options.pin_dir, owners=options.owners)
        except DatapathError:
            raise error from None
        loaded.notes.append(f"loaded by bcc, because libbpf could not: {error}")
        return loaded


def _kept_seed(kept: dict[str, int]) -> int | None:
    if "tm_config" not in kept:
        return None
    config = Mapped(kept["tm_config"], abi.CONFIG, 1)
    try:
        return int(config.array["seed"][0])
    finally:
        config.close()


@contextmanager
def _closed(fds: dict[str, int]) -> Iterator[dict[str, int]]:
    """The descriptors, closed at the end."""
    try:
        yield fds
    finally:
        for fd in fds.values():
            os.close(fd)
