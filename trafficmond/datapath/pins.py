"""Pins under bpffs, which keep filtering and counting active while no daemon runs.

Layout of the pin directory: `maps-<structs>-<cpus>-<capacity>-<ring>-<inners>/<map>`, `links/<kind>-<ifindex>`,
`shared/<ifindex>`, `processes` (processes_seen.py) and `chosen/` (choices.py). `shared` is a map of our program in that
interface's dispatcher: there is no link to pin, and the map identifies the program. `<structs>` is a hash of every
shared struct, which shows a daemon which maps it can reuse and which it can still read.
"""

import contextlib
import errno
import fcntl
import functools
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from trafficmond import abi
from trafficmond.datapath import libbpf
from trafficmond.datapath.choices import remove_choices
from trafficmond.datapath.loader import MAPS, Loaded, Sizes
from trafficmond.errors import DatapathError

_ANY_SIZE = ("tm_bans", "tm_ban_services", "tm_conns", "tm_buckets")  # independent of the size of the ledger
LEDGER = ("tm_config", "tm_totals", "tm_sets", "tm_taken", "tm_rings", "tm_evicted")  # the counts, and their places
# Earlier layouts with the same LEDGER and _OF_EARLIER as today: the later changes are in other structs,
# or in former padding. (0.1.0 and the first 0.2.0; later builds of 0.2.0.) A test checks today's layout.
_EARLIER = frozenset(("f76c4ebb", "87dcf24e", "cb610716", "883c5102"))
_OF_EARLIER = ("tm_bans", "tm_conns")
_SHARED = "shared"
NOTES = "processes"  # the map of processes by socket, of flows.processes
# A killed daemon's lock can outlive it briefly, while another process examines its descriptors.
_LOCK_S = 2.0


def layout_name(sizes: Sizes) -> str:
    """Name of the maps' folder for this ABI and these sizes."""
    return f"maps-{abi.LAYOUT}-{sizes.cpus}-{sizes.capacity}-{sizes.ring}-{sizes.inners}"


def _sizes_of(name: str) -> Sizes | None:
    """The sizes that a folder of maps is named after; None if they are of an ABI whose ledger cannot be read."""
    words = name.split("-")
    if words[0] != "maps" or len(words) != 6 or not all(map(str.isdecimal, words[2:])):
        return None
    return Sizes(*map(int, words[2:])) if words[1] in (abi.LAYOUT, *_EARLIER) else None


