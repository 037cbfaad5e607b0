"""Loading of programs and maps into the kernel, the longest part of a start.

It begins before the rest of the daemon is imported, so this module imports little, and not numpy.
"""

import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from trafficmond import abi
from trafficmond.config.settings import XdpModeSetting
from trafficmond.dataclass import dataclass, replace
from trafficmond.datapath.loader import Loaded, Sizes, load_libbpf, possible_cpus
from trafficmond.datapath.pins import Pins
from trafficmond.errors import DatapathError

# bound: records in the eviction ring, for each CPU | the record's packets and bytes are added to `unattributed`
RING_RECORDS = 32768  # per CPU: evictions between two readings; beyond that, records are only added to a sum
# bound: conversations in tunnels (`flows.look_inside`) | the one seen longest ago is evicted; its rows lack `inner_...`
_INNERS = 131072  # 15 MiB: the latest conversations inside tunnels that are stored


@dataclass(frozen=True, slots=True)
class Options:
    loader: str  # auto | libbpf | bcc
    xdp_mode: XdpModeSetting
    egress: bool
    pin_dir: Path
    capacity: int
    established: bool
    drop_malformed: bool
    look_inside: bool = False
    drop_unparsed: bool = False  # drop incoming packets that cannot be parsed
    owners: bool = False  # records have owners
    dns_names: bool = False  # read DNS answers
    processes: bool = False  # note processes that bind, connect or send
    shared: tuple[str, ...] = ()  # patterns of interfaces shared with other XDP programs


class Load:
    """Loaded programs and maps, not yet attached, and their pins."""

    def __init__(self, options: Options) -> None:
        """Reuses the maps of an earlier daemon if they fit. Raises DatapathError; nothing stays open."""
        self.sizes = sizes(options)
        with ExitStack() as stack:
            self.pins = stack.enter_context(closing(Pins(options.pin_dir, self.sizes)))
            with ExitStack() as kept_open:
                kept = self.pins.maps()
                for fd in kept.values():
                    kept_open.callback(os.close, fd)
                self.loaded = stack.enter_context(closing(_load_with_owners(options, self.sizes, kept)))
            self._opened = stack.pop_all()

    def close(self) -> None:
        """Closes them; attachments and pins stay."""
        self._opened.close()


@contextmanager
def load_in_thread(options: Options) -> Iterator[Future[Load]]:
    """A load in a separate thread. After the block nothing stays open, whatever the result."""
    with ThreadPoolExecutor(1, "load") as thread:
        loading = thread.submit(Load, options)
        thread.shutdown(wait=False)
        try:
            yield loading
        finally:
            if not loading.exception():
                loading.result().close()


def sizes(options: Options) -> Sizes:
    inners = _INNERS if options.look_inside else 1
    return Sizes(possible_cpus(), options.capacity, RING_RECORDS, inners)


def _load_with_owners(options: Options, sizes: Sizes, kept: dict[str, int]) -> Loaded:
    """Loads with owners; without, if the kernel has no cgroups and refuses: filtering works without owners."""
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
    """Loads with the loader of the settings; for "auto" libbpf, and if it fails bcc, with the reason in a note."""
    seed = _kept_seed(kept)
    if options.loader == "bcc":
        return _compiled(options, sizes, kept, seed)
    try:
        return load_libbpf(sizes, kept, seed, owners=options.owners)
    except DatapathError as error:
        if options.loader == "libbpf":
            raise
        try:
            loaded = _compiled(options, sizes, kept, seed)
        except DatapathError:
            raise error from None
        loaded.notes.append(f"loaded by bcc, because libbpf could not: {error}")
        return loaded


def _compiled(options: Options, sizes: Sizes, kept: dict[str, int], seed: int | None) -> Loaded:
    from trafficmond.datapath.bcc import loader

    return loader.load(sizes, kept, seed, options.pin_dir, owners=options.owners)


def _kept_seed(kept: dict[str, int]) -> int | None:
    if "tm_config" not in kept:
        return None
    from trafficmond.datapath.mapped import Mapped

    with closing(Mapped(kept["tm_config"], abi.CONFIG, 1)) as config:
        return int(config.array["seed"][0])
