"""The reply of `Status`, and the metrics made of it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from trafficmond import __version__, figures
from trafficmond.config.flags import Flags
from trafficmond.config.load import SettingsFile
from trafficmond.config.settings import Settings
from trafficmond.control.call import Row
from trafficmond.dataclass import asdict
from trafficmond.datapath.attachments import AWAY
from trafficmond.model import Direction, Severity
from trafficmond.parts import Parts
from trafficmond.pipeline import EVENTS_PER_S
from trafficmond.policy.load import RuleCounts
from trafficmond.shadow import shadows, sums_of

if TYPE_CHECKING:
    from trafficmond.metrics.families import Traffic


def status(parts: Parts) -> Row:
    unwatched = parts.host.unwatched()
    accounting = parts.datapath.accounting()
    store = parts.store.status()
    ledger, sizes = parts.datapath.ledger, parts.datapath.sizes
    slots = sizes.cpus * sizes.capacity
    used = ledger.used()
    open_threats = parts.pipeline.engine.threats()
    severities = {str(s): sum(t.severity == s for t in open_threats) for s in Severity}
    return {
        "version": __version__,
        "pid": os.getpid(),
        "started_at": parts.started_at,
        "config": _config(parts),
        "loader": parts.datapath.loaded.loader,
        "loader_reason": "; ".join(parts.datapath.loaded.notes) or None,
        "interfaces": interface_rows(parts),
        "accounting": {**asdict(accounting), "pending": asdict(accounting.pending)},
        "rules": _rule_count(parts),
        "shadows": shadows(parts) or None,
        "store": {name: getattr(store, name) for name in ("path", "rows", "queue", "lost_rows", "size_bytes", "state")},
        "logs": parts.sinks.status(),
        "exports": parts.exports.status(),
        "ledger": {
            "memory_bytes": sizes.memory_bytes(),
            "slots": slots,
            "used": used,
            "evicted": ledger.evicted_records(),
            "pressure": used / slots,
        },
        "threats": {"open": len(open_threats), **severities, "response": parts.settings.response.ban},
        "flows": len(parts.pipeline.table),
        "detectors": [{"name": name, **tables} for name, tables in parts.pipeline.engine.status()["detectors"].items()],
        "counters": _counters(parts),
        "memory_bytes": _private_bytes(),
        "unwatched": unwatched,
        "only_from": parts.exposure.only_from,
        "probation": probation(parts),
        "not_known": parts.rulebook.standing.error or None,
        "warnings": _warnings(parts, unwatched),
        "control": {**parts.clients.load(), "lost_records": parts.broadcast.lost_records},
    }


def _config(parts: Parts) -> Row:
    in_force, error = parts.rulebook.in_force, parts.rulebook.error
    return {
        "path": str(parts.settings.source) if parts.settings.source else None,
        "generation": in_force.generation if in_force else 0,
        "loaded_at": in_force.loaded_at if in_force else parts.started_at,
        "error": str(error) if error else None,
        "mistakes": [mistake._asdict() for mistake in error.mistakes] if error else None,
        "not_kept": _not_kept(parts.settings) if error else None,
    }


def _not_kept(settings: Settings) -> str | None:
    """Why the next start would not find the rules in force; None if it would."""
    path, folder = settings.source, settings.state_dir
    if path is None or SettingsFile(path, Flags()).state_dir() == folder:
        return None
    return f"the next start will not find it: {path} no longer sets state_dir to {folder}"


def _counters(parts: Parts) -> dict[str, int]:
    """The counters that `metrics.families` names."""
    pipeline, found, clients = parts.pipeline, parts.pipeline.engine.status(), parts.clients.load()
    return {
        "evicted_flows": pipeline.table.evicted,
        "unnamed_rows": pipeline.units.unnamed,
        "forgotten_cgroups": pipeline.units.cgroups.forgotten if pipeline.units.cgroups else 0,
        "rows_without_inner": pipeline.forgotten_inners,
        **parts.dns.counters(),
        **pipeline.units.processes.counters(),
        **{f"{name}_threats": found[name] for name in ("merged", "redundant", "overflowed")},
        "early_dials": found["dials_judged_early"],
        **parts.responder.counters(),
        "refused_questions": parts.questions.refused,
        "refused_scrapes": parts.metrics.refused,
        "evicted_scrapes": parts.metrics.evicted,
        **{f"{name}_clients": clients[name] for name in ("refused", "evicted", "bad", "slow")},
        "lost_watch_records": parts.broadcast.lost_records,
    }


def _rule_count(parts: Parts) -> Row:
    in_force = parts.rulebook.in_force
    counts = in_force.policy.counts if in_force else RuleCounts()
    return {
        "count": counts.rules,
        "prefixes": counts.prefixes,
        "lists": counts.lists,
        "bans": len(parts.bans),
        "default": in_force.policy.default_text if in_force else parts.settings.policy.default,
    }


def probation(parts: Parts) -> Row | None:
    """The change on probation and the time left; None if there is none."""
    trial = parts.rulebook.standing.trial
    if trial is None:
        return None
    return {
        "what": trial.what,
        "user": trial.user,
        "begun_at": trial.begun_at,
        "until": trial.until,
        "left_s": max(0.0, trial.until - time.time()),
        "folder": trial.folder or None,
        "cidr_dir": str(parts.settings.cidr_dir),
        "place": trial.place or None,
    }


def _warnings(parts: Parts, unwatched: list[str]) -> list[str]:
    """All warnings: unknown confirmed rules first, then interfaces that are not watched, then others."""
    store = parts.store.status()
    found = [*filter(None, [parts.rulebook.standing.error]), *unwatched]
    found += [] if store.state == "ok" else [f"history is not stored: {store.state}"]
    found += [*filter(None, [parts.rulebook.unkept]), *parts.warnings.values(), *filter(None, [parts.watcher.note])]
    for done in parts.datapath.attached.values():
        found += done.notes
    if parts.pipeline.suppressed_events:
        suppressed = figures.many(parts.pipeline.suppressed_events, "log event")
        found.append(f"{suppressed} suppressed: there were more than {EVENTS_PER_S:,} in a second")
    if parts.pipeline.forgotten_inners:
        found.append(
            f"{figures.many(parts.pipeline.forgotten_inners, 'row')} of flows.db without what their tunnel carried: "
            "more conversations were in tunnels at once than the daemon remembers"
        )
    if (cgroups := parts.pipeline.units.cgroups) and cgroups.unwatched:
        found.append(
            f"{figures.many(cgroups.unwatched, 'cgroup')} not watched: new units have their names up to a minute late; "
            "raise fs.inotify.max_user_watches and max_user_instances"
        )
    if parts.bans.waiting:
        found.append(
            f"{figures.many(parts.bans.waiting, 'banned prefix')} not in force: all bans name more different sets of "
            "services than the kernel has room for"
        )
    found += filter(None, [parts.history.trouble, parts.rulebook.trouble])
    if parts.rulebook.in_force:
        found += parts.rulebook.in_force.policy.warnings
    return found


def metrics_text(parts: Parts) -> str:
    from trafficmond.metrics.families import Counters, families
    from trafficmond.metrics.text import openmetrics

    counters = Counters(
        traffic=_traffic(parts),
        by_verdict=parts.pipeline.by_verdict,
        would_drop=sums_of(parts).dropped(),
        suppressed_events=parts.pipeline.suppressed_events,
        stored_rows=parts.store.status().written_rows,
        cpu_seconds=time.process_time(),
    )
    return openmetrics(families(status(parts), counters))


def _traffic(parts: Parts) -> list[Traffic]:
    from trafficmond.metrics.families import Traffic

    found = []
    for done in sorted(parts.datapath.attached.values(), key=lambda each: each.name):
        totals = parts.datapath.attachments.totals(done.ifindex).T
        for direction, cpus in zip((Direction.INGRESS, Direction.EGRESS), totals, strict=True):
            sums = [int(cpus[name][unit].sum()) for name in ("seen", "dropped") for unit in ("packets", "bytes")]
            found.append(Traffic(done.name, str(direction), *sums))
    return found


def interface_rows(parts: Parts) -> list[Row]:
    """`Interface` rows for interfaces that are attached, refused or missing."""
    rows = []
    for done in sorted(parts.datapath.attached.values(), key=lambda each: each.name):
        totals = parts.datapath.attachments.totals(done.ifindex)
        row = {
            "name": done.name,
            "ifindex": done.ifindex,
            "mode": AWAY if done.away else done.mode,
            "dispatcher": done.shared.dispatcher if done.shared else None,
            "chain": done.shared.chain if done.shared else None,
        }
        for prefix, counter in (("", "seen"), ("dropped_", "dropped")):
            row |= {f"{prefix}{unit}": int(totals[counter][unit].sum()) for unit in ("packets", "bytes")}
        rows.append(row)
    rows += [_absent(change.interface, ifindex, change.text) for ifindex, change in parts.datapath.refused.items()]
    reason = "there is no such interface; it is watched when it appears"
    return rows + [_absent(name, 0, reason) for name in parts.host.missing()]


def _private_bytes() -> int:
    """The memory that only this process uses (RssAnon)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0


def _absent(name: str, ifindex: int, why: str) -> Row:
    return {"name": name, "ifindex": ifindex, "mode": why, "packets": 0, "bytes": 0, "dropped_packets": 0}
