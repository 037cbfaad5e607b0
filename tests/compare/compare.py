"""A referee for `trafficctl analyze`: each file is read once more by a few plain lines that share nothing with it.

usage: compare.py [FOLDER or FILE ...]      (default: the test data beside the project)

Prints each difference in packets, bytes, who began, protocol and times; explained ones with their reason. The exit
code is 1 if any is left unexplained, 2 if there is nothing to compare.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import referees  # noqa: E402
from conversations import Conversations, Ends, Sums, add, apart, key_of  # noqa: E402
from explained import reason  # noqa: E402

from trafficmond.analyze.formats import format_of  # noqa: E402
from trafficmond.analyze.readers import capture  # noqa: E402
from trafficmond.analyze.report import iso  # noqa: E402
from trafficmond.analyze.run import analyze  # noqa: E402
from trafficmond.analyze.run_stats import RunStats  # noqa: E402
from trafficmond.analyze.source import InputError, Source  # noqa: E402
from trafficmond.analyze.values import is_icmp  # noqa: E402
from trafficmond.config.settings import Settings  # noqa: E402
from trafficmond.flows.batch import address_text  # noqa: E402
from trafficmond.protocols import protocol_name  # noqa: E402

DATA = ROOT.parent / "shared/data"
ALL = 1 << 20  # flows that a report lists
SHOWN = 10  # differences of one file
TICK_S = 2e-6  # what two ways from digits to seconds may differ


def ours(path: Path) -> tuple[Conversations, tuple[str | None, str | None]]:
    """(conversations, first and last time) as the report has them."""
    report = analyze([str(path)], Settings(), 0.0, top=ALL)
    found: Conversations = {}
    for flow in report["flow_analysis"]["top_flows"]:
        ports = (0, 0) if flow["protocol"].startswith("ICMP") else (flow["src_port"], flow["dst_port"])
        ends = Ends(flow["src_ip"], ports[0], flow["dst_ip"], ports[1], flow["protocol"].lower())
        add(found, ends, math.inf, -math.inf, flow["packets"], flow["bytes"])
    summary = report["summary"]
    if report["summary"]["sources"][0]["format"] == capture.TITLE:
        for what in ("malformed", "not_ip"):
            counted = summary["accounting"][what]
            apart(found, what.replace("_ip", " IP"), counted["packets"], counted["bytes"])
        _add_times(path, found)
    return found, (summary["start_time"], summary["end_time"])


def _add_times(path: Path, found: Conversations) -> None:
    """The times of each conversation of a capture, which the report does not list, from the reader's rows."""
    stats = RunStats()
    source = Source(str(path), stats.parse_errors)
    for rows in format_of(source).deltas(source, stats):
        for row in rows[
            ["src_hi", "src_lo", "dst_hi", "dst_lo", "sport", "dport", "proto", "first", "last", "family"]
        ].tolist():
            proto = row[6]
            ports = (0, 0) if is_icmp(proto) else row[4:6]
            sides = [(address_text(*row[at : at + 2], row[9]), ports[at // 2]) for at in (0, 2)]
            sums = found[key_of(sides, protocol_name(proto).lower())]
            sums.first, sums.last = min(sums.first, row[7]), max(sums.last, row[8])
    source.close()


def differences(path: Path, title: str) -> Iterator[tuple[str, str]]:
    """What the report says otherwise than the referee, a line each, and why it may: empty if nobody knows."""
    for line, why in _differences(path, title):
        yield line, why or reason(path.name, line)


def _differences(path: Path, title: str) -> Iterator[tuple[str, str]]:
    mine, times = ours(path)
    theirs = referees.BY_TITLE[title](path)
    for key in sorted(mine.keys() | theirs.keys(), key=str):
        one, other = mine.get(key), theirs.get(key)
        if one is None or other is None:
            yield f"{_named(key)}: {'only the referee has it' if one is None else 'the referee does not have it'}", ""
            continue
        for what in ("packets", "bytes"):
            if getattr(one, what) != getattr(other, what):
                yield f"{_named(key)}: {what} {getattr(one, what)}, by the referee {getattr(other, what)}", ""
        for which in ("first", "last"):
            at, by_referee = getattr(one, which), getattr(other, which)
            if math.isfinite(at) and math.isfinite(by_referee) and abs(at - by_referee) > TICK_S:
                yield f"{_named(key)}: {which} time {iso(at)}, by the referee {iso(by_referee)}", ""
        if (one.began or other.began) and one.began.isdisjoint(other.began):
            yield (
                f"{_named(key)}: begun by {_sides(one)}, by the referee {_sides(other)}",
                min(other.doubts, default=""),
            )
    timed = [sums for sums in theirs.values() if math.isfinite(sums.first)]
    if timed and not any(math.isfinite(sums.first) for sums in mine.values()):
        span = iso(min(sums.first for sums in timed)), iso(max(sums.last for sums in timed))
        for which, one_time, other_time in zip(("first", "last"), times, span, strict=True):
            if one_time != other_time:
                yield f"{which} time {one_time}, by the referee {other_time}", ""


def files(places: list[str]) -> list[Path]:
    """Every file at or below the places."""
    found: list[Path] = []
    for place in map(Path, places):
        found += [place] if place.is_file() else sorted(path for path in place.rglob("*") if path.is_file())
    return found


def main(places: list[str]) -> int:
    """Compares; the exit code."""
    compared = explained = unexplained = 0
    for path in files(places or [str(DATA)]):
        title = _title(path)
        if title not in referees.BY_TITLE:
            continue
        compared += 1
        known = list(differences(path, title))
        explained += sum(1 for _, why in known if why)
        unexplained += sum(1 for _, why in known if not why)
        print(f"{path}: {title}: {len(known) or 'no'} difference{'' if len(known) == 1 else 's'}")
        for line, why in sorted(known, key=lambda pair: bool(pair[1]))[:SHOWN]:
            print(f"  {line}" + (f"\n    because {why}" if why else "  UNEXPLAINED"))
        if len(known) > SHOWN:
            print(f"  ... and {len(known) - SHOWN} more")
    print(f"{compared} files compared: {explained} differences explained, {unexplained} unexplained")
    return 2 if not compared else 1 if unexplained else 0


def _title(path: Path) -> str:
    source = Source(str(path), RunStats().parse_errors)
    try:
        return format_of(source).reader.TITLE
    except InputError:
        return ""
    finally:
        source.close()


def _named(key: tuple[object, ...]) -> str:
    ends, protocol = key
    return f"{protocol} {' and '.join(f'{address} port {port}' for address, port in sorted(ends))}"  # type: ignore[call-overload, attr-defined]


def _sides(sums: Sums) -> str:
    return " or ".join(sorted(f"{address} port {port}" for address, port in sums.began))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
