"""Parts of numpy 1 that nothing here uses, but that come with it: they take 10 ms of each start, and 3 MiB."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

_PARTS = ("numpy.fft", "numpy.ma", "numpy.polynomial", "numpy.random")


class _Later(ModuleType):
    """Is imported when something is taken from it: other modules, such as pandas, may do so."""

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)


@contextmanager
def numpy_alone() -> Iterator[None]:
    """If numpy is first imported in the block, these parts are not."""
    parts = {name: _Later(name) for name in _PARTS if "numpy" not in sys.modules}
    sys.modules.update(parts)
    yield
    for name, part in parts.items():
        if sys.modules.get(name) is part:
            del sys.modules[name]
