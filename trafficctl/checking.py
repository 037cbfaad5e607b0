"""Reads settings and rules as the daemon would, and collects all mistakes instead of raising."""

import re
import time
import tomllib
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from trafficmond import files, reach
from trafficmond.config.lines import key_lines, line_of
from trafficmond.config.load import are_rules, load_settings
from trafficmond.config.settings import CONFIG_FILE, Settings
from trafficmond.dataclass import asdict, dataclass, field
from trafficmond.datapath.listeners import listeners
from trafficmond.detect.registry import settings_classes
from trafficmond.errors import Advice, ConfigError, Diagnostic, Mistake, TrafficmonError
from trafficmond.figures import clock
from trafficmond.geo.reading import open_geoip, outdated
from trafficmond.model import Action
from trafficmond.policy.admission import Admissions
from trafficmond.policy.leaves import RuleColumns
from trafficmond.policy.load import Files, Policy, RuleCounts, make_policy, read_files
from trafficmond.policy.readers import read_list, read_toml
from trafficmond.policy.rules import ListSource, Rule
from trafficmond.policy.shadows import shadows
from trafficmond.policy.sources import read_policy
from trafficmond.policy.table import CROWDED, compile_table

_LISTS = (".netset", ".ipset", ".txt", ".cidr")
# Of the service, whose unit permits it to write to a few folders only.
_UNITS = tuple(Path(at) / "trafficmond.service" for at in ("/etc/systemd/system", "/usr/lib/systemd/system"))
_DROP_INS = (Path("/etc/systemd/system/trafficmond.service.d"), Path("/run/systemd/system/trafficmond.service.d"))
_OWN = (Path("/var/log/trafficmon"), Path("/var/lib/trafficmon"), Path("/run/trafficmon"), Path("/dev"))
_PLACE = re.compile(r"(?P<path>.+?)(:(?P<line>\d+))?(: (?P<key>[^/]+))?")
_SPARED = "gateways, resolvers and whoever is logged in (policy.guard)"
_NOBODY = "no rule lets a new connection in, from anywhere; " + reach.LET_IN.format("ssh")


@dataclass(frozen=True, slots=True)
class Checked:
    path: Path
    counts: RuleCounts = field(default_factory=RuleCounts)
    mistakes: Sequence[Mistake] = ()
    notes: Sequence[Advice] = ()

    def as_dict(self) -> dict[str, Any]:
        """The result as JSON; each mistake with its file, line and the text of that line, where known."""
        return {
            "path": str(self.path),
            "ok": not self.mistakes,
            **asdict(self.counts),
            "mistakes": _all_placed(self.mistakes),
            "notes": _all_placed(self.notes),
        }


def check(path: Path | None) -> Checked:
    """Checks a settings file with all that it names (None: the usual one), one rules file, one list, or a folder of
    rules. Raises TrafficmonError only if there is nothing to check."""
    path = path or CONFIG_FILE
    try:
        path.stat()
    except FileNotFoundError:
        raise TrafficmonError(f"there is no {path}", hint="name what to check: trafficctl check PATH") from None
    except OSError as error:
        raise TrafficmonError(f"cannot read {path}: {error.strerror}", hint="try with sudo") from None
    if path.is_file() and path.suffix in _LISTS:
        return _one(path, ListSource(path, Action.DROP, on_error="refuse"))
    if path.is_file() and _is_rules_file(path):
        return _one(path, None)
    try:
        settings = None if path.is_dir() else load_settings(path, detectors=settings_classes())
        geoip = open_geoip(settings.geo.databases if settings else ())
        policy = make_policy(read_files(path)) if settings is None else read_policy(settings, geoip)
    except ConfigError as error:
        return Checked(path, mistakes=error.mistakes)
    except PermissionError as error:  # a folder on the way to what the settings name
        raise TrafficmonError(f"cannot read {error.filename}: {error.strerror}", hint="try with sudo") from None
    notes = [*policy.notes, *_ended(policy.rules), *shadows(policy, time.time())]
    if settings is not None:
        notes += [*outdated(geoip, time.time()), *_unusable_pins(settings), *_unwritable_logs(settings)]
        notes += _shut(settings, policy)
    return Checked(path, policy.counts, notes=notes)


