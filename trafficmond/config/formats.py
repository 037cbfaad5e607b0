"""The table of log formats, which settings, command line and sinks read."""

from trafficmond.dataclass import dataclass

JOURNAL = "journal"


@dataclass(frozen=True, slots=True)
class Format:
    """A format and its name in `[[log]]` and `--log-format`."""

    name: str
    writer: str  # "module:class" in trafficmond.sinks; the class is created with the Log
    about: str = ""  # its description in the settings
    suffixes: tuple[str, ...] = ()  # suffixes of --log-file that select it
    notes: bool = False  # whether it also gets the daemon's own messages, since it is for people


FORMATS = (
    Format(JOURNAL, "journal:Journal"),
    Format("jsonl", "jsonl:JsonLines", "one JSON object a line", (".jsonl",)),
    Format("json", "json:JsonArray", "one array, always valid; the current file takes twice its size", (".json",)),
    Format("csv", "csv:Csv", "comma-separated values, events only", (".csv",)),
    Format("console", "console:Console", "lines for people", (".log", ".txt"), notes=True),
)
BY_NAME = {each.name: each for each in FORMATS}
BY_SUFFIX = {suffix: each.name for each in FORMATS for suffix in each.suffixes}


def described() -> str:
    """All formats with their descriptions, for the help of the setting."""
    return ", ".join(f"{each.name} ({each.about})" if each.about else each.name for each in FORMATS)
