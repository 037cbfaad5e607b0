"""The pages of the documentation, taken apart: commands, files and links, in the order in which a reader meets them.

A ```console block shows a session: what follows `$ ` is a command, the rest is what it answered when the page was
written. A ```sh block holds commands alone. A comment `# exit 1` after a command says how it ends where that is not 0.
A ```toml, ```json or ```text block that begins with a path in a comment is a file to be there from then on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_EXIT = re.compile(r"\s+# exit (\d+)$")
_FILE = re.compile(r"[#;] (/(?:etc|var|run)/\S+)\n")
_HERE_DOCUMENT = re.compile(r"<<-?\s*'?(\w+)'?")
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.*)$", re.MULTILINE)
_SHELLS = ("console", "sh", "bash")


@dataclass(frozen=True)
class Command:
    """A command as the page shows it; `code` is how it should end."""

    line: int
    text: str
    code: int = 0


@dataclass(frozen=True)
class File:
    """A file that the page shows, path first."""

    line: int
    path: str
    text: str


def steps(page: Path) -> list[Command | File]:
    """What a reader would do, from top to bottom."""
    text = page.read_text(encoding="utf-8")
    found: list[Command | File] = []
    for match in _FENCE.finditer(text):
        line = text.count("\n", 0, match.start()) + 2
        if match[1] in _SHELLS:
            found += _commands(match[2].splitlines(), line, session=match[1] == "console")
        elif file := _FILE.match(match[2]):
            found.append(File(line, file[1], match[2]))
    return found


def _commands(lines: list[str], first: int, *, session: bool) -> Iterator[Command]:
    numbered = iter(enumerate(lines, first))
    for number, line in numbered:
        if session and not line.startswith("$ "):
            continue
        command = line.removeprefix("$ ") if session else line
        if not command.strip() or command.startswith("#"):
            continue
        while command.endswith("\\"):
            command += "\n" + next(numbered)[1]
        if document := _HERE_DOCUMENT.search(command):
            for _, more in numbered:
                command += "\n" + more
                if more == document[1]:
                    break
        code = _EXIT.search(command)
        yield Command(number, _EXIT.sub("", command), int(code[1]) if code else 0)


def links(page: Path) -> list[str]:
    """Where the page's links lead, as written; those of code blocks are no links."""
    return _LINK.findall(_FENCE.sub("", page.read_text(encoding="utf-8")))


def anchors(page: Path) -> set[str]:
    """The names that headings can be linked by, as GitHub and GitLab make them."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in _HEADING.findall(text)}
