"""Types of arrays: `NDArray` is that of numpy.typing, whose import takes longer than that of most of our modules."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np

_Scalar = TypeVar("_Scalar", bound=np.generic)

NDArray = np.ndarray[Any, np.dtype[_Scalar]]
Bool = NDArray[np.bool_]
U8 = NDArray[np.uint8]
U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
