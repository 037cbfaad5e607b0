"""A picture of who exchanged how much with whom: this side on the left, the others on the right, and bands between
them.

Inline SVG without a script. The bands stretch with the page; the words are text beside them, so they can be read on a
phone, searched and copied. The sizes of bars and bands are in proportion to bytes; only the space for a bar has a
minimum, so that its words fit.
"""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

from trafficmond import figures as f

_LEFT, _RIGHT = 7, 10  # ends that are shown separately
_OTHERS = "others"
_HEIGHT, _WIDTH = 1000.0, 1000.0
_WORDS = 3.2  # rem that the words of an end need: a name in two lines and a number (`style.CSS`)
_LOW, _TALL = 14.0, 3.9  # the least height of the picture in rem, and the height for each end of its longer side
_GAP = 12.0  # between two bars
_COLOURS = 7
_LEAST = 1.2  # the least width of a band


class _End(NamedTuple):
    name: str
    up: int
    down: int
    top: float  # of its bar
    height: float
    middle: float  # of its space


def exchange(rows: Sequence[Mapping[str, Any]], left: str, right: str) -> str:
    """The picture for rows with `left`, `right` (names), `up`, `down` (bytes of the left one); empty without rows."""
    pairs = _fewer(rows)
    if not pairs:
        return ""
    sides = [_totals(pairs, side) for side in (0, 1)]
    tall = max(_LOW, _TALL * max(map(len, sides)))
    slot = _HEIGHT * _WORDS / tall
    scale = min(_scale(list(side.values()), slot) for side in sides)
    ends = [_placed(side, scale, slot) for side in sides]
    labels = "".join(
        f'<ul class="{side}">{"".join(map(_label, each.values()))}</ul>'
        for each, side in zip(ends, ("left", "right"), strict=True)
    )
    bands = "".join(_bands(pairs, ends, scale))
    bars = "".join(_bar(end, side, at) for side in (0, 1) for at, end in enumerate(ends[side].values()))
    what = escape(f"Bytes between {left} on the left and {right} on the right")
    return (
        f'<div class="exchange" style="--tall:{tall:.1f}rem">'
        f'<svg viewBox="0 0 {_WIDTH:.0f} {_HEIGHT:.0f}" preserveAspectRatio="none" role="img" aria-label="{what}">'
        f"{bands}{bars}</svg>{labels}</div>"
    )


def _fewer(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], tuple[int, int]]:
    """Bytes up and down for each pair of names; small ends are combined."""
    whole: dict[tuple[str, str], tuple[int, int]] = {}
    for row in rows:
        _add(whole, (row["left"], row["right"]), row["up"], row["down"])
    kept = [
        set(sorted(totals, key=lambda name: -sum(totals[name]))[:most])
        for totals, most in ((_totals(whole, 0), _LEFT), (_totals(whole, 1), _RIGHT))
    ]
    found: dict[tuple[str, str], tuple[int, int]] = {}
    for pair, (up, down) in whole.items():
        if up + down:
            left, right = (name if name in kept[side] else _OTHERS for side, name in enumerate(pair))
            _add(found, (left, right), up, down)
    return found


def _add(sums: dict[Any, tuple[int, int]], key: Any, up: int, down: int) -> None:
    had = sums.get(key, (0, 0))
    sums[key] = had[0] + up, had[1] + down


def _totals(pairs: Mapping[tuple[str, str], tuple[int, int]], side: int) -> dict[str, tuple[int, int]]:
    """Bytes up and down of each end on a side, the largest first, combined ones last."""
    totals: dict[str, tuple[int, int]] = {}
    for pair, (up, down) in pairs.items():
        _add(totals, pair[side], up, down)
    return dict(sorted(totals.items(), key=lambda each: (each[0] == _OTHERS, -sum(each[1]), each[0])))


def _scale(values: Sequence[tuple[int, int]], slot: float) -> float:
    """The height of a byte: the largest at which all ends of a side have space, at least `slot` each."""
    low, high = 0.0, _HEIGHT / max(sum(map(sum, values)), 1)
    for _ in range(50):
        middle = (low + high) / 2
        if sum(max(slot, sum(each) * middle + _GAP) for each in values) <= _HEIGHT:
            low = middle
        else:
            high = middle
    return low


def _placed(totals: Mapping[str, tuple[int, int]], scale: float, slot: float) -> dict[str, _End]:
    """Each end with its space; what is left over is divided between them."""
    rooms = [max(slot, sum(value) * scale + _GAP) for value in totals.values()]
    spare = (_HEIGHT - sum(rooms)) / len(rooms)
    found, at = {}, 0.0
    for (name, (up, down)), room in zip(totals.items(), rooms, strict=True):
        middle = at + (room + spare) / 2
        height = (up + down) * scale
        found[name] = _End(name, up, down, middle - height / 2, height, middle)
        at += room + spare
    return found


def _bands(
    pairs: Mapping[tuple[str, str], tuple[int, int]], ends: Sequence[Mapping[str, _End]], scale: float
) -> Iterator[str]:
    """Bands from each end on the left to each on the right, in the order of both, so that few cross."""
    order = [{name: at for at, name in enumerate(side)} for side in ends]
    used = [{name: end.top for name, end in side.items()} for side in ends]
    for left, right in sorted(pairs, key=lambda pair: (order[0][pair[0]], order[1][pair[1]])):
        up, down = pairs[left, right]
        height = (up + down) * scale
        a, b = used[0][left], used[1][right]
        used[0][left], used[1][right] = a + height, b + height
        wide = max(height, _LEAST)
        half = _WIDTH / 2
        curve = (
            f"M0 {a:.1f}C{half:.0f} {a:.1f} {half:.0f} {b:.1f} {_WIDTH:.0f} {b:.1f}"
            f"V{b + wide:.1f}C{half:.0f} {b + wide:.1f} {half:.0f} {a + wide:.1f} 0 {a + wide:.1f}Z"
        )
        title = escape(f"{_name(left)} and {_name(right)}: {f.size(up)} up, {f.size(down)} down")
        yield f'<path class="band c{_colour(order[0][left], left)}" d="{curve}"><title>{title}</title></path>'


def _bar(end: _End, side: int, at: int) -> str:
    """A line, because the width of lines does not change when the picture stretches."""
    x = 0 if side == 0 else int(_WIDTH)
    colour = f"c{_colour(at, end.name)}" if side == 0 else "cx"
    bottom = end.top + max(end.height, _LEAST)
    return (
        f'<line class="end {colour}" x1="{x}" x2="{x}" y1="{end.top:.1f}" y2="{bottom:.1f}" stroke-width="8" '
        'vector-effect="non-scaling-stroke"/>'
    )


def _colour(at: int, name: str) -> str:
    return "x" if name == _OTHERS else str(at % _COLOURS)


def _label(end: _End) -> str:
    name = escape(_name(end.name))
    title = escape(f"{f.size(end.up)} up, {f.size(end.down)} down")
    where, words = f"top:{100 * end.middle / _HEIGHT:.2f}%", escape(f.brief_unit(_name(end.name)))
    total = escape(f.size(end.up + end.down))
    return f'<li style="{where}" title="{name}: {title}"><b>{words}</b><span>{total}</span></li>'


def _name(name: str) -> str:
    return f.plain(name) or "(none)"
