"""Writes what is made of declarations in the code, files and parts of pages: python3 packaging/generate/pages.py."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(HERE)]
sys.dont_write_bytecode = True

import bounds  # noqa: E402
import detectors  # noqa: E402
import settings  # noqa: E402
from rendering import reference  # noqa: E402

from trafficmond.notifier.settings import Settings as NotifySettings  # noqa: E402


def pages() -> Mapping[Path, str]:
    """The text of each, by its path from the project's root."""
    found, security, operations = (Path(f"docs/{name}.md") for name in ("detectors", "security", "operations"))
    notifications = Path("docs/notifications.md")
    return {
        **settings.documents(),
        found: detectors.page((ROOT / found).read_text()),
        security: between(security, "bounds", bounds.table(ROOT)),
        operations: between(operations, "ledger", bounds.ledger()),
        notifications: between(notifications, "settings", reference(NotifySettings).strip()),
    }


def between(page: Path, name: str, text: str) -> str:
    """The page with the part of that name replaced."""
    begin, end = f"<!-- made: {name} -->", "<!-- end -->"
    part = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    return part.sub(lambda _: f"{begin}\n\n{text}\n\n{end}", (ROOT / page).read_text())


if __name__ == "__main__":
    for path, text in pages().items():
        (ROOT / path).write_text(text)
