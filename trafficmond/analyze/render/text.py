"""The report on a terminal: it fits the width, and has colours only if wanted."""

import itertools
from collections.abc import Iterator
from typing import Any

from trafficmond import figures as f
from trafficmond.analyze.render import times
from trafficmond.protocols import endpoint

_COLOURS = {"critical": "1;31", "high": "31", "medium": "33", "low": "36", "title": "1", "dim": "2", "good": "32"}
_BAR = "▏▎▍▌▋▊▉█"
_SPARKS = "▁▂▃▄▅▆▇█"
_PLAIN_BAR, _PLAIN_SPARKS = "#", "_.:-=+*#"
_NAME = 20  # the least columns of a name


def render(report: dict[str, Any], width: int = 80, *, colour: bool = False, encoding: str = "utf-8") -> str:
    """The report as text of `width` columns (48 at least; addresses are not cut), for a terminal with that encoding."""
    return "\n".join(_Page(report, max(48, width), colour, blocks=_has_blocks(encoding)).lines()) + "\n"


def _has_blocks(encoding: str) -> bool:
    try:
        (_BAR + _SPARKS).encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


class _Page:
    def __init__(self, report: dict[str, Any], width: int, colour: bool, *, blocks: bool) -> None:
        self._report = report
        self._width = width
        self._colour = colour
        self._bars = _BAR if blocks else _PLAIN_BAR
        self._sparks = _SPARKS if blocks else _PLAIN_SPARKS
        self._more = "…" if blocks else "..."

    def lines(self) -> Iterator[str]:
        yield from self._summary()
        yield from self._threats()
        yield from self._timeline()
        yield from self._usage()
        yield from self._talkers("Top sources (packets, bytes)", self._report["top_sources"])
        yield from self._talkers("Top destinations (packets, bytes)", self._report["top_destinations"])
        for title, key in (("Protocols", "protocol"), ("Actions", "action"), ("Interfaces", "interface")):
            yield from self._distribution(title, self._report[f"{key}_distribution"])
        yield from self._sizes()
        yield from self._flows()
        yield from self._damage()

    def _paint(self, text: str, colour: str) -> str:
        return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if self._colour else text

    def _title(self, text: str) -> str:
        return "\n" + self._paint(text, "title")

    def _summary(self) -> Iterator[str]:
        summary = self._report["summary"]
        for source in summary["sources"]:
            yield self._paint(f.plain(source["name"]), "title") + f"  {f.plain(source['format'])}"
            for note, count in source.get("notes", {}).items():
                yield self._paint(f"  {f.plain(note)}" + (f": {f.exact(count)}" if count else ""), "dim")
        approximately = "" if summary["unique_exact"] else "about "
        if summary["start_time"]:
            period = times.period(summary["start_time"], summary["end_time"])
            yield f"{period}, {f.span(summary['duration_seconds'])}"
        elif summary["total_packets"]:
            yield "no times were recorded"
        yield (
            f"{f.many(summary['total_packets'], 'packet')}, {f.size(summary['total_bytes'])}, "
            f"{f.many(summary['dropped_packets'], 'packet')} dropped ({f.share(summary['drop_rate'], 100)})"
        )
        yield (
            f"{approximately}{f.many(summary['unique_sources'], 'source')}, "
            f"{f.many(summary['unique_destinations'], 'destination')}, {f.many(summary['unique_flows'], 'flow')}"
        )
        accounting = summary["accounting"]
        malformed = {reason.replace("_", " "): count for reason, count in accounting["malformed_by"].items()}
        if accounting["not_ip"]["packets"] or accounting["malformed"]["packets"]:
            yield (
                f"{f.exact(accounting['not_ip']['packets'])} not IP{_in_detail(accounting['not_ip_types'])}, "
                f"{f.exact(accounting['malformed']['packets'])} malformed{_in_detail(malformed)}"
            )

    def _threats(self) -> Iterator[str]:
        threats = self._report["threats"]
        if not threats:
            yield self._title("Threats") + "\n" + self._paint("  none found", "good")
            return
        yield self._title(f"Threats ({len(threats)})")
        for threat in threats:
            severity = threat["severity"]
            head = self._paint(f"{severity:<8}", severity)
            yield f"  {head} {f.plain(threat['detector'])} {f.plain(threat['technique'])}  {f.plain(threat['summary'])}"
            yield self._paint(
                f"           {times.period(threat['first_seen'], threat['last_seen'])}, "
                f"{f.exact(threat['count'])} {f.plain(f.unit(threat['evidence'].get('unit', 'times')))}",
                "dim",
            )

    def _timeline(self) -> Iterator[str]:
        temporal = self._report["temporal_analysis"]
        bins = temporal["timeline"]
        if len(bins) < 2:
            return
        columns = min(self._width - 2, len(bins))
        edges = [len(bins) * at // columns for at in range(columns + 1)]
        sums = [sum(bin_["packets"] for bin_ in bins[a:b]) for a, b in itertools.pairwise(edges)]
        most = max(sums) or 1
        peak = f"{f.exact(temporal['peak']['packets'])} in {f.span(temporal['interval_seconds'])}"
        yield self._title(f"Packets over time (highest: {peak})")
        yield "  " + "".join(self._sparks[(value * 7 + most - 1) // most] if value else " " for value in sums)

    def _usage(self) -> Iterator[str]:
        """What only a daemon's report has: bytes up and down."""
        for kind, lines in (self._report.get("usage") or {}).items():
            sums = {name: [sum(side) for side in zip(*bins, strict=True)] for name, bins in lines["keys"].items()}
            yield from self._both_ways(f"Usage by {kind}", sums)
        countries = self._report.get("countries") or ()
        yield from self._both_ways("Countries", {row["country"] or "": [row["up"], row["down"]] for row in countries})

    def _both_ways(self, title: str, sums: dict[str, list[int]]) -> Iterator[str]:
        most = max(map(sum, sums.values()), default=0)
        if most:
            yield self._title(title)
        names = [f.plain(name) or "(none)" for name in sums]
        wide = min(_column(names), max(_NAME - 1, self._width - 41))  # the figures, and ten for a bar
        for name, (up, down) in zip(names, sums.values(), strict=True) if most else ():
            bar = _bar(100 * (up + down) / most, max(0, min(30, self._width - wide - 31)), self._bars)
            shown = f"{f.size(up):>9} up {f.size(down):>9} down"
            cut = name if len(name) <= wide else name[: wide - len(self._more)] + self._more
            yield f"  {cut:<{wide}}{shown}  {self._paint(bar, 'low')}".rstrip()

    def _talkers(self, title: str, talkers: list[dict[str, Any]]) -> Iterator[str]:
        if talkers:
            yield self._title(title)
        wide = _column([f.plain(talker["ip"]) for talker in talkers])
        for talker in talkers:
            yield self._row(f.plain(talker["ip"]), wide, talker)
            if talker.get("about"):
                yield self._paint(f"    {f.plain(talker['about'])}", "dim")

    def _distribution(self, title: str, shares: dict[str, dict[str, Any]]) -> Iterator[str]:
        if shares:
            yield self._title(title)
        names = [f.action(name) if title == "Actions" else f.plain(name) for name in list(shares)[:10]]
        for name, share in zip(names, shares.values(), strict=False):
            yield self._row(name, _column(names), share)

    def _row(self, name: str, wide: int, share: dict[str, Any]) -> str:
        numbers = f"{f.exact(share['packets']):>13} {f.size(share['bytes']):>9} {f.share(share['percent'], 100):>8}"
        wide = min(wide, max(_NAME, self._width - 2 - len(numbers)))
        room = self._width - 2 - max(len(name), wide) - len(numbers) - 2
        bar = self._paint(_bar(share["percent"], min(room, 30), self._bars), "low") if room >= 5 else ""
        return f"  {name:<{wide}}{numbers}  {bar}".rstrip()

    def _sizes(self) -> Iterator[str]:
        sizes = self._report["packet_sizes"]
        whole = sum(sizes["distribution"].values())
        if not whole:
            return
        about = "" if sizes["exact"] else ", by the mean of each flow"
        yield self._title(f"Packet sizes ({f.exact(sizes['min'])} to {f.exact(sizes['max'])} bytes{about})")
        for name, count in sizes["distribution"].items():
            share = 100 * count / whole
            bar = _bar(share, min(30, self._width - 47), self._bars)
            yield f"  {name:<20}{f.exact(count):>13} {f.share(share, 100):>8}  {bar}".rstrip()

    def _flows(self) -> Iterator[str]:
        analysis = self._report["flow_analysis"]
        if analysis["top_flows"]:
            yield self._title("Largest flows (bytes, packets)")
        for flow in analysis["top_flows"]:
            source = endpoint(flow["src_ip"], flow["src_port"], flow["protocol"])
            target = endpoint(flow["dst_ip"], flow["dst_port"], flow["protocol"])
            numbers = f"{f.size(flow['bytes']):>9} {f.exact(flow['packets']):>11}"
            yield f"  {numbers}  {flow['protocol']:<6} {source} -> {target}"

    def _damage(self) -> Iterator[str]:
        damage = self._report["damage"]
        if not damage["total"]:
            return
        yield self._title(f"Could not be read ({f.many(damage['total'], 'place')})")
        for place in damage["places"]:
            yield self._paint(f"  {f.plain(place['source'])}: {place['where']}: {f.plain(place['what'])}", "medium")
        if damage["total"] > len(damage["places"]):
            yield f"  ... and {f.exact(damage['total'] - len(damage['places']))} more"


def _column(names: list[str]) -> int:
    """The width of names in their list, so that the numbers beside them are aligned."""
    return max([_NAME, *map(len, names)])


def _bar(percent: float, room: int, steps: str) -> str:
    whole, part = divmod(round(percent / 100 * room * len(steps)), len(steps))
    return steps[-1] * whole + (steps[part - 1] if part else "")


def _in_detail(parts: dict[str, int]) -> str:
    return f" ({', '.join(f'{f.plain(name)}: {f.exact(count)}' for name, count in parts.items())})" if parts else ""
