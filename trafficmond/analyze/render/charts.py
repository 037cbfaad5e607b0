"""Charts as inline SVG. Shapes stretch with the page; text is outside of them, so it is not stretched."""

from collections.abc import Sequence
from html import escape
from typing import Any

from trafficmond import figures as f
from trafficmond.analyze.render import times

_WIDTH = 1000
_HEIGHT = 200


def share(percent: float) -> str:
    """A bar for a part of a whole."""
    width = max(0.4, min(100.0, percent)) if percent > 0 else 0
    return (
        f'<svg viewBox="0 0 100 1" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="bar" width="{width:.2f}" height="1"/></svg>'
    )


def timeline(bins: Sequence[dict[str, Any]], width: float, marks: Sequence[float]) -> str:
    """Packets over time as bars, with dropped ones in another colour; `marks` are times (epoch seconds) to point out.
    `width` is the width of a bin in seconds."""
    highest = _round_up(max(bin_["packets"] for bin_ in bins))
    step = _WIDTH / len(bins)
    gap = min(2.0, step * 0.2)
    parts = [_grid()]
    for at, bin_ in enumerate(bins):
        if not bin_["packets"]:
            continue
        label = f"{times.moment(bin_['time'], width)}: {f.many(bin_['packets'], 'packet')}, {f.size(bin_['bytes'])}"
        if bin_["dropped"]:
            label += f", {f.exact(bin_['dropped'])} dropped"
        passed = _HEIGHT * (bin_["packets"] - bin_["dropped"]) / highest
        dropped = _HEIGHT * bin_["dropped"] / highest
        left, across = at * step + gap / 2, step - gap
        parts.append(f"<g><title>{escape(label)}</title>")
        if passed:
            parts.append(_rect("bar", left, _HEIGHT - passed, across, passed))
        if dropped:
            parts.append(_rect("drop", left, _HEIGHT - passed - dropped, across, dropped))
        parts.append("</g>")
    first = bins[0]["time"]
    for mark in marks:
        at = min(max((mark - first) / width * step, 0.0), float(_WIDTH))
        parts.append(
            f'<line class="mark" x1="{at:.1f}" x2="{at:.1f}" y1="-7" y2="{_HEIGHT}" stroke-width="1.5" '
            'stroke-dasharray="3 3" vector-effect="non-scaling-stroke"/>'
        )
    return _chart("".join(parts), (f.number(highest), f.number(highest / 2), "0"), "Packets over time")


def area(bins: Sequence[dict[str, Any]]) -> str:
    highest = max(bin_["bytes"] for bin_ in bins) or 1
    step = _WIDTH / len(bins)
    points = []
    for at, bin_ in enumerate(bins):
        height = _HEIGHT - _HEIGHT * bin_["bytes"] / highest
        points += [f"{at * step:.1f},{height:.1f}", f"{(at + 1) * step:.1f},{height:.1f}"]
    line = " ".join(points)
    shape = (
        f'<polygon class="area" points="0,{_HEIGHT} {line} {_WIDTH},{_HEIGHT}"/>'
        f'<polyline class="edge" points="{line}" stroke-width="1.5" vector-effect="non-scaling-stroke"/>'
    )
    return _chart(_grid() + shape, (f.size(highest), "0"), "Bytes over time", low=True)


def updown(bins: Sequence[tuple[int, int]], first: float, step: float) -> str:
    """Bytes up and down, one bar on top of the other, in bins of `step` seconds from `first` on."""
    highest = max(sum(bin_) for bin_ in bins) or 1
    width = _WIDTH / len(bins)
    gap = min(2.0, width * 0.2)
    parts = [_grid()]
    for at, (up, down) in enumerate(bins):
        if not up + down:
            continue
        label = f"{times.moment(first + at * step, step)}: {f.size(up)} up, {f.size(down)} down"
        lower, upper = (_HEIGHT * part / highest for part in (down, up))
        left, across = at * width + gap / 2, width - gap
        parts.append(f"<g><title>{escape(label)}</title>{_rect('bar', left, _HEIGHT - lower, across, lower)}")
        parts.append(f"{_rect('up', left, _HEIGHT - lower - upper, across, upper)}</g>")
    return _chart("".join(parts), (f.size(highest), "0"), "Bytes up and down over time", low=True)


def _chart(inner: str, scale: tuple[str, ...], label: str, *, low: bool = False) -> str:
    labels = "".join(f"<span>{escape(text)}</span>" for text in scale)
    return (
        f'<div class="scale" aria-hidden="true">{labels}</div><div class="plot{" low-plot" if low else ""}">'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none" role="img" aria-label="{escape(label)}">'
        f"{inner}</svg></div>"
    )


def _grid() -> str:
    lines = (("grid", 0), ("grid", _HEIGHT // 2), ("base", _HEIGHT))
    return "".join(
        f'<line class="{name}" x1="0" x2="{_WIDTH}" y1="{y}" y2="{y}" vector-effect="non-scaling-stroke"/>'
        for name, y in lines
    )


def _rect(name: str, x: float, y: float, width: float, height: float) -> str:
    return f'<rect class="{name}" x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{max(height, 0.8):.2f}"/>'


def _round_up(value: float) -> float:
    """The next number that is easy to read on an axis, and whose half is too."""
    magnitude = 1
    while magnitude * 10 < value:
        magnitude *= 10
    return max(2.0, next(float(factor * magnitude) for factor in (1, 2, 4, 6, 8, 10) if value <= factor * magnitude))
