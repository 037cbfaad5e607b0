"""Renders the status for people."""

import time
from collections.abc import Iterator
from typing import Any

from trafficctl import probation
from trafficctl.render import columns, facts, table
from trafficctl.render.facts import Fact
from trafficctl.render.style import Style
from trafficctl.render.table import Column
from trafficmond import figures

_MISTAKES = 5  # mistakes shown


def render(status: dict[str, Any], style: Style, width: int | None, now: float | None = None) -> Iterator[str]:
    """The lines; `now` in epoch seconds, for ages."""
    if status.get("not_known"):
        yield style.paint(table.clip(f"NOT KNOWN: {status['not_known']}", width), "red")
    if status["config"].get("error"):
        yield from facts.render(_mistakes(status["config"]), style, width)
    for text in status.get("unwatched") or ():
        yield style.paint(table.clip(f"NOT WATCHED: {text}", width), "red")
    if status.get("probation"):
        yield style.paint(table.clip(probation.status_line(status["probation"]), width), "yellow")
    up = figures.span((time.time() if now is None else now) - status["started_at"])
    yield style.title(table.clip(f"trafficmond {status['version']}, process {status['pid']}, up {up}", width))
    yield from facts.render(_facts(status), style, width)
    yield ""
    yield from table.lines(status["interfaces"], columns.INTERFACES, width, style)
    yield ""
    yield from _accounting(status["accounting"], style, width)


def _facts(status: dict[str, Any]) -> Iterator[Fact]:
    config, store = status["config"], status["store"]
    for warning in status.get("warnings") or ():
        if warning not in (status.get("not_known"), *(status.get("unwatched") or ())):  # shown above
            yield Fact("warning", warning, "yellow")
    yield Fact("loader", status["loader"] + _because(status.get("loader_reason")))
    loaded = f"generation {config['generation']}, in force since {figures.clock(config['loaded_at'])}"
    yield Fact("settings", f"{loaded}, {config['path']}" if config.get("path") else loaded)
    for row in status["interfaces"]:
        if row.get("chain"):
            yield Fact("shared", f"{row['name']} runs {', then '.join(row['chain'])} (dispatcher {row['dispatcher']})")
    yield Fact("rules", _rules(status["rules"]))
    for shadow in status.get("shadows") or ():
        yield Fact("shadow", _shadow(shadow))
    for text in status.get("only_from") or ():
        yield Fact("reach", text)
    threats = status["threats"]
    yield Fact("threats", _threats(threats), "red" if threats["high"] or threats["critical"] else "")
    yield Fact("store", _store(store), "red" if store["lost_rows"] or store.get("state") not in (None, "ok") else "")
    for log in status["logs"]:
        yield Fact("log", _log(log), "red" if log["lost"] or log.get("state") else "")
    for export in status.get("exports") or ():
        failing = any(each["lost"] or each["error"] for each in (export, export.get("threats")) if each)
        yield Fact("export", _export(export), "red" if failing else "")
    yield Fact("ledger", _ledger(status["ledger"], status.get("flows")))
    yield from _evictions(status)
    if status.get("control"):
        yield Fact("control", _control(status["control"]))
    if status.get("memory_bytes") is not None:
        yield Fact("memory", f"{figures.size(status['memory_bytes'])} private to the daemon")


def _evictions(status: dict[str, Any]) -> Iterator[Fact]:
    evicted = (status.get("counters") or {}).get("evicted_flows", 0)
    if evicted:
        yield Fact("evicted", f"{figures.many(evicted, 'flow')} early: the flow table was full", "yellow")
    for each in status.get("detectors") or ():
        parts = [f"{figures.exact(each[key])} {key}" for key in ("evicted", "refused") if each[key]]
        if parts:
            used = f"{figures.exact(each['entities'])} of {figures.exact(each['capacity'])} entries"
            yield Fact("evicted", f"by detector {each['name']}: {', '.join(parts)} ({used} now)", "yellow")


def _mistakes(config: dict[str, Any]) -> Iterator[Fact]:
    """The reasons why the files on disk are not in force: the first mistakes, and where to see all."""
    mistakes = config.get("mistakes") or []
    lines = [f"{each['where']}: {each['what']}" for each in mistakes[:_MISTAKES]] or [config["error"]]
    for index, line in enumerate(lines):
        yield Fact("" if index else "not in force", line, "red")
    if len(mistakes) > _MISTAKES:
        yield Fact("", f"and {len(mistakes) - _MISTAKES} more", "red")
    lost = config.get("not_kept")
    what = f"what was in force before stays in force{f', but {lost}' if lost else ', after a reboot too'}"
    yield Fact("", f"{what}; trafficctl check shows every mistake in its place")


def _because(reason: str | None) -> str:
    return f" ({reason})" if reason else ""


