"""Stores what detectors and the response have learned in a file in state_dir, from one start to the next.

The file is read in the background. One that is damaged or of another version is set aside and logged once.
"""

import asyncio
import hashlib
import io
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from trafficmond import files
from trafficmond.flows.batch import Column
from trafficmond.sinks import messages
from trafficmond.sinks.fanout import SinkSet

LEARNED_NAME = "learned"  # in state_dir
ASIDE = ".broken"  # suffix of a file that cannot be used
_HEAD = b"trafficmon learned 1\n"  # followed by a checksum of the rest, and arrays by numpy.savez_compressed
_SUM_BYTES = 16
_EVERY_S = 1800.0  # between two saves: a kill or a power failure loses at most this much


def packed(arrays: Mapping[str, Column]) -> bytes:
    out = io.BytesIO()
    np.savez_compressed(out, **arrays)
    body = out.getvalue()
    return _HEAD + _checksum(body) + body


def unpacked(data: bytes) -> dict[str, Column]:
    """The arrays in the content of a file. Raises ValueError if it is damaged or of another version."""
    start = len(_HEAD) + _SUM_BYTES
    if not data.startswith(_HEAD):
        raise ValueError("another version wrote it")
    if data[len(_HEAD) : start] != _checksum(data[start:]):
        raise ValueError("it is damaged")
    with np.load(io.BytesIO(data[start:]), allow_pickle=False) as arrays:
        return dict(arrays)


def _checksum(body: bytes) -> bytes:
    return hashlib.blake2s(body, digest_size=_SUM_BYTES).digest()


class Keeper(Protocol):
    """What learns: arrays by name, and what of those of an earlier start does not fit."""

    def learned(self) -> Mapping[str, Column]: ...

    def recall(self, learned: Mapping[str, Column], now: float) -> list[str]: ...


class Learned:
    """Restores and saves what keepers have learned. For the event loop's thread."""

    def __init__(self, path: Path, keepers: Sequence[Keeper], sinks: SinkSet, warnings: dict[str, str]) -> None:
        self._path = path
        self._keepers = keepers
        self._sinks = sinks
        self._warnings = warnings
        self._recalled = False
        self._kept_at = time.monotonic()

    async def recall(self) -> None:
        """Restores what the last daemon saved. Never raises."""
        try:
            learned = unpacked(await asyncio.to_thread(files.read, self._path))
            unfit = [name for keeper in self._keepers for name in keeper.recall(learned, time.time())]
            if unfit:
                await self._put_aside(f"another version wrote the values of {', '.join(unfit)}")
        except FileNotFoundError:
            pass
        except ValueError as error:
            await self._put_aside(str(error))
        except OSError as error:
            self._fail("cannot be read", error)
        self._recalled = True

    async def keep(self, *, now: bool = False) -> None:
        """Saves what was learned, if it is time or `now`. Never raises."""
        if not self._recalled or not (now or time.monotonic() - self._kept_at >= _EVERY_S):
            return
        self._kept_at = time.monotonic()
        learned = {name: array for keeper in self._keepers for name, array in keeper.learned().items()}
        try:
            await asyncio.to_thread(lambda: files.replace(self._path, packed(learned), mode=0o640))
            self._warnings.pop(LEARNED_NAME, None)
        except OSError as error:
            self._fail("cannot be stored for the next start", error)

    async def _put_aside(self, why: str) -> None:
        aside = self._path.with_name(self._path.name + ASIDE)
        try:
            await asyncio.to_thread(self._path.replace, aside)
        except OSError as error:
            self._fail("cannot be used", error)
            return
        text = f"what detectors had learned cannot be used ({why}). They start again; the old file is now {aside}"
        self._sinks.note(messages.LEARNED_REPLACED, text, {"path": str(aside)})

    def _fail(self, what: str, error: OSError) -> None:
        self._warnings[LEARNED_NAME] = f"what detectors have learned {what} ({self._path}: {error.strerror or error})"
