"""Reading ahead: a thread prepares the next items while the caller works."""

import contextlib
import queue
import threading
from collections.abc import Iterator
from typing import Any, TypeVar

T = TypeVar("T")

_AHEAD = 2
_LOOK_S = 0.2  # how often the thread checks whether the caller has stopped


def ahead(items: Iterator[T]) -> Iterator[T]:
    """Yields `items`, which a thread prepares a few ahead. So C code reads while Python works on earlier items."""
    ready: queue.Queue[tuple[bool, Any]] = queue.Queue(_AHEAD)
    over = threading.Event()

    def give(good: bool, item: Any) -> bool:
        while not over.is_set():
            with contextlib.suppress(queue.Full):
                ready.put((good, item), timeout=_LOOK_S)
                return True
        return False

    def make() -> None:
        try:
            for item in items:
                if not give(True, item):
                    return
            give(False, None)
        except BaseException as error:  # noqa: BLE001 -- raised again where it is waited for
            give(False, error)

    maker = threading.Thread(target=make, name="reader", daemon=True)
    maker.start()
    try:
        while True:
            good, item = ready.get()
            if good:
                yield item
            elif item is not None:
                raise item
            else:
                return
    finally:
        over.set()
        maker.join()