class Pins:
    """The pin directory. Raises DatapathError if it cannot have pins: a filter must outlive its daemon."""

    def __init__(self, directory: Path, sizes: Sizes) -> None:
        self.directory = directory
        self._sizes = sizes
        self._links = directory / "links"
        self._shared = directory / _SHARED
        try:
            self._lock = self._take_lock()
            try:
                self._links.mkdir(exist_ok=True)
                self._shared.mkdir(exist_ok=True)
                self._probe()
            except OSError:
                self.close()
                raise
        except OSError as error:
            if error.errno == errno.EPERM and error.filename is None:
                what, hint = "no permission to use BPF", "run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON"
            else:
                what = f"{directory} cannot hold pins: {error.strerror}"
                hint = "mount a bpffs (mount -t bpf bpf /sys/fs/bpf), or set pin_dir to a folder of yours on one"
            raise DatapathError(what, hint=hint) from error

    @functools.cached_property
    def _maps(self) -> Path:
        return self.directory / layout_name(self._sizes)

    def _take_lock(self) -> int:
        """A lock on the directory: two daemons on the same pins would read each other's records."""
        deadline = time.monotonic() + _LOCK_S
        while True:
            self.directory.mkdir(parents=True, exist_ok=True)
            fd = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
                if time.monotonic() < deadline:
                    time.sleep(_LOCK_S / 40)
                    continue
                what = f"another trafficmond runs with the pins in {self.directory}"
                raise DatapathError(what, hint="stop that one, or give this one a pin_dir of its own") from None
            if self.directory.is_dir() and os.path.samestat(os.fstat(fd), self.directory.stat()):
                return fd
            os.close(fd)  # removed meanwhile by the last holder

    def close(self) -> None:
        """Releases the directory for another daemon."""
        os.close(self._lock)

    def _probe(self) -> None:
        fd = libbpf.create_array("tm_probe", 8, 1, 0)
        path = self.directory / "probe"
        try:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
            libbpf.pin(fd, str(path))
            path.unlink()
        finally:
            os.close(fd)

    def maps(self) -> dict[str, int]:
        """Descriptors of the maps to reuse: all of this layout; only those that fit any size, if there is a ledger of
        other sizes or of an earlier version; or none."""
        if kept := _open(self._maps, MAPS):
            return kept
        for folder in self._others():
            sizes = _sizes_of(folder.name)
            if sizes is None:
                continue
            fitting = _ANY_SIZE if folder.name.split("-")[1] == abi.LAYOUT else _OF_EARLIER
            inners = ("tm_inners",) if sizes.inners == self._sizes.inners else ()
            if kept := _open(folder, (*fitting, *inners)):
                return kept
        return {}

    def keep_maps(self, loaded: Loaded) -> None:
        if not loaded.reused:
            remove_tree(self._maps)
            self._maps.mkdir()
            for name, fd in loaded.maps.items():
                libbpf.pin(fd, str(self._maps / name))

    def drop_maps(self) -> None:
        """Unpins the maps of this layout, which no attached program uses."""
        remove_tree(self._maps)

    def others(self) -> Iterator[tuple[Sizes | None, dict[str, int]]]:
        """Sizes and descriptors of the ledger of every other layout; None and nothing if they cannot be read."""
        for folder in self._others():
            sizes = _sizes_of(folder.name)
            maps = _open(folder, LEDGER) if sizes else {}
            yield (sizes, maps) if maps else (None, {})

    def remove_others(self) -> None:
        for folder in self._others():
            remove_tree(folder)

    def _others(self) -> list[Path]:
        return sorted(folder for folder in self.directory.glob("maps-*") if folder != self._maps)

    def link(self, kind: str, ifindex: int) -> int | None:
        """Descriptor of a live pinned link to this interface; a dead one's pin is removed."""
        path = self._links / f"{kind}-{ifindex}"
        try:
            fd = libbpf.open_pin(str(path))
        except OSError:
            return None
        if libbpf.link_info(fd).ifindex == ifindex:
            return fd
        os.close(fd)
        path.unlink()
        return None

    def keep_link(self, kind: str, ifindex: int, fd: int) -> None:
        """Pins a link; if the pin directory is gone, the filter ends with the daemon, as `holds` shows."""
        self.drop_link(kind, ifindex)
        with contextlib.suppress(OSError):
            libbpf.pin(fd, str(self._links / f"{kind}-{ifindex}"))

    def holds(self, ifindex: int) -> bool:
        """Whether an attachment, and the maps it needs, would outlive the daemon."""
        return self.has_xdp(ifindex) and (self._maps / "tm_config").exists()

    def drop_link(self, kind: str, ifindex: int) -> None:
        """Ends a pinned attachment and removes its pin."""
        _end_link(self._links / f"{kind}-{ifindex}")

    def has_xdp(self, ifindex: int) -> bool:
        """Whether an attachment at the XDP hook of this interface is pinned, live or dead."""
        return self.has_link("xdp", ifindex) or self.is_shared(ifindex)

    def has_link(self, kind: str, ifindex: int) -> bool:
        """Whether a link of this interface is pinned, live or dead."""
        return (self._links / f"{kind}-{ifindex}").exists()

    def is_shared(self, ifindex: int) -> bool:
        """Whether a program of ours was put into this interface's dispatcher."""
        return (self._shared / str(ifindex)).exists()

    def keep_shared(self, ifindex: int, map_fd: int) -> None:
        """Pins a map that identifies our program in this interface's dispatcher."""
        drop_shared(self.directory, ifindex)
        with contextlib.suppress(OSError):  # as with links
            libbpf.pin(map_fd, str(self._shared / str(ifindex)))

    def attached(self) -> set[int]:
        """The ifindex of every interface with a pin of ours."""
        names = [path.name for folder in (self._links, self._shared) if folder.is_dir() for path in folder.iterdir()]
        return {int(name.rpartition("-")[2]) for name in names}

    def are_live(self) -> bool:
        """Whether an earlier daemon's attachment still filters; the pins of links that ended are removed."""
        pinned = (path.name.rpartition("-") for path in list(self._links.iterdir()))
        links = [fd for kind, _, ifindex in pinned if (fd := self.link(kind, int(ifindex))) is not None]
        for fd in links:
            os.close(fd)
        return bool(links) or any(map(libbpf.xdp_id, shared(self.directory)))

    def remove_all(self) -> None:
        """Ends every pinned attachment and removes every pinned map, unless a dispatcher has a program of ours."""
        if not shared(self.directory):
            remove_pins(self.directory)


