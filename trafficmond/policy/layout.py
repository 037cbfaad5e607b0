"""The verdict table's layout, as numbers; `bpf/abi.h` defines it and a test compares."""

from __future__ import annotations

import numpy as np

PAGE_WORDS = 1024
UNIT_WORDS = 8
PAGE_UNITS = PAGE_WORDS // UNIT_WORDS
MAGIC = 0x31544D54

HDR_MAGIC = 0
HDR_GENERATION = 1
HDR_ROOT = 2
HDR_RECORDS = 6
HDR_RECORD_COUNT = 7

POINTER = np.uint32(0x80000000)
CHUNK = np.uint32(0x40000000)
CROSS = np.uint32(0x20000000)
UNIT = np.uint32(0x1FFFFFFF)
LEAF_RECORD = np.uint32(0x40000000)
LEAF_INDEX = np.uint32(0xFFFFFF)

ROOT_BITS = 16
BLOCK_BITS = 8
CHUNK_MAX = 32

RECORD = np.dtype(
    [
        ("expires", "u8"),
        ("verdict", "u4"),
        ("parent", "u4"),
        ("rate_per_s", "u4"),
        ("burst_packets", "u4"),
        ("pad", "u4", (2,)),
    ]
)
