"""The two policies by which flows are judged: the one in force, as the daemon sends it, and the proposed one."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from trafficmond import services
from trafficmond.config.load import holds_settings, load_settings
from trafficmond.config.settings import CONFIG_FILE
from trafficmond.control.client import Client
from trafficmond.dataclass import dataclass, replace
from trafficmond.detect.registry import settings_classes
from trafficmond.errors import Advice, ConfigError, Mistake
from trafficmond.files import read
from trafficmond.geo.geoip import GeoIp
from trafficmond.geo.reading import open_geoip
from trafficmond.model import Action, Direction, Reason
from trafficmond.policy import prefixes
from trafficmond.policy.collect import is_rules_file
from trafficmond.policy.explain import overlapping
from trafficmond.policy.geography import By
from trafficmond.policy.load import Files, Policy, make_policy, read_files
from trafficmond.policy.readers import read_json, read_toml
from trafficmond.policy.rules import Rule, Rules, read_tables
from trafficmond.policy.sources import lists_of, own_of

_BY_HAND = "runtime"
_NO_ACTION = "a list has no action of its own; name it in a [[list]] of a settings file, and ask about that file"


@dataclass(frozen=True, slots=True)
class RuleSnapshot:
    """Everything that decides: rules, weakest first, the default, and the bans."""

    parts: tuple[Rules, ...]  # each of one kind and file
    default: Action
    established: bool
    bans: tuple[Rules, ...]
    cidr_dir: Path
    notes: tuple[Advice, ...] = ()

    def policy(self) -> Policy:
        """The policy of all rules. Raises ConfigError."""
        return make_policy(Files(self.parts), default=self.default)

    def ban_policy(self) -> Policy:
        """A policy whose rules are the bans. Raises ConfigError."""
        return make_policy(Files(self.bans), default=Action.ALLOW)


def in_force(client: Client) -> RuleSnapshot:
    """The rules, default and bans in force in the daemon. Raises ControlError."""
    head: Mapping[str, Any] = {}
    rows: dict[int, tuple[Mapping[str, Any], list[str]]] = {}
    for head in client.stream("Policy"):
        for row in head["rules"]:
            rows.setdefault(row["index"], (row, []))[1].extend(row["prefixes"])
    parts = tuple(_joined(rows.values()))
    bans = tuple(_bans(row for page in client.stream("Bans") for row in page["bans"]))
    default = Action.parse(head["default"])  # rules in shadow are ignored, as in the kernel
    return RuleSnapshot(parts, default, bool(head["established"]), bans, Path(head["cidr_dir"]))


def with_path(now: RuleSnapshot, path: Path) -> RuleSnapshot:
    """The snapshot with the rules of `path`: a folder replaces `cidr_dir`; a rules file replaces the one of its
    name there, or is added; a settings file replaces all that it names. Raises ConfigError with all mistakes."""
    if path.is_dir():
        return _with_files(now, read_files(path, geography=_geoip()), lambda rule: _within(rule, now.cidr_dir))
    if not path.exists():
        raise ConfigError([Mistake(str(path), "does not exist")], hint="name a folder, a rules file or a settings file")
    if holds_settings(path):
        return _with_settings(now, path)
    if not is_rules_file(path.name):
        raise ConfigError([Mistake(str(path), _NO_ACTION)])
    place = now.cidr_dir / path.name
    try:
        data = read(path)
    except OSError as error:
        raise ConfigError([Mistake(str(path), f"cannot be read: {error.strerror}")]) from None
    rules = read_json(data, str(path)) if path.suffix == ".json" else read_toml(data, str(path), geography=_geoip())
    files = Files((rules,), (), rules.mistakes, rules.notes)
    return _with_files(now, files, lambda rule: Path(rule.path) == place, path.name)


def with_rule(now: RuleSnapshot, table: Mapping[str, Any]) -> RuleSnapshot:
    """The snapshot with one more rule made by hand. Raises ConfigError."""
    rules = read_tables([table], _BY_HAND)
    if rules.mistakes:
        raise ConfigError(list(rules.mistakes))
    strong = (Reason.ALLOWLIST, Reason.GUARD)
    at = next((at for at, part in enumerate(now.parts) if part.rules[0].reason in strong), len(now.parts))
    return replace(now, parts=(*now.parts[:at], rules, *now.parts[at:]))


def with_ban(now: RuleSnapshot, cidr: str, ports: Sequence[str] = ()) -> RuleSnapshot:
    return replace(now, bans=(*now.bans, *_bans([{"cidr": cidr, "ports": ports}])))


def spared(policy: Policy, cidr: str) -> list[str]:
    """The guarded addresses within a prefix, or around it: "192.0.2.1 (gateway)"."""
    rows = overlapping(policy, cidr).tolist()
    found = ((row, policy.rules[int(policy.owner[row])]) for row in rows)
    return [f"{policy.prefixes.text(row)} ({rule.name})" for row, rule in found if rule.reason is Reason.GUARD]


def _geoip() -> GeoIp:
    """The databases of places in the usual settings; none if the settings cannot be read."""
    try:
        return open_geoip(load_settings(CONFIG_FILE, detectors=settings_classes()).geo.databases)
    except (ConfigError, OSError):
        return open_geoip(())


def _with_files(now: RuleSnapshot, files: Files, replaced: Any, name: str = "") -> RuleSnapshot:
    """Replaces rules by those of files. Rules of the folder follow the lists, in the order of their files' names."""
    if files.mistakes:
        raise ConfigError(sorted(files.mistakes, key=Mistake.place))
    kept = [part for part in now.parts if not replaced(part.rules[0])]
    at = next((at for at, part in enumerate(kept) if not _before(part.rules[0], now.cidr_dir, name)), len(kept))
    return replace(now, parts=(*kept[:at], *_some(files.parts), *kept[at:]), notes=files.notes)


