"""The detectors in the order of evaluation: each comes after those that suppress it.

A detector is a class in its own file in `detect/detectors`; no list names it.
"""

import pkgutil
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

from trafficmond.detect import detectors
from trafficmond.detect.base import Detector


def _classes() -> Iterator[type[Detector]]:
    for found in pkgutil.iter_modules(detectors.__path__):
        module = import_module(f"{detectors.__name__}.{found.name}")
        for each in vars(module).values():
            if isinstance(each, type) and issubclass(each, Detector) and each.__module__ == module.__name__:
                yield each


def _ordered(found: Mapping[str, type[Detector]]) -> Iterator[tuple[str, type[Detector]]]:
    """Each after those that suppress it, otherwise by name."""
    waiting = dict(sorted(found.items()))
    while waiting:
        ready = [name for name, each in waiting.items() if not waiting.keys() & set(each.suppressed_by)]
        yield from ((name, waiting.pop(name)) for name in ready or list(waiting))


DETECTORS: Mapping[str, type[Detector]] = dict(_ordered({each.name: each for each in _classes()}))


def settings_classes() -> dict[str, type[Any]]:
    """Each detector's declared Settings by its name, as `config.load_settings` takes them."""
    return {name: detector.settings_class for name, detector in DETECTORS.items()}


def make_detectors(settings: Mapping[str, Any] | None = None) -> list[Detector]:
    """The enabled detectors with their settings; those not in `settings` get their defaults."""
    chosen = settings or {}
    own = ((detector, chosen.get(name) or detector.settings_class()) for name, detector in DETECTORS.items())
    return [detector(settings) for detector, settings in own if settings.enabled]
