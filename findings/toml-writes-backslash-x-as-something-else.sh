#!/usr/bin/env bash
# PyPI's `toml` 0.10.2 (the last release; Debian 12 and 13: python3-toml 0.10.2-1): what it writes is not what it was given,
# where a text has a backslash before an x.
#
# A program that keeps its settings in TOML writes Windows paths and regular expressions without a thought: escaping is
# the library's work, and it escapes a backslash everywhere else. To turn Python's \x1b into TOML's \u001b it looks
# for the two characters \x in the repr of the text, after it has halved the doubled backslashes. So a folder that begins
# with x gives a file that no reader takes back, its own included, and \x41 of an expression comes back as "A" with no
# error anywhere. An encoder with a dump function of one's own for str (dump_funcs) avoids it.
#
# Seen, written and read back by toml and by Python's tomllib alike:
#   C:\new  ok      C:\xampp  error      \x41  A
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet --disable-pip-version-check install toml==0.10.2 2>/dev/null

"$folder/venv/bin/python" - <<'PYTHON'
import tomllib

import toml


def back(read, text):
    try:
        return read(toml.dumps({"text": text}))["text"]
    except (toml.TomlDecodeError, tomllib.TOMLDecodeError):
        return "error"


seen = {text: (back(toml.loads, text), back(tomllib.loads, text)) for text in (r"C:\new", r"C:\xampp", r"\x41")}
for text, (own, other) in seen.items():
    print(f"{text}: toml reads {own}, tomllib {other}")
assert list(seen.values()) == [(r"C:\new", r"C:\new"), ("error", "error"), ("A", "A")], "the behaviour changed"
PYTHON
