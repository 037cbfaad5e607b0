"""Answers of DNS that come in over watched interfaces, to questions that went out there (bpf/dns.bpf.c).

Two small programs apart from the data path, behind it on each interface. They are not pinned: nothing is judged by
them, and they end with the daemon.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trafficmond import compiled
from trafficmond.datapath import libbpf
from trafficmond.datapath.attach import LOOKERS, Attachment, drop_filters, put_filter
from trafficmond.datapath.bcc import loader as bcc_loader
from trafficmond.datapath.loader import find, possible_cpus
from trafficmond.errors import DatapathError
from trafficmond.flows import compiled as loops
from trafficmond.flows.batch import Batch
from trafficmond.flows.dns import AnswerReader

_QUESTION, _ANSWER = "tm_dns_question", "tm_dns_answer"
_RING, _COUNTS = "tm_dns_ring", "tm_dns_counts"
_COUNTED = ("answers", "unasked", "lost")  # struct tm_dns_counts
_SIDES = ((_ANSWER, libbpf.TC_INGRESS_TCX), (_QUESTION, libbpf.TC_EGRESS_TCX))  # in the order of LOOKERS


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the answers since the start."""

    answers: int = 0
    unasked: int = 0  # nobody here had asked, or was told already
    lost: int = 0  # more came than are read
    unreadable: int = 0


class NamesSeen:
    """The programs and their ring, by the loader that the data path was loaded by; bcc works below `pin_dir`. Raises
    DatapathError; nothing stays open then."""

    def __init__(self, loader: str, pin_dir: Path) -> None:
        library = loops.library()
        if library is None:
            raise DatapathError("libtmparse.so, which reads the answers, is missing", hint=compiled.HINT)
        self._programs, maps = _load(loader, pin_dir)
        self._links: dict[int, list[int]] = {}  # by ifindex; none where they are filters of a clsact qdisc
        self._counts = maps[_COUNTS]
        with ExitStack() as stack:
            for fd in (*self._programs.values(), *maps.values()):
                stack.callback(os.close, fd)
            ring, size = maps[_RING], int(libbpf.map_info(maps[_RING]).max_entries)
            self._consumer = stack.enter_context(mmap.mmap(ring, mmap.PAGESIZE))
            # The producer's page, then the data twice in a row.
            whole = mmap.PAGESIZE + 2 * size
            self._producer = stack.enter_context(mmap.mmap(ring, whole, prot=mmap.PROT_READ, offset=mmap.PAGESIZE))
            at = np.frombuffer(self._producer, np.uint8).ctypes.data
            consumed = ctypes.addressof(ctypes.c_char.from_buffer(self._consumer))
            self._reader = AnswerReader(library, consumed, at, at + mmap.PAGESIZE, size)
            self._opened = stack.pop_all()

    def take(self) -> Batch:
        """flows.dns.NAMED rows of the answers since the last call."""
        return self._reader.take()

    def counts(self) -> Counts:
        """What was counted so far."""
        octets = libbpf.lookup(self._counts, bytes(4), 8 * len(_COUNTED) * possible_cpus()) or b""
        answers, unasked, lost = np.frombuffer(octets, np.uint64).reshape(-1, len(_COUNTED)).sum(axis=0).tolist()
        return Counts(answers, unasked, lost, self._reader.unreadable)

    def follow(self, attached: Mapping[int, Attachment]) -> None:
        """Looks where something is attached, and nowhere else; where that cannot be, a note of the attachment says
        so."""
        for ifindex in self._links.keys() - attached.keys():
            self._leave(ifindex)
        for ifindex in attached.keys() - self._links.keys():
            self._links[ifindex] = []
            try:
                self._look(ifindex)
            except OSError as error:
                done = attached[ifindex]
                done.notes.append(f"answers of DNS on {done.name} are not seen: {error.strerror}")

    def _look(self, ifindex: int) -> None:
        try:
            for name, side in _SIDES:
                self._links[ifindex].append(libbpf.link_create(self._programs[name], ifindex, side))
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                raise
            for (name, _), place in zip(_SIDES, LOOKERS, strict=True):  # before Linux 6.6
                put_filter(ifindex, place, self._programs[name])

    def _leave(self, ifindex: int) -> None:
        links = self._links.pop(ifindex)
        for fd in links:
            os.close(fd)
        if not links:
            drop_filters(ifindex, LOOKERS)

    def close(self) -> None:
        """Looks no more."""
        for ifindex in list(self._links):
            self._leave(ifindex)
        self._opened.close()


def _load(loader: str, pin_dir: Path) -> tuple[dict[str, int], dict[str, int]]:
    programs, maps = (_QUESTION, _ANSWER), (_RING, _COUNTS)
    if loader == "bcc":
        return bcc_loader.load_apart("dns.bpf.c", pin_dir, dict.fromkeys(programs, "tc"), set(maps))
    target = libbpf.Object(str(find("trafficmon-dns.bpf.o")))
    try:
        target.load(programs)
        return {name: target.program_fd(name) for name in programs}, {name: target.map_fd(name) for name in maps}
    finally:
        target.close()
