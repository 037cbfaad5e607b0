"""What is on probation, kept in the state folder: so the next daemon knows what it was, and which files are refused.

The kernel ends a probation, whatever has become of this file: nothing but what is told and what is read again depends
on it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trafficmond import files
from trafficmond.config.filtering import Policy, PrefixList
from trafficmond.config.settings import CONFIG_FILE, Settings
from trafficmond.policy.collect import is_rules_file
from trafficmond.policy.lastgood import LAST_GOOD_NAME, digest
from trafficmond.policy.tables import Table

MOST_S = 3600.0  # a rule that is gone keeps its number for as long


@dataclass(frozen=True, slots=True)
class Trial:
    """A change on probation."""

    user: str
    what: str  # in words: "apply /etc/trafficmon/cidr.new"
    begun_at: float  # epoch seconds
    until: float
    tried: str = ""  # the fingerprint of the files that are on probation; "": none are
    folder: str = ""  # what is on probation: rules in the place of cidr_dir's; or a rules or a settings file
    runtime: Sequence[Table] = ()
    saved: Sequence[Table] | None = None  # what the daemon's own file is to hold; None: what it holds
    place: str = ""  # where `folder` is to be put before it is confirmed


@dataclass(frozen=True, slots=True)
class Kept:
    """What the file says."""

    trial: Trial | None = None
    refused: str = ""  # the fingerprint of files that were on probation and have not been confirmed
    confirmed: Mapping[str, Any] | None = None  # what the settings that are confirmed say of rules
    copies: str = ""  # what tells the copies of the files that are confirmed from others (LastGood.settled)


def read(path: Path) -> Kept:
    """What was kept; nothing where there is no file. Raises OSError, ValueError."""
    try:
        told, _, said = path.read_bytes().partition(b"\n")
        if told != _sum(said):
            raise ValueError("it is not as trafficmond wrote it")
        found = json.loads(said)
        trial = found["trial"] and Trial(**found["trial"])
        return Kept(trial or None, str(found["refused"]), found["confirmed"], str(found["copies"]))
    except FileNotFoundError:
        return Kept()
    except (TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"another version has written it: {error}") from None


def keep(path: Path, kept: Kept) -> None:
    """Keeps it, on the disk when this returns. Raises OSError."""
    if kept == Kept():
        path.unlink(missing_ok=True)
    else:
        said = json.dumps(dataclasses.asdict(kept), default=str).encode()
        files.replace(path, _sum(said) + b"\n" + said, durable=True)


def confirmed(settings: Settings, kept: Kept) -> Settings | None:
    """`settings` with what is confirmed of rules, where the files that they name are refused as they are; else None.
    Raises ValueError if another version has kept it, or not all of it is there, OSError."""
    if not kept.refused or fingerprint(settings) != kept.refused:
        return None
    if kept.confirmed is None or digest(settings.state_dir / LAST_GOOD_NAME) != kept.copies:
        raise ValueError(f"what was confirmed of them is not whole in {settings.state_dir / LAST_GOOD_NAME}")
    return with_rule_settings(settings, kept.confirmed)


def rule_settings(settings: Settings) -> dict[str, Any]:
    """What settings say of rules, as JSON has it."""
    said = {
        "policy": dataclasses.asdict(settings.policy),
        # Of one that is fetched the file counts: its URL, which may hold a secret, is not kept here.
        "lists": [
            dataclasses.asdict(replace(each, path=each.file(settings.feeds_dir), url="")) for each in settings.lists
        ],
        "permitted_cidrs": settings.permitted_cidrs,
        "cidr_dir": settings.cidr_dir,
    }
    found: dict[str, Any] = json.loads(json.dumps(said, default=str))
    return found


def with_rule_settings(settings: Settings, said: Mapping[str, Any]) -> Settings:
    """`settings`, saying of rules what is `said`. Raises ValueError if another version has said it."""
    try:
        lists = [PrefixList(**_frozen(each) | {"path": Path(each["path"])}) for each in said["lists"]]
        return replace(
            settings,
            policy=Policy(**_frozen(said["policy"])),
            lists=tuple(lists),
            permitted_cidrs=tuple(said["permitted_cidrs"]),
            cidr_dir=Path(said["cidr_dir"]),
        )
    except (TypeError, KeyError) as error:
        raise ValueError(f"another version has written it: {error}") from None


def in_folder(settings: Settings, folder: Path) -> Settings:
    """`settings` with `folder` in the place of `cidr_dir`; lists that lie in that are those in `folder`."""
    lists = (
        replace(each, path=folder / each.path.relative_to(settings.cidr_dir))
        if each.path and each.path.is_relative_to(settings.cidr_dir)
        else each
        for each in settings.lists
    )
    return replace(settings, cidr_dir=folder, lists=tuple(lists))


def place_of(tried: str, settings: Settings, confirmed: Settings) -> Path:
    """Where what is on probation comes when it is confirmed: a folder, a rules file, or the file of `settings`."""
    path = Path(tried)
    if settings.source == path:
        return confirmed.source or CONFIG_FILE
    return confirmed.cidr_dir if path.is_dir() else confirmed.cidr_dir / path.name


def fingerprint(settings: Settings, instead: Path | None = None) -> str:
    """Of all that files say of rules, with a rules file `instead` of the one of its name. The same content has the
    same, in whatever folder `cidr_dir` is."""
    said = rule_settings(in_folder(settings, Path("cidr.d")))
    found = hashlib.blake2b(json.dumps(said).encode(), digest_size=16)
    for name, path in _sources(settings, instead):
        found.update(json.dumps(name).encode())
        try:
            data = path.read_bytes() if path.is_file() else b""
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
    for path in (each.path for each in settings.lists if each.path):  # a server's news are nobody's change of rules
        yield str(path.relative_to(folder) if path.is_relative_to(folder) else path), path


def _sum(said: bytes) -> bytes:
    """Rules of a file that somebody or something has changed are not to be guessed from."""
    return hashlib.blake2b(said, digest_size=16).hexdigest().encode()


def _frozen(said: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in said.items()}
