"""Reading ahead: a thread prepares the next items while the caller works."""

from collections import deque
from collections.abc import Iterator
from typing import Any, TypeVar

T = TypeVar("T")

_AHEAD = 3  # items that are prepared or being prepared
_END: Any = object()


def ahead(items: Iterator[T]) -> Iterator[T]:
    """Yields `items`, which a thread prepares a few ahead. So C code reads while Python works on earlier items."""
    from concurrent.futures import ThreadPoolExecutor  # only when a file is read

    pool = ThreadPoolExecutor(1, "reader")
    ready = deque(pool.submit(next, items, _END) for _ in range(_AHEAD))
    try:
        while (item := ready.popleft().result()) is not _END:
            ready.append(pool.submit(next, items, _END))
            yield item
    finally:
        pool.shutdown(cancel_futures=True)
