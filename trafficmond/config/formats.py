"""The formats of logs, a row each: settings, command line and sinks read this table."""

from __future__ import annotations

from dataclasses import dataclass

JOURNAL = "journal"


@dataclass(frozen=True, slots=True)
class Format:
    """A format by its name in `[[log]]` and `--log-format`."""

    name: str
    writer: str  # "module:class" in trafficmond.sinks, which is made of the Log
    about: str = ""  # what the settings say of it
    suffixes: tuple[str, ...] = ()  # of files that --log-file alone means it by
    notes: bool = False  # whether it is for people, who read the daemon's own messages too


FORMATS = (
    Format(JOURNAL, "journal:Journal"),
    Format("jsonl", "jsonl:JsonLines", "one JSON object a line", (".jsonl",)),
    Format(
        "json", "json:JsonArray", "one array, valid at every moment; its current file takes twice its size", (".json",)
    ),
    Format("csv", "csv:Csv", "comma-separated values, events only", (".csv",)),
    Format("console", "console:Console", "lines for people", (".log", ".txt"), notes=True),
)
BY_NAME = {each.name: each for each in FORMATS}
BY_SUFFIX = {suffix: each.name for each in FORMATS for suffix in each.suffixes}


def described() -> str:
    """All of them, for the help of the setting."""
    return ", ".join(f"{each.name} ({each.about})" if each.about else each.name for each in FORMATS)
