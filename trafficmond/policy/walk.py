"""The kernel's walk of a verdict table, for explanations and tests, of many addresses at once."""

import numpy as np

from trafficmond import abi, npt
from trafficmond.model import Direction
from trafficmond.npt import U32, U64
from trafficmond.policy.layout import (
    BYTES,
    CHUNK,
    CROSS,
    LEAF_INDEX,
    LEAF_RECORD,
    POINTER,
    ROW,
    STEPS_MAX,
    UNIT,
    UNIT_WORDS,
)


def leaves(words: U32, family: int, direction: Direction, hi: U64, lo: U64, what: U32 | int = 0) -> U32:
    """The leaf of each left-aligned address for a service (abi.WHAT_*); a pointer if the walk is too long."""
    root = int(words[abi.HDR_ROOT + 2 * int(direction) + (family == 6)]) * UNIT_WORDS
    entry: U32 = words[root + (hi >> np.uint64(48)).astype(np.int64)]
    key = hi << np.uint64(16)
    for _ in range(STEPS_MAX[family]):
        rest = np.flatnonzero((entry & POINTER != 0) & (entry & ROW != ROW))
        if not len(rest):
            break
        pointer = entry[rest]
        word = (pointer & UNIT).astype(np.int64) * UNIT_WORDS
        key[rest] = np.where(pointer & CROSS, lo[rest], key[rest])
        chunk, coded = pointer & CHUNK != 0, pointer & BYTES != 0
        at_chunk = rest[chunk]
        entry[at_chunk] = _in_chunk(words, word[chunk], key[at_chunk])
        slot = (key[rest] >> np.uint64(56)).astype(np.int64)
        code = words.view(np.uint8)[4 * word[coded] + slot[coded]]
        entry[rest[coded]] = words[abi.HDR_PALETTE + code.astype(np.int64)]
        block = ~chunk & ~coded
        entry[rest[block]] = words[word[block] + slot[block]]
        key[rest[block]] <<= np.uint64(8)
    at = np.flatnonzero(entry & ROW == ROW)
    if len(at):
        classes = words[int(words[abi.HDR_CLASSES]) * UNIT_WORDS :].view(np.uint8)[: abi.WHAT_BYTES]
        asked = classes[np.broadcast_to(np.asarray(what), entry.shape)[at]]
        entry[at] = words[(entry[at] & UNIT).astype(np.int64) * UNIT_WORDS + asked]
    return entry


def _in_chunk(words: U32, word: npt.NDArray[np.int64], key: U64) -> U32:
    count = words[word].astype(np.int64)
    keys = words.view(np.uint64)
    below = np.zeros(len(word), np.int64)
    left = count.copy()
    while len(left) and left.max() > 0:  # binary search, as in the kernel
        half = (left + 1) >> 1
        inside = (left > 0) & (keys[np.where(left > 0, word // 2 + below + half, 0)] <= key)
        below += half * inside
        left -= half
    return np.asarray(words[word + 2 + 2 * count + below])


def lookup(
    words: U32, family: int, direction: Direction, hi: U64, lo: U64, jiffies: int = 0, what: U32 | int = 0
) -> tuple[U32, npt.NDArray[np.int64]]:
    """(verdict word, record index or -1) of each left-aligned address for the service `what`, at time `jiffies`."""
    leaf = leaves(words, family, direction, hi, lo, what)
    records = words[int(words[abi.HDR_RECORDS]) * UNIT_WORDS :].view(abi.RECORD)
    recorded = leaf & LEAF_RECORD != 0
    if not recorded.any():  # there may be no record at all
        return leaf, np.full(len(leaf), -1)
    while True:
        index = np.where(recorded, leaf & LEAF_INDEX, 0).astype(np.int64)
        ended = recorded & (records["expires"][index] != 0) & (records["expires"][index] <= jiffies)
        ended |= recorded & (records["shadow"][index] != 0)  # the leaf below decides
        if not ended.any():
            return np.where(recorded, records["verdict"][index], leaf), np.where(recorded, index, -1)
        leaf = np.where(ended, records["parent"][index], leaf)
        recorded = leaf & LEAF_RECORD != 0
