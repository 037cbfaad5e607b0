"""Small programs apart from the data path, attached beside it on each interface.

They decide nothing and are not pinned.
"""

import errno
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np

from trafficmond.dataclass import dataclass
from trafficmond.datapath import libbpf
from trafficmond.datapath.attach import Attachment, Filter, drop_filters, has_filter, put_filter
from trafficmond.datapath.loader import find, possible_cpus


@dataclass(frozen=True, slots=True)
class Side:
    """The place of such a program on an interface: a hook of TCX, or a filter before Linux 6.6."""

    program: str
    hook: int  # enum bpf_attach_type
    flags: int
    place: Filter


class Observers:
    """The programs and maps of bpf/`name`.bpf.c, by the data path's loader; bcc works below `pin_dir`. `kinds`:
    sections of the programs, for bcc; `unseen`: what is missed where they cannot be attached. Raises DatapathError."""

    def __init__(
        self,
        name: str,
        loader: str,
        pin_dir: Path,
        *,
        kinds: Mapping[str, str],
        maps: Iterable[str],
        sides: Sequence[Side],
        unseen: str,
    ) -> None:
        self.programs, self.maps = _load(name, loader, pin_dir, kinds, tuple(maps))
        self._sides, self._unseen = sides, unseen
        self._links: dict[int, list[int]] = {}  # by ifindex; empty for filters of a clsact qdisc
        self._opened = ExitStack()
        for fd in (*self.programs.values(), *self.maps.values()):
            self._opened.callback(os.close, fd)

    def follow(self, attached: Mapping[int, Attachment]) -> None:
        """Attaches to the same interfaces as the data path; a failure is added to the attachment's notes."""
        here = {ifindex for ifindex, done in attached.items() if not done.away}
        for ifindex, links in list(self._links.items()):
            lost = not links and ifindex in here and not has_filter(ifindex, self._sides[0].place)
            if lost or ifindex not in attached:
                self._leave(ifindex)
        for ifindex in attached.keys() - self._links.keys():
            self._links[ifindex] = []
            try:
                self._look(ifindex)
            except OSError as error:
                done = attached[ifindex]
                note = f"{self._unseen.format(interface=done.name)} are not seen: {error.strerror}"
                done.notes += [note] if note not in done.notes else []

    def sums(self, name: str, fields: int) -> list[int]:
        """The counters of the one record of a map, over all CPUs."""
        octets = libbpf.lookup(self.maps[name], bytes(4), 8 * fields * possible_cpus()) or b""
        sums: list[int] = np.frombuffer(octets, np.uint64).reshape(-1, fields).sum(axis=0).tolist()
        return sums

    def close(self) -> None:
        for ifindex in list(self._links):
            self._leave(ifindex)
        self._opened.close()

    def _look(self, ifindex: int) -> None:
        try:
            for side in self._sides:
                link = libbpf.link_create(self.programs[side.program], ifindex, side.hook, side.flags)
                self._links[ifindex].append(link)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                raise
            for side in self._sides:  # before Linux 6.6
                put_filter(ifindex, side.place, self.programs[side.program])

    def _leave(self, ifindex: int) -> None:
        links = self._links.pop(ifindex)
        for fd in links:
            os.close(fd)
        if not links:
            drop_filters(ifindex, [side.place for side in self._sides])


def _load(
    name: str, loader: str, pin_dir: Path, kinds: Mapping[str, str], maps: tuple[str, ...]
) -> tuple[dict[str, int], dict[str, int]]:
    if loader == "bcc":
        from trafficmond.datapath.bcc.loader import compiled

        return compiled(f"{name}.bpf.c", kinds, maps, pin_dir)
    with closing(libbpf.Object(str(find(f"trafficmon-{name}.bpf.o")))) as target:
        target.load(tuple(kinds))
        return {name: target.program_fd(name) for name in kinds}, {name: target.map_fd(name) for name in maps}
