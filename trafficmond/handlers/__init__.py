"""The control methods, in one file for each subject.

A method is a function of a `Handler` class in any of these files. It is marked with its name in io.trafficmon.varlink,
which describes its signature, and is registered by that mark alone.
"""

import pkgutil
from collections.abc import Iterator
from importlib import import_module

from trafficmond.handlers.handler import Handler
from trafficmond.parts import Parts
from trafficmond.reloader import Reloader


def classes() -> Iterator[type[Handler]]:
    for found in pkgutil.iter_modules(__path__):
        module = import_module(f"{__name__}.{found.name}")
        for each in vars(module).values():
            if isinstance(each, type) and issubclass(each, Handler) and each.__module__ == module.__name__:
                yield each


def make_handlers(parts: Parts, reloader: Reloader) -> list[Handler]:
    return [each(parts, reloader) for each in _CLASSES]


_CLASSES = tuple(classes())  # imported with this module, while the kernel verifies the programs
