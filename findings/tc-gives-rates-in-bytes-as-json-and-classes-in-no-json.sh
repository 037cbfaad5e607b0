#!/usr/bin/env bash
# iproute2 6.1.0 (Debian 12): `tc -j qdisc` has "rate": 125000 where `tc qdisc` has 1Mbit, and `tc -j class` prints the
# same text as without -j, with exit status 0.
#
# -j is there so that nobody has to parse the text. One would expect the figures of the text, in its unit or in bit/s, in
# which tc takes and prints every rate, and JSON or an error for every object. The JSON has bytes for each second, with no
# unit, for a rate that was given in bits; what is compared with a limit in bit/s is eight times off. And latency is in
# microseconds there. The rates and counters of classes, for which one has HTB, are to be had as text only: a script that
# reads them as JSON fails at the first character.
#
# Seen: "rate 1Mbit burst 10Kb lat 50ms" and "rate":125000,"burst":10240,"lat":50000; class htb 1:10 ... rate 1Mbit
set -euo pipefail

DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends 'iproute2=6.1.0-*' >/dev/null

unshare --net python3 - <<'PYTHON'
import json
import subprocess


def run(command: str) -> str:
    return subprocess.check_output(command.split(), text=True)


run("tc qdisc add dev lo root handle 1: htb default 10")
run("tc class add dev lo parent 1: classid 1:10 htb rate 1mbit")
run("tc qdisc add dev lo parent 1:10 handle 2: tbf rate 1mbit burst 10k latency 50ms")
text = run("tc qdisc show dev lo").splitlines()[-1]
options = json.loads(run("tc -j qdisc show dev lo"))[-1]["options"]
classes = run("tc -j class show dev lo")
print(text, options, classes, sep="\n")
assert "rate 1Mbit burst 10Kb lat 50ms" in text, "the behaviour changed"
assert options == {"rate": 125000, "burst": 10240, "lat": 50000}, "the behaviour changed"
assert classes.startswith("class htb 1:10"), "the behaviour changed"
PYTHON