def _before(rule: Rule, cidr_dir: Path, name: str) -> bool:
    """Whether a rule is of a list, or of a file of the folder whose name comes before `name`."""
    if rule.reason is Reason.LIST:
        return True
    return _within(rule, cidr_dir) and Path(rule.path).name < name


def _within(rule: Rule, cidr_dir: Path) -> bool:
    return rule.reason is Reason.RULE and Path(rule.path).parent == cidr_dir


def _with_settings(now: RuleSnapshot, path: Path) -> RuleSnapshot:
    """Settings, lists and rules files of `path`; rules made by hand, guard and bans as they are now."""
    settings = load_settings(path, detectors=settings_classes())
    files = read_files(settings.cidr_dir, lists_of(settings), geography=open_geoip(settings.geo.databases))
    own = own_of(settings)
    made = make_policy(files, permitted_cidrs=own["permitted_cidrs"])
    hand = [part for part in now.parts if part.rules[0].reason is Reason.RULE and _by_hand(part.rules[0], now)]
    allow = make_policy(Files(), allowlist=own["allowlist"])
    guard = [part for part in now.parts if part.rules[0].reason is Reason.GUARD]
    parts = (*_some(made.parts), *hand, *_some(allow.parts), *guard)
    return RuleSnapshot(parts, own["default"], settings.policy.established, now.bans, settings.cidr_dir, made.notes)


def _by_hand(rule: Rule, now: RuleSnapshot) -> bool:
    """Whether a rule is by hand, saved or not: such rules are neither in the folder nor in the settings."""
    return rule.path == _BY_HAND or (Path(rule.path).is_absolute() and not _within(rule, now.cidr_dir))


def _some(parts: Iterable[Rules]) -> list[Rules]:
    return [part for part in parts if part.rules]


def _joined(pairs: Iterable[tuple[Mapping[str, Any], Sequence[str]]]) -> list[Rules]:
    """One part for each run of rules of one kind and file."""
    parts = []
    for _, group in groupby(pairs, lambda pair: (pair[0]["kind"], pair[0]["path"])):
        rows, cidrs = zip(*group, strict=True)
        counts = np.array([len(each) for each in cidrs], np.int64)
        found = prefixes.parse([cidr for each in cidrs for cidr in each]).prefixes
        parts.append(Rules(tuple(map(_rule, rows)), found, counts))
    return parts


def _rule(row: Mapping[str, Any]) -> Rule:
    return Rule(
        Action.parse(row["action"]),
        Reason.parse(row["kind"]),
        row["name"],
        Direction.parse(row["direction"]),
        row.get("expires"),
        row.get("rate_per_s") or 0,
        row.get("burst_packets") or 0,
        row["path"],
        row["line"],
        row.get("label") or "",
        shadow=bool(row.get("shadow")),
        services=services.parse(row.get("ports") or ()),
        by=By.parse(row.get("by") or "cidr"),
    )


def _bans(rows: Iterable[Mapping[str, Any]]) -> list[Rules]:
    """One rule for each set of banned services."""
    cidrs: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        cidrs.setdefault(tuple(row.get("ports") or ()), []).append(row["cidr"])
    return [
        Rules.one(Rule(Action.DROP, Reason.RULE, "ban", services=services.parse(ports)), found, "bans")
        for ports, found in cidrs.items()
    ]
