"""A bounded queue on the disk, whose entries survive a crash.

Each entry is a file: a line of JSON, then the body. A file gets its name only when it is complete and on the disk.
"""

import errno
import json
import threading
from collections import deque
from pathlib import Path
from typing import Any

from trafficmond import files
from trafficmond.dataclass import dataclass

_SUFFIX = ".batch"


@dataclass(frozen=True, slots=True)
class Entry:
    """One file. `left`: it is from an earlier process, so it is unknown whether it was sent."""

    path: Path
    flows: int
    size_bytes: int
    left: bool


class Spool:
    """A folder of entries. One thread may put while another reads and removes."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        """Continues with the entries in the folder. Raises OSError if it cannot be created or read."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._max_bytes = max_bytes
        self._entries: deque[Entry] = deque()
        self._wake = threading.Condition()
        self.bytes = self.flows = 0
        for path in sorted(folder.iterdir()):
            if path.suffix == files.UNFINISHED:
                path.unlink(missing_ok=True)
            elif path.suffix == _SUFFIX:
                flows = path.stem.partition("-")[2]
                self._add(Entry(path, int(flows) if flows.isdigit() else 0, path.stat().st_size, True))
        last = self._entries[-1].path.stem.partition("-")[0] if self._entries else "0"
        self._number = int(last) if last.isdigit() else 0

    def _add(self, entry: Entry) -> None:
        self._entries.append(entry)
        self.bytes += entry.size_bytes
        self.flows += entry.flows

    def put(self, flows: int, about: dict[str, Any], body: bytes) -> None:
        """Stores an entry on the disk. Raises OSError, and stores nothing, if it does not fit or cannot be written."""
        self._folder.mkdir(parents=True, exist_ok=True)  # it may have been removed to have room
        data = json.dumps({**about, "bytes": len(body)}).encode() + b"\n" + body
        if self.bytes + len(data) > self._max_bytes:
            raise OSError(errno.ENOSPC, f"the spool {self._folder} is full")
        path = self._folder / f"{self._number + 1:012d}-{flows}{_SUFFIX}"
        files.replace(path, data, durable=True)
        with self._wake:
            self._number += 1
            self._add(Entry(path, flows, len(data), False))
            self._wake.notify()

    def oldest(self, timeout_s: float) -> Entry | None:
        """The oldest entry; waits for one, at most `timeout_s`; None if there is none."""
        with self._wake:
            self._wake.wait_for(lambda: self._entries, timeout_s)
            return self._entries[0] if self._entries else None

    def read(self, entry: Entry) -> tuple[dict[str, Any], bytes]:
        """The content of an entry. Raises OSError if the file cannot be read, ValueError if it is damaged."""
        try:
            line, _, body = files.read(entry.path).partition(b"\n")
        except OSError as error:
            if error.errno != errno.EFBIG:  # no batch is so large
                raise
            raise ValueError(f"{entry.path}: is damaged") from None
        about = json.loads(line)
        if not isinstance(about, dict) or about.get("bytes") != len(body):
            raise ValueError(f"{entry.path}: is damaged")
        return about, body

    def remove(self, entry: Entry) -> None:
        """Removes the oldest entry. Raises OSError if that fails; then it stays the oldest."""
        entry.path.unlink(missing_ok=True)
        with self._wake:
            self._entries.popleft()
            self.bytes -= entry.size_bytes
            self.flows -= entry.flows
