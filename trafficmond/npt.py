"""`NDArray` as numpy.typing has it, without its import, which takes longer than that of most of our modules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike as ArrayLike

_Scalar = TypeVar("_Scalar", bound=np.generic)

NDArray = np.ndarray[Any, np.dtype[_Scalar]]
