"""The report as one HTML file: it loads nothing, and all text from outside is escaped."""

import re
from collections.abc import Iterator
from datetime import datetime
from html import escape
from typing import Any

from trafficmond import __version__
from trafficmond import figures as f
from trafficmond.analyze.render import charts, times
from trafficmond.analyze.render.style import CSS
from trafficmond.analyze.render.usage import bars, pictures
from trafficmond.model import SEVERITIES
from trafficmond.protocols import endpoint

_HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="referrer" content="no-referrer">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{css}</style>
</head>
<body>
<main>
"""
_TAIL = "</main>\n</body>\n</html>\n"
_BREAKS = re.compile(r"([._-])(?=\w)")  # places where a long file name may break
_MARKS = 24  # times that are marked on the time line
_SEVERITIES = SEVERITIES[::-1]  # the most severe first
_TECHNIQUE = re.compile(r"T[0-9]{4}(\.[0-9]{3})?")
_WIDE = 34  # characters of evidence that get a line of their own


def render(report: dict[str, Any]) -> str:
    title = f"Traffic report: {_name(report)}"
    body = "\n".join(part for section in _SECTIONS for part in section(report))
    return _HEAD.format(title=_text(title), css=CSS) + body + _TAIL


def _text(value: Any) -> str:
    return escape(f.plain(value))


def _name(report: dict[str, Any]) -> str:
    """What was analysed: "traffic.jsonl and 2 more"."""
    sources = report["summary"]["sources"]
    more = f" and {len(sources) - 1} more" if len(sources) > 1 else ""
    return f"{sources[0]['name']}{more}" if sources else "this host"


def _header(report: dict[str, Any]) -> Iterator[str]:
    summary = report["summary"]
    formats = ", ".join(dict.fromkeys(source["format"] for source in summary["sources"]))
    name = _BREAKS.sub(r"\1<wbr>", _text(_name(report)))
    yield f'<header><p class="kind">Traffic report</p><h1>{name}</h1>'
    parts = ["no times were recorded" if summary["total_packets"] else "", formats]
    if summary["start_time"]:
        period = times.period(summary["start_time"], summary["end_time"])
        parts = [period, f.span(summary["duration_seconds"]), formats]
    yield f"<p>{' &middot; '.join(_text(part) for part in parts if part)}</p></header>"


def _verdict(report: dict[str, Any]) -> Iterator[str]:
    threats = report["threats"]
    if not threats:
        yield '<p class="verdict good">No threats found</p>'
        return
    counts = {name: sum(threat["severity"] == name for threat in threats) for name in _SEVERITIES}
    worst = next((name for name in _SEVERITIES if counts[name]), "low")
    parts = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    yield f'<p class="verdict {worst}">{f.many(len(threats), "threat")} <span class="rest">{parts}</span></p>'


def _tiles(report: dict[str, Any]) -> Iterator[str]:
    summary = report["summary"]
    about = "" if summary["unique_exact"] else "~"
    tiles = [
        (f.exact(summary["total_packets"]), f"packets, {f.number(summary['packets_per_second'])}/s"),
        (f.size(summary["total_bytes"]), f"{f.size(summary['bytes_per_second'])}/s"),
        (f"{f.share(summary['drop_rate'], 100)}", f"dropped, {f.many(summary['dropped_packets'], 'packet')}"),
        (about + f.exact(summary["unique_sources"]), "source" + _s(summary["unique_sources"])),
        (about + f.exact(summary["unique_destinations"]), "destination" + _s(summary["unique_destinations"])),
        (about + f.exact(summary["unique_flows"]), "flow" + _s(summary["unique_flows"])),
    ]
    yield '<section class="card tiles" aria-label="Totals">'
    for value, label in tiles:
        yield f'<div class="tile"><b class="number">{_text(value)}</b><span>{_text(label)}</span></div>'
    yield "</section>"


def _s(count: int) -> str:
    return "" if count == 1 else "s"


def _threats(report: dict[str, Any]) -> Iterator[str]:
    if not report["threats"]:
        return
    yield '<section class="card"><h2>Threats</h2>'
    for threat in report["threats"]:
        severity = threat["severity"] if threat["severity"] in _SEVERITIES else "low"
        period = times.period(threat["first_seen"], threat["last_seen"])
        yield '<article class="threat"><div class="meta">'
        yield f'<span class="badge {severity}">{_text(threat["severity"])}</span>'
        yield f"<span>{_text(threat['detector'].replace('_', ' '))}</span>{_technique(threat['technique'])}</div>"
        yield f"<h3>{_text(threat['summary'])}</h3>"
        yield f'<p class="when">{_text(period)}</p><dl class="facts">'
        evidence = dict(threat["evidence"])
        facts = {
            "from": threat["src_ip"],
            "to": threat["dst_ip"],
            f.unit(evidence.pop("unit", "count")): threat["count"],
        }
        for name, value in (facts | evidence).items():
            if value not in (None, "", [], {}):
                shown = f.evidence(value)
                wide = ' class="wide"' if len(shown) > _WIDE else ""
                yield f"<div{wide}><dt>{_label(f.term(name))}</dt><dd>{_text(shown)}</dd></div>"
        yield "</dl></article>"
    yield "</section>"


def _label(name: str) -> str:
    text = f.plain(name).replace("_", " ")
    return escape(text[:1].upper() + text[1:])


def _technique(technique: str) -> str:
    """A link to MITRE ATT&CK if it is one of its ids."""
    base, _, sub = technique.partition(".")
    if _TECHNIQUE.fullmatch(technique):
        path = f"{base}/{sub}" if sub else base
        return f'<a href="https://attack.mitre.org/techniques/{path}/" rel="noreferrer">{technique}</a>'
    return f"<span>{_text(technique)}</span>" if technique else ""


def _timeline(report: dict[str, Any]) -> Iterator[str]:
    temporal = report["temporal_analysis"]
    bins = temporal["timeline"]
    if not bins:
        return
    width = temporal["interval_seconds"]
    marks = [datetime.fromisoformat(threat["first_seen"]).timestamp() for threat in report["threats"][:_MARKS]]
    labels = "".join(f"<span>{_text(text)}</span>" for text in _times(bins, width))
    yield f'<section class="card"><h2>Over time</h2><p class="legend"><span><i></i>packets in {f.span(width)}</span>'
    if any(bin_["dropped"] for bin_ in bins):
        yield '<span><i class="drop"></i>of these dropped</span>'
    if marks:
        yield '<span><i class="mark"></i>a threat began</span>'
    yield f'</p><div class="chart">{charts.timeline(bins, width, marks)}</div>'
    yield f'<p class="legend second">bytes in {f.span(width)}</p>'
    yield f'<div class="chart">{charts.area(bins)}<div class="times">{labels}</div></div></section>'


def _times(bins: list[dict[str, Any]], width: float) -> list[str]:
    """Labels for the beginning, the end and the middle."""
    first, last = bins[0]["time"], bins[-1]["time"] + width
    same_day = first // 86400 == last // 86400
    return [times.moment(at, width if same_day else max(width, 3600)) for at in (first, (first + last) / 2, last)]


def _talkers(report: dict[str, Any]) -> Iterator[str]:
    yield '<div class="pair">'
    for title, key in (("Top sources", "top_sources"), ("Top destinations", "top_destinations")):
        yield from _listed(title, "address", ((talker["ip"], talker) for talker in report[key]), mono=True)
    yield "</div>"


def _distributions(report: dict[str, Any]) -> Iterator[str]:
    yield '<div class="flow">'
    for title, key, what in (
        ("Protocols", "protocol_distribution", "protocol"),
        ("Actions", "action_distribution", "action"),
        ("Interfaces", "interface_distribution", "interface"),
    ):
        shares = list(report[key].items())[:10]
        yield from _listed(title, what, [(f.action(n), s) for n, s in shares] if what == "action" else shares)
    yield from _sizes(report)
    yield from _services(report)
    yield "</div>"


def _listed(title: str, what: str, items: Any, *, mono: bool = False) -> Iterator[str]:
    rows = []
    for name, share in items:
        about = f'<br><span class="soft about">{_text(share["about"])}</span>' if share.get("about") else ""
        shown = f'<span class="mono">{_text(name)}</span>' if mono else _text(name) or "(none)"
        rows.append((shown + about, f.exact(share["packets"]), f.size(share["bytes"]), share["percent"]))
    yield from bars(title, (what, "packets", "bytes"), rows, whole=True)


def _sizes(report: dict[str, Any]) -> Iterator[str]:
    sizes = report["packet_sizes"]
    whole = sum(sizes["distribution"].values())
    if not whole:
        return
    about = "" if sizes["exact"] else ", by the mean of each flow"
    span = f"{f.exact(sizes['min'])} to {f.exact(sizes['max'])} bytes, {f.exact(round(sizes['average']))} on average"
    parts = ((name, count, 100 * count / whole) for name, count in sizes["distribution"].items())
    rows = [(_text(name), f.exact(count), f.share(part, 100), part) for name, count, part in parts]
    yield from bars("Packet sizes", ("bytes", "packets", "share"), rows, span + about)


def _flows(report: dict[str, Any]) -> Iterator[str]:
    flows = report["flow_analysis"]["top_flows"]
    most = max((flow["bytes"] for flow in flows), default=0) or 1
    rows = []
    for flow in flows:
        ends = (endpoint(flow[f"{side}_ip"], flow[f"{side}_port"], flow["protocol"]) for side in ("src", "dst"))
        way = ' <span class="arrow">&rarr;</span> '.join(f'<span class="mono">{_text(end)}</span>' for end in ends)
        name = f'<span class="soft">{_text(flow["protocol"])}</span> {way}'
        rows.append((name, f.exact(flow["packets"]), f.size(flow["bytes"]), 100 * flow["bytes"] / most))
    yield from bars("Largest flows", ("initiator and responder", "packets", "bytes"), rows)


def _services(report: dict[str, Any]) -> Iterator[str]:
    services = report["flow_analysis"]["top_services"]
    most = max((service["flows"] for service in services), default=0)
    rows = [
        (f"{_text(each['protocol'])} {each['port']}", "", f.exact(each["flows"]), 100 * each["flows"] / most)
        for each in services
    ]
    yield from bars("Most used services", ("responder\u2019s port", "", "flows"), rows)


def _reading(report: dict[str, Any]) -> Iterator[str]:
    """What was read, how much of it is accounted for, and what could not be read."""
    summary, damage = report["summary"], report["damage"]
    accounting = summary["accounting"]
    yield '<section class="card"><h2>Accounting</h2><dl>'
    for name, label in (("seen", "Seen"), ("in_flows", "In flows"), ("not_ip", "Not IP"), ("malformed", "Malformed")):
        count = accounting[name]
        packets = f.many(count["packets"], "packet")
        yield f'<dt>{label}</dt><dd class="number">{packets}, {f.size(count["bytes"])}</dd>'
    for reason, malformed in accounting["malformed_by"].items():
        yield f'<dt>{_label(reason.replace("_", " "))}</dt><dd class="number">{f.many(malformed, "packet")}</dd>'
    if damage["total"]:
        yield f"<dt>Could not be read</dt><dd>{f.many(damage['total'], 'place')}</dd>"
    yield "</dl>"
    if types := ", ".join(f"{_text(name)}: {f.exact(count)}" for name, count in accounting["not_ip_types"].items()):
        yield f'<p class="legend">Not IP: {types}</p>'
    notes = [(source["name"], *note) for source in summary["sources"] for note in source.get("notes", {}).items()]
    if notes:
        yield '<ul class="places">'
        for name, note, count in notes:
            number = f": {f.exact(count)}" if count else ""
            yield f'<li><span class="soft">{_text(name)}</span> {_text(note + number)}</li>'
        yield "</ul>"
    if damage["places"]:
        yield '<ul class="places">'
        for place in damage["places"]:
            where = f"{place['source']}, {place['where']}"
            yield f'<li><span class="soft">{_text(where)}</span> {_text(place["what"])}</li>'
        if damage["total"] > len(damage["places"]):
            yield f"<li>and {f.exact(damage['total'] - len(damage['places']))} more</li>"
        yield "</ul>"
    yield "</section>"


def _footer(report: dict[str, Any]) -> Iterator[str]:
    made = f"trafficmon {__version__}, {times.day(report['generated_at'])}"
    yield f"<footer>{_text(made)}. All times are local, also in charts.</footer>\n"


_SECTIONS = (
    *(_header, _verdict, _tiles, _threats, _timeline),
    *(pictures, _talkers, _flows, _distributions, _reading, _footer),
)
