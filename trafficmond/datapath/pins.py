"""Pins under bpffs: what lets filtering and counting go on while no daemon runs.

Layout of the pin directory: `maps-<layout>/<map>` and `links/<kind>-<ifindex>`. The layout's name is a hash of every
shared struct and of the sizes, so a daemon knows at a glance which maps it can go on with.
"""

from __future__ import annotations

import contextlib
import errno
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

from trafficmond import abi
from trafficmond.datapath import libbpf
from trafficmond.datapath.loader import MAPS, Loaded, Sizes
from trafficmond.errors import DatapathError


def layout_name(sizes: Sizes) -> str:
    """Name of the maps' folder for this ABI and these sizes."""
    text = repr(sorted((name, str(dtype)) for name, dtype in abi.STRUCTS.items())) + repr(sizes)
    return f"maps-{zlib.crc32(text.encode()):08x}"


class Pins:
    """The pin directory. Raises DatapathError if it cannot hold pins: a filter that ends with its daemon is none."""

    def __init__(self, directory: Path, sizes: Sizes) -> None:
        self.directory = directory
        self._maps = directory / layout_name(sizes)
        self._links = directory / "links"
        try:
            self._links.mkdir(parents=True, exist_ok=True)
            self._probe()
        except OSError as error:
            if error.errno == errno.EPERM and error.filename is None:
                what, hint = "no permission to use BPF", "run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON"
            else:
                what = f"{directory} cannot hold pins: {error.strerror}"
                hint = "mount a bpffs (mount -t bpf bpf /sys/fs/bpf), or set pin_dir to a folder on one that is yours"
            raise DatapathError(what, hint=hint) from error

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
        """Descriptors of all maps of this layout, or none at all: a part of them is of no use."""
        found: dict[str, int] = {}
        try:
            for name in MAPS:
                found[name] = libbpf.open_pin(str(self._maps / name))
        except OSError:
            for fd in found.values():
                os.close(fd)
            return {}
        return found

    def keep_maps(self, loaded: Loaded) -> None:
        """Pins the maps of a fresh load, and lets go of those of other layouts."""
        if not loaded.reused:
            remove_tree(self._maps)
            self._maps.mkdir()
            for name, fd in loaded.maps.items():
                libbpf.pin(fd, str(self._maps / name))
        for other in self.directory.glob("maps-*"):
            if other != self._maps:
                remove_tree(other)

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
        """Pins a link."""
        self.drop_link(kind, ifindex)
        libbpf.pin(fd, str(self._links / f"{kind}-{ifindex}"))

    def drop_link(self, kind: str, ifindex: int) -> None:
        """Removes a link's pin; the attachment ends with its last descriptor."""
        with contextlib.suppress(OSError):
            (self._links / f"{kind}-{ifindex}").unlink()

    def links(self) -> Iterator[tuple[str, int]]:
        """(kind, ifindex) of every pinned link."""
        if self._links.is_dir():
            for path in sorted(self._links.iterdir()):
                kind, _, ifindex = path.name.partition("-")
                yield kind, int(ifindex)

    def remove_all(self) -> None:
        """Ends every pinned attachment and forgets every pinned map."""
        remove_pins(self.directory)


def remove_pins(directory: Path) -> None:
    """Ends every attachment pinned in a pin directory and forgets every map, whoever pinned them."""
    for folder in (directory / "links", *directory.glob("maps-*")):
        remove_tree(folder)
    with contextlib.suppress(OSError):
        directory.rmdir()


def remove_tree(folder: Path) -> None:
    """Removes a folder of pins and the pins in it."""
    if folder.is_dir():
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
