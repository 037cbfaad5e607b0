"""How the daemon is: status and metrics."""

from __future__ import annotations

import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trafficmond import __version__
from trafficmond.answers.part import Part
from trafficmond.control.view import Row
from trafficmond.model import Direction, Severity
from trafficmond.policy.counts import Counts, count

if TYPE_CHECKING:
    from trafficmond.daemon import Daemon
    from trafficmond.metrics.families import Traffic


class StatusAnswers(Part):
    """`Status` and `Metrics`."""

    async def status(self) -> Row:
        """The reply of `Status`."""
        daemon = self._daemon
        unwatched = daemon.unwatched()
        accounting = daemon.datapath.accounting()
        store = daemon.store.status()
        ledger, sizes = daemon.datapath.ledger, daemon.datapath.sizes
        slots = sizes.cpus * sizes.capacity
        used = ledger.used()
        open_threats = daemon.pipeline.engine.threats()
        severities = {str(s): sum(t.severity == s for t in open_threats) for s in Severity}
        return {
            "version": __version__,
            "pid": os.getpid(),
            "started_at": daemon.started_at,
            "config": self._config(),
            "loader": daemon.datapath.loaded.loader,
            "loader_reason": "; ".join(daemon.datapath.loaded.notes) or None,
            "interfaces": interface_rows(daemon),
            "accounting": {
                "seen": asdict(accounting.seen),
                "in_flows": asdict(accounting.in_flows),
                "unattributed": asdict(accounting.unattributed),
                "not_ip": asdict(accounting.not_ip),
                "malformed": asdict(accounting.malformed),
                "pending": asdict(accounting.pending),
                "dropped": asdict(accounting.dropped),
                "malformed_by": accounting.malformed_by,
            },
            "rules": self._rule_count(),
            "store": {
                "path": store.path,
                "rows": store.rows,
                "queue": store.queue,
                "lost_rows": store.lost_rows,
                "size_bytes": store.size_bytes,
                "state": store.state,
            },
            "logs": [_log_row(log) for log in daemon.sinks.status()],
            "exports": daemon.exports.status(),
            "ledger": {
                "memory_bytes": sizes.memory_bytes(),
                "slots": slots,
                "used": used,
                "evicted": ledger.evicted_records(),
                "pressure": used / slots,
            },
            "threats": {"open": len(open_threats), **severities, "response": daemon.settings.response.ban},
            "flows": len(daemon.pipeline.table),
            "detectors": [
                {"name": name, **tables} for name, tables in daemon.pipeline.engine.status()["detectors"].items()
            ],
            "counters": self._counters(),
            "memory_bytes": _private_bytes(),
            "unwatched": unwatched,
            "only_from": daemon.network.only_from,
            "warnings": [*unwatched, *self._warnings()],
        }

    def _config(self) -> Row:
        daemon = self._daemon
        in_force, error = daemon.rulebook.in_force, daemon.rulebook.error
        return {
            "path": str(daemon.settings.source) if daemon.settings.source else None,
            "generation": in_force.generation if in_force else 0,
            "loaded_at": in_force.loaded_at if in_force else daemon.started_at,
            "error": str(error) if error else None,
            "mistakes": [asdict(mistake) for mistake in error.mistakes] if error else None,
        }

    def _counters(self) -> dict[str, int]:
        """What `metrics.counted` names; what the socket's server counts comes with `control`."""
        daemon = self._daemon
        pipeline, found, spared = daemon.pipeline, daemon.pipeline.engine.status(), daemon.responder.spared()
        return {
            "evicted_flows": pipeline.table.evicted,
            "rows_without_inner": pipeline.forgotten_inners,
            "merged_threats": found["merged"],
            "redundant_threats": found["redundant"],
            "overflowed_threats": found["overflowed"],
            "early_dials": found["dials_judged_early"],
            "spared_protected_bans": spared.protected,
            "spared_forgeable_bans": spared.forgeable,
            "refused_questions": self._questions.refused,
            "refused_scrapes": daemon.metrics.refused,
            "evicted_scrapes": daemon.metrics.evicted,
            "refused_clients": daemon.server.counts.refused,
            "evicted_clients": daemon.server.counts.evicted,
            "bad_clients": daemon.server.counts.bad,
            "slow_clients": daemon.server.counts.slow,
            "lost_watch_records": daemon.hub.lost_records,
        }

    def _rule_count(self) -> Row:
        in_force = self._daemon.rulebook.in_force
        counts = count(in_force.policy) if in_force else Counts()
        return {
            "count": counts.rules,
            "prefixes": counts.prefixes,
            "lists": counts.lists,
            "bans": len(self._daemon.bans),
            "default": self._daemon.settings.policy.default,
        }

    def _warnings(self) -> list[str]:
        daemon = self._daemon
        found = list(daemon.warnings.values())
        found += [daemon.files_note] if daemon.files_note else []
        for done in daemon.datapath.attached.values():
            found += done.notes
        if daemon.pipeline.suppressed_events:
            found.append(
                f"{daemon.pipeline.suppressed_events:,} log events were suppressed: more than the logs are given"
            )
        if daemon.pipeline.forgotten_inners:
            found.append(
                f"{daemon.pipeline.forgotten_inners:,} rows of flows.db lack what their tunnel carried: more "
                "conversations at once than are remembered"
            )
        if daemon.rulebook.trouble:
            found.append(daemon.rulebook.trouble)
        if daemon.rulebook.in_force:
            found += [str(note) for note in daemon.rulebook.in_force.policy.notes[:20]]
        return found

    async def metrics(self) -> str:
        """OpenMetrics text."""
        from trafficmond.metrics.families import Counters, families
        from trafficmond.metrics.text import openmetrics

        daemon = self._daemon
        counters = Counters(
            traffic=_traffic(daemon),
            by_verdict=daemon.pipeline.by_verdict,
            suppressed_events=daemon.pipeline.suppressed_events,
            stored_rows=daemon.store.status().written_rows,
            cpu_seconds=time.process_time(),
        )
        return openmetrics(families(await self.status(), counters))


