"""A probation, stored in the state folder for the next daemon, and which files are refused.

The kernel ends a probation without this file: only messages and reloads depend on it.
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from trafficmond import files
from trafficmond.config.filtering import Policy, PrefixList
from trafficmond.config.settings import CONFIG_FILE, Settings
from trafficmond.dataclass import dataclass, replace
from trafficmond.policy.collect import is_rules_file
from trafficmond.policy.lastgood import LAST_GOOD_NAME, LastGood, checked, read_checked
from trafficmond.policy.tables import Table

DEFAULT_COPY = re.compile(r".+\.apply-default-([a-z]+)\.toml")
"""The path of the copy of the settings that trafficctl apply --default makes."""
MOST_S = 3600.0  # a removed rule keeps its number for that long


@dataclass(frozen=True, slots=True)
class Trial:
    user: str
    what: str  # in words: "apply /etc/trafficmon/cidr.new"
    begun_at: float  # epoch seconds
    until: float
    tried: str = ""  # fingerprint of the files on probation; "": none
    folder: str = ""  # on probation: a folder in place of cidr_dir; or a rules or a settings file
    runtime: Sequence[Table] = ()
    saved: Sequence[Table] | None = None  # new rules of the daemon's own file; None: unchanged
    place: str = ""  # where `folder` is moved to before it is confirmed
    ends: int = 0  # `until` by the kernel's clock, which nobody sets; 0: an older version stored it


@dataclass(frozen=True, slots=True)
class Kept:
    trial: Trial | None = None
    refused: str = ""  # fingerprint of files that were on probation and were not confirmed


def read(path: Path) -> Kept:
    """Reads the file; empty if there is none. Raises OSError, ValueError."""
    return read_checked(
        path, lambda found: Kept(found["trial"] and Trial(**found["trial"]), str(found["refused"])), Kept()
    )


def keep(path: Path, kept: Kept) -> None:
    """Writes the file, which is on the disk when this returns. Raises OSError."""
    if kept == Kept():
        path.unlink(missing_ok=True)
    else:
        body = json.dumps(dataclasses.asdict(kept), default=_plain).encode()
        files.replace(path, checked(body), durable=True)


def _plain(value: object) -> float | str:
    """A value that JSON does not have: the end of a rule as rules read it, else its text."""
    return value.timestamp() if isinstance(value, datetime) else str(value)


def last_in_force(settings: Settings) -> Settings:
    """`settings` with the rules that were in force last, confirmed ones. Raises ValueError if they are not known."""
    return with_rule_settings(settings, LastGood(settings.state_dir / LAST_GOOD_NAME).whole())


def rule_settings(settings: Settings) -> dict[str, Any]:
    """The rules in the settings, as JSON values."""
    values = {
        "policy": dataclasses.asdict(settings.policy),
        # Only the file of a fetched list is stored, not its URL, which may have a secret.
        "lists": [
            dataclasses.asdict(replace(each, path=each.file(settings.feeds_dir), url="")) for each in settings.lists
        ],
        "permitted_cidrs": settings.permitted_cidrs,
        "cidr_dir": settings.cidr_dir,
    }
    found: dict[str, Any] = json.loads(json.dumps(values, default=str))
    return found


def with_rule_settings(settings: Settings, values: Mapping[str, Any]) -> Settings:
    """`settings` with the rules `values`. Raises ValueError if another version wrote them."""
    try:
        lists = [PrefixList(**_frozen(each) | {"path": Path(each["path"])}) for each in values["lists"]]
        return replace(
            settings,
            policy=Policy(**_frozen(values["policy"])),
            lists=tuple(lists),
            permitted_cidrs=tuple(values["permitted_cidrs"]),
            cidr_dir=Path(values["cidr_dir"]),
        )
    except (TypeError, KeyError) as error:
        raise ValueError(f"another version wrote it: {error}") from None


def in_folder(settings: Settings, folder: Path) -> Settings:
    """`settings` with `folder` in the place of `cidr_dir`; lists in that folder are taken from `folder`."""
    lists = (
        replace(each, path=folder / each.path.relative_to(settings.cidr_dir))
        if each.path and each.path.is_relative_to(settings.cidr_dir)
        else each
        for each in settings.lists
    )
    return replace(settings, cidr_dir=folder, lists=tuple(lists))


def place_of(tried: str, settings: Settings, confirmed: Settings) -> Path:
    """The place of what is on probation once it is confirmed: a folder, a rules file, or the file of `settings`."""
    path = Path(tried)
    if settings.source == path:
        return confirmed.source or CONFIG_FILE
    return confirmed.cidr_dir if files.is_folder(path) else confirmed.cidr_dir / path.name


def fingerprint(settings: Settings, instead: Path | None = None) -> str:
    """A fingerprint of all rules in files, equal for equal content anywhere; `instead` replaces one of its name."""
    values = rule_settings(in_folder(settings, Path("cidr.d")))
    found = hashlib.blake2b(json.dumps(values).encode(), digest_size=16)
    for name, path in _sources(settings, instead):
        found.update(json.dumps(name).encode())
        try:
            data = files.read(path)
        except OSError:
            data = b""
        found.update(len(data).to_bytes(8, "little") + data)
    return found.hexdigest()


def _sources(settings: Settings, instead: Path | None) -> Iterator[tuple[str, Path]]:
    folder = settings.cidr_dir
    try:
        found = {path.name: path for path in folder.iterdir() if is_rules_file(path.name)}
    except OSError:
        found = {}
    yield from sorted((found | ({instead.name: instead} if instead else {})).items())
    for path in (each.path for each in settings.lists if each.path):  # a server's update is not a person's change
        yield str(path.relative_to(folder) if path.is_relative_to(folder) else path), path


def _frozen(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
