"""Problems in the input: all are counted, some are shown, none stops the run."""

from collections import Counter
from typing import Any

from trafficmond.dataclass import asdict, dataclass, field

SHOWN = 20
_TEXT_MAX = 160


@dataclass(frozen=True, slots=True)
class ParseError:
    source: str
    where: str  # "line 17", "offset 4096"
    what: str


@dataclass
class ParseErrors:
    """All damaged places of a run: the first SHOWN in detail, the rest as counts by kind."""

    total: int = 0
    places: list[ParseError] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)

    def line(self, source: str, number: int, kind: str, text: str | bytes = "") -> None:
        """Records a line that could not be used, with its text, shortened."""
        shown = text.decode("utf-8", "backslashreplace") if isinstance(text, bytes) else text
        self._add(source, f"line {number}", kind, shown)

    def offset(self, source: str, offset: int, kind: str, detail: str = "") -> None:
        """Records a place in a file without lines."""
        self._add(source, f"offset {offset}", kind, detail)

    def uncounted(self, kind: str, count: int) -> None:
        self.total += count
        self.kinds[kind] += count

    def as_dict(self) -> dict[str, Any]:
        return {
            "total": self.total,
            "by_kind": dict(self.kinds.most_common()),
            "places": list(map(asdict, self.places)),
        }

    def _add(self, source: str, where: str, kind: str, detail: str) -> None:
        self.total += 1
        self.kinds[kind] += 1
        if len(self.places) < SHOWN:
            text = f"{kind}: {detail}" if detail else kind
            self.places.append(ParseError(source, where, text[:_TEXT_MAX]))