def _traffic(daemon: Daemon) -> list[Traffic]:
    """What each attached interface saw, a row a direction."""
    from trafficmond.metrics.families import Traffic

    found = []
    for done in sorted(daemon.datapath.attached.values(), key=lambda each: each.name):
        totals = daemon.datapath.interface_totals(done.ifindex).T
        for direction, cpus in zip((Direction.INGRESS, Direction.EGRESS), totals, strict=True):
            sums = [int(cpus[name][unit].sum()) for name in ("seen", "dropped") for unit in ("packets", "bytes")]
            found.append(Traffic(done.name, str(direction), *sums))
    return found


def interface_rows(daemon: Daemon) -> list[Row]:
    """An `Interface` for each that is attached, refused or missing."""
    rows = []
    for done in sorted(daemon.datapath.attached.values(), key=lambda each: each.name):
        totals = daemon.datapath.interface_totals(done.ifindex)
        rows.append(
            {
                "name": done.name,
                "ifindex": done.ifindex,
                "mode": done.mode,
                "packets": int(totals["seen"]["packets"].sum()),
                "bytes": int(totals["seen"]["bytes"].sum()),
                "dropped_packets": int(totals["dropped"]["packets"].sum()),
                "dropped_bytes": int(totals["dropped"]["bytes"].sum()),
            }
        )
    for ifindex, change in daemon.datapath.refused.items():
        rows.append(_absent(change.interface, ifindex, change.text))
    for name in daemon.missing_interfaces():
        rows.append(_absent(name, 0, "there is no such interface; it is watched when it appears"))
    return rows


def _private_bytes() -> int:
    """Memory of this process that nothing else has a copy of (RssAnon)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0


def _absent(name: str, ifindex: int, why: str) -> Row:
    return {"name": name, "ifindex": ifindex, "mode": why, "packets": 0, "bytes": 0, "dropped_packets": 0}


def _log_row(log: dict[str, Any]) -> Row:
    return {
        "name": str(log["path"] or log["format"]),
        "format": log["format"],
        "path": log["path"],
        "written": log["written"],
        "queue": log["queue"],
        "lost": log["lost"],
        "shortened": log["shortened"],
        "sampled_out": log["sampled_out"],
        "state": log["error"],
    }
