"""What is made of declarations is what they make now."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_files_are_what_the_declarations_make() -> None:
    """A process of its own: the makers are no package, and their names are ordinary words."""
    program = (
        "import sys; sys.path.insert(0, 'packaging/generate')\n"
        "import pages\n"
        "print(*(path for path, text in pages.pages().items() if (pages.ROOT / path).read_text() != text))\n"
    )
    stale = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert not stale.split(), "run: make docs"


def test_every_mark_of_a_bound_is_a_row() -> None:
    marks = [
        line
        for pattern in ("bpf/*.[ch]", "trafficmond/**/*.py")
        for path in ROOT.glob(pattern)
        for line in path.read_text().splitlines()
        if re.match(r"\s*(#|/\*) bound: ", line)
    ]
    table = (ROOT / "docs/security.md").read_text().split("<!-- made: bounds -->")[1].split("<!-- end -->")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert len(rows) == len(marks) >= 20


def test_values_stay_as_they_are_typed_in_the_pages(tmp_path: Path) -> None:
    command = ["/usr/bin/python3", "packaging/generate", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    page = (tmp_path / "man/trafficctl.1").read_text()
    assert "\nSuch as tcp/443, 53, icmp/8 or ssh,http." in page
    assert not re.findall(r"^(?:Tcp|Udp|Icmp|Human)\b.*", page, re.MULTILINE)
