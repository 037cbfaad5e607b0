"""The status, told to a person."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from trafficctl.render import columns, table, units
from trafficctl.render.facts import facts
from trafficctl.render.style import Style
from trafficctl.render.table import Column


def tell(status: dict[str, Any], style: Style, width: int | None, now: float | None = None) -> Iterator[str]:
    """The lines; `now` in epoch seconds, for what is told as an age."""
    now = time.time() if now is None else now
    config, rules, store = status["config"], status["rules"], status["store"]

    def fact(key: str, value: str, mark: str = "") -> Iterator[str]:
        return facts([(key, value)], style, width, mark)

    up = units.span(now - status["started_at"])
    yield style.title(table.clip(f"trafficmond {status['version']}, process {status['pid']}, up {up}", width))
    for warning in status.get("warnings") or ():
        yield from fact("warning", warning, "yellow")
    yield from fact("loader", status["loader"] + _because(status.get("loader_reason")))
    loaded = f"generation {config['generation']}, in force since {units.clock(config['loaded_at'])}"
    yield from fact("settings", f"{loaded}, {config['path']}" if config.get("path") else loaded)
    if config.get("error"):
        yield from fact("not in force", config["error"], "red")
        for mistake in config.get("mistakes") or ():
            yield from fact("", f"{mistake['where']}: {mistake['what']}", "red")
    yield from fact("rules", _rules(rules))
    yield from fact("threats", _threats(status["threats"]), "red" if _grave(status["threats"]) else "")
    yield from fact(
        "store", _store(store), "red" if store["lost_rows"] or store.get("state") not in (None, "ok") else ""
    )
    for log in status["logs"]:
        bad = log["lost"] or log.get("state") not in (None, "ok")
        yield from fact("log", _log(log), "red" if bad else "")
    for export in status.get("exports") or ():
        yield from fact("export", _export(export), "red" if export["lost"] or export["error"] else "")
    yield from fact("ledger", _ledger(status["ledger"], status.get("flows")))
    if status.get("control"):
        yield from fact("control", _control(status["control"]))
    if status.get("memory_bytes") is not None:
        yield from fact("memory", f"{units.octets(status['memory_bytes'])} private to the daemon")
    yield ""
    yield from table.lines(status["interfaces"], columns.INTERFACES, width, style)
    yield ""
    yield from _accounting(status["accounting"], style, width)


def _because(reason: str | None) -> str:
    return f" ({reason})" if reason else ""


def _rules(rules: dict[str, Any]) -> str:
    parts = [units.many(rules["count"], "rule")]
    for key, noun in (("prefixes", "prefix"), ("lists", "list"), ("bans", "ban")):
        if rules.get(key):
            parts.append(units.many(rules[key], noun))
    if rules.get("default"):
        parts.append(f"default {rules['default']}")
    return ", ".join(parts)


def _grave(threats: dict[str, Any]) -> bool:
    return bool(threats["high"] or threats["critical"])


def _threats(threats: dict[str, Any]) -> str:
    told = [f"{threats[key]} {key}" for key in ("critical", "high", "medium", "low") if threats[key]]
    text = f"{threats['open']} open" + (f" ({', '.join(told)})" if told else "")
    return text + (f", response {threats['response']}" if threats.get("response") else "")


def _store(store: dict[str, Any]) -> str:
    parts = [store["path"], units.many(store["rows"], "row")]
    if store.get("size_bytes") is not None:
        parts.append(units.octets(store["size_bytes"]))
    parts += [f"{store['queue']} waiting", f"{store['lost_rows']} lost"]
    return ", ".join(parts) + _because(None if store.get("state") == "ok" else store.get("state"))


def _log(log: dict[str, Any]) -> str:
    where = f"{log['format']} to {log['path']}" if log.get("path") else log["format"]
    state = None if log.get("state") == "ok" else log.get("state")
    return (
        f"{where}, {units.exact(log['written'])} written, {log['queue']} waiting, {log['lost']} lost{_because(state)}"
    )


def _export(export: dict[str, Any]) -> str:
    counts = f"{units.exact(export['sent'])} flows sent, {units.exact(export['queue'])} waiting, {export['lost']} lost"
    return f"to {export['to']}, {counts}{_because(export['error'])}"


def _control(control: dict[str, int]) -> str:
    troubles = {"refused": "refused", "evicted": "made room", "bad": "talked garbage", "slow": "did not read"}
    told = [f"{units.exact(control[key])} {what}" for key, what in troubles.items() if control[key]]
    if control["lost_records"]:
        told.append(f"{units.exact(control['lost_records'])} records lost to slow watchers")
    return ", ".join([units.many(control["clients"], "client"), *told])


def _ledger(ledger: dict[str, Any], flows: int | None) -> str:
    text = (
        f"{units.exact(ledger['used'])} of {units.exact(ledger['slots'])} slots ({units.share(ledger['pressure'], 1)})"
    )
    live = "" if flows is None else f"{units.exact(flows)} live flows, "
    return f"{live}{text}, {units.octets(ledger['memory_bytes'])}, {units.exact(ledger['evicted'])} evicted"


_ACCOUNT = (
    Column("what", "ACCOUNTING", weight=9),
    Column("packets", "PACKETS", units.exact, right=True, weight=9),
    Column("share", "SHARE", right=True, weight=1),
    Column("bytes", "BYTES", units.exact, right=True, weight=8),
    Column("size", "", right=True, weight=2),
)


def _accounting(account: dict[str, Any], style: Style, width: int | None) -> Iterator[str]:
    seen = account["seen"]["packets"]
    rows = []
    for key in ("seen", "in_flows", "unattributed", "not_ip", "malformed", "pending", "dropped"):
        count = account.get(key)
        if count is not None:
            name = {"not_ip": "not IP", "dropped": "(dropped)"}.get(key, key.replace("_", " "))
            row = {"what": name if key == "seen" else f"  {name}", "packets": count["packets"], "bytes": count["bytes"]}
            rows.append({**row, "share": units.share(count["packets"], seen), "size": units.octets(count["bytes"])})
    yield from table.lines(rows, _ACCOUNT, width, style)
    reasons = {key: count for key, count in (account.get("malformed_by") or {}).items() if count}
    if reasons:
        told = ", ".join(f"{key.replace('_', ' ')} {units.exact(count)}" for key, count in reasons.items())
        yield style.dim(table.clip(f"malformed: {told}", width))