def _rules(rules: dict[str, Any]) -> str:
    parts = [figures.ruling(rules["count"], rules.get("lists"), rules.get("prefixes"))]
    if rules.get("bans"):
        parts.append(figures.many(rules["bans"], "ban"))
    if rules.get("default"):
        parts.append(f"default {rules['default']}")
    return ", ".join(parts)


def _shadow(shadow: dict[str, Any]) -> str:
    name = "the default" if shadow["kind"] == "default" else shadow["name"]
    watched = f"{shadow['action']}, in shadow for {figures.span(time.time() - shadow['since'])}"
    dropped = shadow["would_drop"]
    parts = f"would have dropped {figures.many(dropped['packets'], 'packet')}, {figures.size(dropped['bytes'])}"
    return f"{name}: {watched}, {parts} of {figures.exact(shadow['packets'])}"


def _threats(threats: dict[str, Any]) -> str:
    parts = [f"{threats[key]} {key}" for key in ("critical", "high", "medium", "low") if threats[key]]
    text = f"{threats['open']} open" + (f" ({', '.join(parts)})" if parts else "")
    return text + (f", response {threats['response']}" if threats.get("response") else "")


def _store(store: dict[str, Any]) -> str:
    parts = [store["path"], figures.many(store["rows"], "row")]
    if store.get("size_bytes") is not None:
        parts.append(figures.size(store["size_bytes"]))
    parts += [f"{figures.exact(store['queue'])} waiting", f"{figures.exact(store['lost_rows'])} lost"]
    return ", ".join(parts) + _because(None if store.get("state") == "ok" else store.get("state"))


def _log(log: dict[str, Any]) -> str:
    where = f"{log['format']} to {log['path']}" if log.get("path") else log["format"]
    counts = ((log["written"], "written"), (log["queue"], "waiting"), (log["lost"], "lost"))
    parts = [where, *(f"{figures.exact(value)} {what}" for value, what in counts)]
    if log.get("sampled_out"):
        parts.append(f"{figures.exact(log['sampled_out'])} beyond its max_rate")
    return ", ".join(parts) + _because(log.get("state"))


def _export(export: dict[str, Any]) -> str:
    threats = export.get("threats")
    sent = f"to {export['to']}, {_sent(export, 'flows')}"
    return f"{sent}; {_sent(threats, 'threats')}" if threats else sent


def _sent(one: dict[str, Any], what: str) -> str:
    counts = ((one["sent"], f"{what} sent"), (one["queue"], "waiting"), (one["lost"], "lost"))
    return ", ".join(f"{figures.exact(value)} {what}" for value, what in counts) + _because(one["error"])


def _control(control: dict[str, int]) -> str:
    troubles = {
        "refused": "refused",
        "evicted": "disconnected (idle)",
        "bad": "protocol errors",
        "slow": "disconnected (too slow)",
    }
    parts = [f"{figures.exact(control[key])} {what}" for key, what in troubles.items() if control[key]]
    if control["lost_records"]:
        parts.append(f"{figures.many(control['lost_records'], 'record')} lost to slow watchers")
    return ", ".join([figures.many(control["clients"], "client"), *parts])


def _ledger(ledger: dict[str, Any], flows: int | None) -> str:
    used, slots, evicted = (figures.exact(ledger[name]) for name in ("used", "slots", "evicted"))
    text = f"{used} of {slots} slots ({figures.share(ledger['pressure'], 1)})"
    live = "" if flows is None else f"{figures.many(flows, 'live flow')}, "
    return f"{live}{text}, {figures.size(ledger['memory_bytes'])}, {evicted} evicted"


_ACCOUNT = (
    Column("what", "ACCOUNTING", weight=9),
    Column("packets", "PACKETS", figures.exact, right=True, weight=9),
    Column("share", "SHARE", right=True, weight=1),
    Column("bytes", "BYTES", figures.exact, right=True, weight=8),
    Column("size", "", right=True, weight=2),
)


def _accounting(account: dict[str, Any], style: Style, width: int | None) -> Iterator[str]:
    seen = account["seen"]["packets"]
    rows, others = [], account.get("others") or {}
    counts = {key: account.get(key) for key in ("seen", "in_flows", "unattributed", "not_ip", "malformed", "pending")}
    counts |= {f"({key})": count for key, count in {"dropped": account.get("dropped"), **others}.items()}
    for key, count in counts.items():
        if count is not None:
            name = "not IP" if key == "not_ip" else key.replace("_", " ")
            row = {"what": name if key == "seen" else f"  {name}", "packets": count["packets"], "bytes": count["bytes"]}
            rows.append({**row, "share": figures.share(count["packets"], seen), "size": figures.size(count["bytes"])})
    yield from table.lines(rows, _ACCOUNT, width, style)
    reasons = {key: count for key, count in (account.get("malformed_by") or {}).items() if count}
    if reasons:
        parts = ", ".join(f"{key.replace('_', ' ')} {figures.exact(count)}" for key, count in reasons.items())
        yield style.dim(table.clip(f"malformed: {parts}", width))
