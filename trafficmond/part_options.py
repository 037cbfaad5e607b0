"""The options of each part, from the settings at the start and when they change while the daemon runs.

Loading waits for this module, so it imports parts only where they are used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trafficmond.config import declare
from trafficmond.config.settings import Settings
from trafficmond.dataclass import fields, is_dataclass, replace
from trafficmond.datapath.loading import Options
from trafficmond.urls import HiddenUrl

if TYPE_CHECKING:
    from trafficmond.store.writer import Limits

DATABASE_NAME = "flows.db"


def database(settings: Settings) -> Path:
    return settings.state_dir / DATABASE_NAME


def limits(settings: Settings) -> Limits:
    from trafficmond.store.writer import Limits

    return Limits(settings.store.max_age, settings.store.max_size)


def shared_interfaces(settings: Settings) -> tuple[str, ...]:
    """Patterns of the interfaces that are to be shared with other XDP programs."""
    return tuple(each.name for each in settings.per_interface if each.xdp_share == "libxdp")


def options(settings: Settings) -> Options:
    in_shadow = settings.policy.default_shadow
    return Options(
        loader=settings.loader,
        xdp_mode=settings.xdp_mode,
        egress=settings.egress,
        pin_dir=settings.pin_dir,
        capacity=settings.flows.capacity,
        established=settings.policy.established and settings.policy.default == "drop",
        drop_malformed=settings.policy.drop_malformed,
        look_inside=settings.flows.look_inside,
        drop_unparsed=settings.policy.unparsed == "drop" and settings.policy.default == "drop" and not in_shadow,
        owners=settings.flows.units,
        dns_names=settings.flows.dns_names,
        processes=settings.flows.processes,
        shared=shared_interfaces(settings),
    )


def switched(now: Options, settings: Settings) -> Options:
    """The present options of a data path, with the switches of `settings`: the rest takes effect at the next start."""
    new = options(settings)
    return replace(now, established=new.established, drop_malformed=new.drop_malformed, drop_unparsed=new.drop_unparsed)


def at_restart(old: Settings, new: Settings) -> list[str]:
    return [*declare.at_restart(old, new), *(["detect"] if new.detect != old.detect else [])]


def differences(old: Any, new: Any, where: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(setting, value before, value now) of the changes between two Settings, or parts of them."""
    if is_dataclass(old) and type(old) is type(new):
        for each in fields(old):
            name = f"{where}.{each.name}" if where else each.name
            yield from differences(getattr(old, each.name), getattr(new, each.name), name)
    elif isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in sorted({*old, *new}):
            yield from differences(old.get(name), new.get(name), f"{where}.{name}")
    elif old != new:
        yield where, old, new


def in_words(value: Any) -> str:
    """A value of the settings as a person would write it: of a table only values that are not defaults, of a URL, which
    may hold a token, only its host."""
    if isinstance(value, HiddenUrl):
        return repr(value)
    if isinstance(value, tuple):
        return f"[{', '.join(map(in_words, value))}]"
    if not is_dataclass(value):
        return str(value)
    given = [
        f"{key} = {_setting_in_words(spec, getattr(value, name))}"
        for key, (name, spec) in declare.declared(type(value)).items()
        if not isinstance(spec, declare.Spec) or getattr(value, name) != spec.default
    ]
    return f"{{{', '.join(given)}}}"


def _setting_in_words(spec: declare.Spec | declare.TableSpec, value: Any) -> str:
    if isinstance(spec, declare.TableSpec) or isinstance(value, HiddenUrl):
        return in_words(value)
    return spec.kind.show(value)