def _one(path: Path, source: ListSource | None) -> Checked:
    try:
        data = files.read(path)
    except OSError as error:
        return Checked(path, mistakes=[Mistake(str(path), f"cannot be read: {error.strerror}")])
    read = read_list(source, data, str(path)) if source else read_toml(data, str(path))
    lists = 1 if source else 0
    counts = RuleCounts(len(read.rules) - lists, lists, len(read.prefixes))
    try:
        hidden = shadows(make_policy(Files((read,), mistakes=tuple(read.mistakes))), time.time())
    except ConfigError as error:
        return Checked(path, counts, error.mistakes, read.notes)
    empty = [Advice(str(path), "holds no prefix")] if source and not len(read.prefixes) else []
    return Checked(path, counts, notes=[*read.notes, *empty, *_ended(read.rules), *hidden])


def _ended(rules: Sequence[Rule]) -> list[Advice]:
    now = time.time()
    ended = [rule for rule in rules if rule.expires is not None and rule.expires <= now]
    return [Advice(rule.source, f"this rule has expired ({clock(rule.expires)}) and does nothing") for rule in ended]


def _unusable_pins(settings: Settings) -> Iterator[Advice]:
    """A note if the settings name a pin_dir with which the daemon could not start on this host."""
    pins = settings.pin_dir
    if pins != Settings().pin_dir and not files.on_bpffs(pins):
        what = f"pin_dir: {pins} is not on a BPF file system, so the daemon does not start; use one below /sys/fs/bpf"
        yield Advice(_place_of(settings, "pin_dir"), what)


def _unwritable_logs(settings: Settings) -> Iterator[Advice]:
    """A note for each [[log]] that the service may not write; none if the service is not installed."""
    if settings.source != CONFIG_FILE or not any(unit.exists() for unit in _UNITS):
        return
    writable = [*_OWN, *_given()]
    for index, log in enumerate(settings.logs):
        if log.path is not None and not any(log.path.is_relative_to(folder) for folder in writable):
            what = (
                f"log[{index}].path: the service may not write to {log.path.parent}; use /var/log/trafficmon, or allow "
                f"it: systemctl edit trafficmond, and there [Service] and ReadWritePaths={log.path.parent}"
            )
            yield Advice(str(settings.source), what)


def _given() -> Iterator[Path]:
    for path in (path for folder in _DROP_INS for path in folder.glob("*.conf")):
        for line in _lines_of(str(path)):
            key, _, value = line.partition("=")
            if key.strip() == "ReadWritePaths":
                yield from (Path(word.lstrip("-+")) for word in value.split())


def _shut(settings: Settings, policy: Policy) -> Iterator[Advice]:
    """Yields a note for each service that would not be reachable, or only from some prefixes."""
    now = time.time()
    ids = np.zeros(len(policy.rules), np.uint32)
    table = compile_table(policy, ids, now, int)
    if table.crowded:
        yield Advice(str(settings.source), CROWDED)
    admitted = Admissions(policy, RuleColumns.of(policy.rules, ids), table, now)
    if not admitted.any_closed:
        return
    waiting = listeners()
    spared = _SPARED if settings.policy.guard else ""
    nobody = reach.nobody(admitted, waiting, spared=spared)
    if not nobody and not admitted.anybody and policy.default is Action.DROP:  # it may be for another host
        nobody = _NOBODY
    for what in [*([nobody] if nobody else []), *reach.only_from(admitted, waiting)]:
        yield Advice(_place_of(settings, "policy.default"), what)


def _place_of(settings: Settings, key: str) -> str:
    assert settings.source is not None
    lines = {} if settings.source.suffix == ".json" else key_lines(files.read(settings.source).decode("utf-8-sig"))
    line = line_of(key, lines)
    return f"{settings.source}:{line}" if line else str(settings.source)


def _is_rules_file(path: Path) -> bool:
    """Whether a file has rules rather than settings: by its content, or by its folder if it cannot be read."""
    if path.suffix != ".toml":
        return False
    try:
        return are_rules(tomllib.loads(files.read(path).decode("utf-8-sig")))
    except (OSError, ValueError, RecursionError):
        return path.parent.name == "cidr.d"


def _all_placed(remarks: Sequence[Diagnostic]) -> list[dict[str, Any]]:
    return sorted((_placed(each) for each in remarks), key=lambda each: (each["path"], each["line"] or 0))


def _placed(remark: Diagnostic) -> dict[str, Any]:
    found = _PLACE.fullmatch(remark.where)
    path = found["path"] if found else remark.where
    line = int(found["line"]) if found and found["line"] else None
    what = f"{found['key']}: {remark.what}" if found and found["key"] else remark.what
    lines = _lines_of(path) if line else []
    text = lines[line - 1] if line and line <= len(lines) else None
    return {"path": path, "line": line, "what": what, "text": text}


@cache
def _lines_of(path: str) -> list[str]:
    try:
        return files.read(Path(path)).decode("utf-8", errors="replace").splitlines()
    except OSError:
        return []
