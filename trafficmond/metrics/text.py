"""Metric families as OpenMetrics text 1.0 (https://prometheus.io/docs/specs/om/open_metrics_spec/) and as the older
Prometheus text format 0.0.4, which node_exporter's textfile collector and promtool read. Pure."""

from collections.abc import Iterable, Mapping

from trafficmond.dataclass import dataclass

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"

_UNITS = ("bytes", "seconds")

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: `name` is without the `_total` that a counter's samples carry."""

    name: str
    kind: str  # counter or gauge
    help: str
    samples: tuple[tuple[Labels, float], ...]


def openmetrics(families: Iterable[Family]) -> str:
    """The exposition. A family without samples is left out."""
    lines: list[str] = []
    for family in families:
        if not family.samples:
            continue
        name = family.name
        lines.append(f"# TYPE {name} {family.kind}")
        unit = name.rpartition("_")[2]
        if unit in _UNITS:
            lines.append(f"# UNIT {name} {unit}")
        lines.append(f"# HELP {name} {_escaped(family.help)}")
        sample = f"{name}_total" if family.kind == "counter" else name
        for labels, value in family.samples:
            inside = ",".join(f'{key}="{_escaped(label)}"' for key, label in labels.items())
            lines.append(f"{sample}{{{inside}}} {_number(value)}" if inside else f"{sample} {_number(value)}")
    return "\n".join([*lines, "# EOF", ""])


def prometheus(text: str) -> str:
    """`openmetrics` text in the older format, where a counter's name has its `_total` everywhere and there is no UNIT.
    `# EOF` stays: to the older format it is a comment."""
    lines = text.splitlines()
    counters = {line.split()[2] for line in lines if line.startswith("# TYPE ") and line.endswith(" counter")}

    def older(line: str) -> str:
        mark, keyword, name, *rest = line.split(" ", 3)
        if mark == "#" and keyword in ("TYPE", "HELP") and name in counters:
            name += "_total"
        return " ".join([mark, keyword, name, *rest])

    kept = (line for line in lines if not line.startswith("# UNIT "))
    return "\n".join([*(older(line) if line.startswith(("# TYPE", "# HELP")) else line for line in kept), ""])


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
