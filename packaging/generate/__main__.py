"""Writes man pages and shell completions from the declarations in the code: python3 packaging/generate FOLDER."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE)]
sys.dont_write_bytecode = True

import bash  # noqa: E402
import fish  # noqa: E402
import man  # noqa: E402
import zsh  # noqa: E402
from commands import client_commands  # noqa: E402


def main() -> None:
    """FOLDER/man/* and FOLDER/completions/*."""
    folder = Path(sys.argv[1])
    client = client_commands()
    pages = {f"man/{name}": text for name, text in man.pages(HERE.parent / "man", client).items()}
    shells = {
        "trafficctl": bash.script(client),
        "_trafficctl": zsh.script(client),
        "trafficctl.fish": fish.script(client),
    }
    for name, text in (pages | {f"completions/{name}": text for name, text in shells.items()}).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


main()
