#!/usr/bin/env bash
# nftables 1.0.6: a set saved as JSON and loaded again holds a ban that was in its last second for its whole time, and one
# shorter than a second for ever; the same set saved as text comes back as it was.
#
# `nft -j list ruleset` and `nft -j -f` are what programs use, and what one saves before a reboot. One would expect both
# forms to keep the time that is left. The text has milliseconds; the JSON has whole seconds, rounded down (its schema,
# libnftables-json(5), says only "seconds"). And 0 is taken back as "not given": an element without "expires" begins its
# "timeout" anew, one without "timeout" is permanent. So of many bans some are in their last second at any moment, and
# each save and load begins those again.
#
# Seen (2 h of which 900 ms are left; 900 ms): JSON "timeout": 7200, "expires": 0 and 0, 0, back as 2 h and for ever;
#   text back as under 900 ms both
set -euo pipefail

DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends 'nftables=1.0.6-*' >/dev/null
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

unshare --net python3 - "$folder" <<'PYTHON'
import json
import subprocess
import sys
from pathlib import Path

BANS = "{ 192.0.2.1 timeout 2h expires 900ms, 192.0.2.2 timeout 900ms }"


def nft(*words: str) -> str:
    return subprocess.run(["nft", *words], check=True, capture_output=True, text=True).stdout


def elements() -> dict[str, str]:
    """Address -> its times, as the text form shows them."""
    shown = nft("list", "set", "t", "bans").split("elements = {")[1].split("}")[0]
    return {words[0]: " ".join(words[1:]) for words in (part.split() for part in shown.split(","))}


seen = {}
for form, options in {"json": ["-j"], "text": []}.items():
    for command in ("add table t", "add set t bans { type ipv4_addr; flags timeout; }", f"add element t bans {BANS}"):
        nft(*command.split(maxsplit=3))
    path = Path(sys.argv[1], form)
    path.write_text(nft(*options, "list", "ruleset"))
    if form == "json":
        (bans,) = (row["set"]["elem"] for row in json.loads(path.read_text())["nftables"] if "set" in row)
        saved = [(ban["elem"]["timeout"], ban["elem"]["expires"]) for ban in bans]
        print("saved as JSON (timeout, expires):", saved)
        assert saved == [(7200, 0), (0, 0)], "the behaviour changed"
    nft("flush", "ruleset")
    nft(*options, "-f", str(path))
    seen[form] = elements()
    print(f"loaded from {form}:", seen[form])
    nft("flush", "ruleset")

assert seen["json"]["192.0.2.1"].startswith("timeout 2h expires 1h59m"), "the behaviour changed"
assert seen["json"]["192.0.2.2"] == "", "the behaviour changed"
assert seen["text"]["192.0.2.1"].endswith("ms") and "h" not in seen["text"]["192.0.2.1"].split("expires")[1]
assert seen["text"]["192.0.2.2"].startswith("timeout 900ms expires"), "the behaviour changed"
PYTHON
