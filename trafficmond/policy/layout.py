"""The verdict table's constants (bpf/abi.h) in the types of its words, and what its layout implies."""

import numpy as np

from trafficmond import abi

POINTER = np.uint32(abi.ENTRY_POINTER)
CHUNK = np.uint32(abi.ENTRY_CHUNK)
BYTES = np.uint32(abi.ENTRY_BYTES)
CROSS = np.uint32(abi.ENTRY_CROSS)
ROW = np.uint32(abi.ENTRY_POINTER | abi.ENTRY_SERVICE)
UNIT = np.uint32(abi.ENTRY_UNIT)
LEAF_RECORD = np.uint32(abi.LEAF_RECORD)
LEAF_INDEX = np.uint32(abi.LEAF_INDEX)

UNIT_WORDS = abi.PAGE_WORDS // abi.PAGE_UNITS
BLOCK_BITS = 8
BLOCK_UNITS = (1 << BLOCK_BITS) // UNIT_WORDS
BYTES_UNITS = BLOCK_UNITS // 4  # of a block of bytes
HEADER_UNITS = (abi.HDR_PALETTE + abi.PALETTE_MAX) // UNIT_WORDS
STEPS_MAX = {4: 3, 6: 16}  # blocks and chunks that the kernel passes: TM_STEPS_SMALL and TM_STEPS of bpf/table.h
PARENTS_MAX = 16  # records that the kernel visits for a packet: TM_PARENTS_MAX of bpf/table.h
