"""What each part takes from the settings, at the start and when they change while the daemon runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from trafficmond.config import declare
from trafficmond.config.settings import Settings
from trafficmond.datapath.datapath import Options
from trafficmond.store.writer import Limits

DATABASE_NAME = "flows.db"


def database(settings: Settings) -> Path:
    """Where flows.db is."""
    return settings.state_dir / DATABASE_NAME


def limits(settings: Settings) -> Limits:
    """How old and how large flows.db may grow."""
    return Limits(settings.store.max_age, settings.store.max_size)


def options(settings: Settings) -> Options:
    """What concerns the data path."""
    return Options(
        loader=settings.loader,
        xdp_mode=settings.xdp_mode,
        egress=settings.egress,
        pin_dir=settings.pin_dir,
        capacity=settings.flows.capacity,
        established=settings.policy.established and settings.policy.default == "drop",
        drop_malformed=settings.policy.drop_malformed,
        look_inside=settings.flows.look_inside,
        drop_unparsed=settings.policy.unparsed == "drop" and settings.policy.default == "drop",
    )


def options_while_running(old: Settings, new: Settings) -> Options:
    """`options`, but for what a running data path cannot change."""
    now = options(new)
    return replace(
        options(old),
        established=now.established,
        drop_malformed=now.drop_malformed,
        drop_unparsed=now.drop_unparsed,
    )


def at_restart(old: Settings, new: Settings) -> list[str]:
    """Names of settings that changed and that only a restart puts in force."""
    return [*declare.at_restart(old, new), *(["detect"] if new.detect != old.detect else [])]


def differences(old: Any, new: Any, where: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(setting, value before, value now) of what changed between two Settings, or parts of them."""
    if is_dataclass(old) and type(old) is type(new):
        for each in fields(old):
            name = f"{where}.{each.name}" if where else each.name
            yield from differences(getattr(old, each.name), getattr(new, each.name), name)
    elif isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in sorted({*old, *new}):
            yield from differences(old.get(name), new.get(name), f"{where}.{name}")
    elif old != new:
        yield where, old, new