def shared(directory: Path) -> list[int]:
    """The ifindex of every interface with a program of ours in its dispatcher."""
    folder = directory / _SHARED
    return sorted(int(path.name) for path in folder.iterdir()) if folder.is_dir() else []


def drop_shared(directory: Path, ifindex: int) -> None:
    """Forgets the program of ours in an interface's dispatcher."""
    (directory / _SHARED / str(ifindex)).unlink(missing_ok=True)


def marks(directory: Path, ifindex: int) -> list[int]:
    """Descriptors, to be closed, of the maps that identify a program of ours in an interface's dispatcher: that of the
    program itself, and those of daemons that may just have replaced it."""
    found = []
    for path in (directory / _SHARED / str(ifindex), *directory.glob("maps-*/tm_config")):
        with contextlib.suppress(OSError):
            found.append(libbpf.open_pin(str(path)))
    return found


def remove_pins(directory: Path) -> None:
    """Ends every attachment pinned in a pin directory and removes every map, whoever pinned them. Programs in
    dispatchers (`shared`) must be removed before.

    The directory itself stays: it may belong to the service's user, who could not make it again.
    """
    end_links(directory)
    for folder in (directory / "links", directory / _SHARED, directory / "bcc", *directory.glob("maps-*")):
        remove_tree(folder)
    (directory / NOTES).unlink(missing_ok=True)
    remove_choices(directory)


def end_links(directory: Path) -> None:
    """Ends every attachment pinned in a pin directory."""
    links = directory / "links"
    for path in links.iterdir() if links.is_dir() else ():
        _end_link(path)


def _open(folder: Path, names: Iterable[str]) -> dict[str, int]:
    """Descriptors of these pins in a folder, or none at all: a part of them is useless."""
    found: dict[str, int] = {}
    try:
        for name in names:
            found[name] = libbpf.open_pin(str(folder / name))
            struct = MAPS[name]
            if struct and libbpf.map_info(found[name]).value_size != abi.STRUCTS[struct].itemsize:
                raise OSError(errno.EINVAL, "another map has this name")
    except OSError:
        for fd in found.values():
            os.close(fd)
        return {}
    return found


def _end_link(path: Path) -> None:
    """Ends the attachment at once: unpinning alone would take effect later, and never while a daemon has it open."""
    with contextlib.suppress(OSError):
        fd = libbpf.open_pin(str(path))
        try:
            libbpf.link_detach(fd)
        finally:
            os.close(fd)
    with contextlib.suppress(OSError):
        path.unlink()


def remove_tree(folder: Path) -> None:
    """Removes a folder of pins and the pins in it; another process may do the same."""
    with contextlib.suppress(FileNotFoundError):
        for path in folder.iterdir():
            path.unlink(missing_ok=True)
        folder.rmdir()
