"""What numpy brings along and nothing here uses: it takes 16 ms of each start, and 4 MiB."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

_DOCS = tuple(f"numpy.{core}._add_newdocs{part}" for core in ("core", "_core") for part in ("", "_scalars"))
_PARTS = (*_DOCS, "numpy.fft", "numpy.ma", "numpy.polynomial", "numpy.random", "pickle")


class _Later(ModuleType):
    """A module that is imported at the first use of an attribute, for example by pandas."""

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)


@contextmanager
def numpy_alone() -> Iterator[None]:
    """If numpy is first imported in the block, these parts are not, and no other type can replace its functions."""
    os.environ["NUMPY_EXPERIMENTAL_ARRAY_FUNCTION"] = "0"
    parts = {name: _Later(name) for name in _PARTS if not {"numpy", name} & sys.modules.keys()}
    sys.modules.update(parts)
    try:
        yield
    finally:
        del os.environ["NUMPY_EXPERIMENTAL_ARRAY_FUNCTION"]
        for name, part in parts.items():
            if sys.modules.get(name) is part:
                del sys.modules[name]
