#!/usr/bin/env bash
# Linux 6.18 with nftables 1.0.6: to add an address once more to a set with timeouts gives it the new time even where that
# is shorter, and the set's own where none is given; a comment given along the second time is thrown away in silence.
#
# Several jails of fail2ban, or a feed beside them, share one set of nftables. `nft add element` of what is there is no
# error, and for years it was nothing at all: the first time stood (ipset says "already added" without -exist). One
# would expect that, or the later end. Since Linux 6.12 ("set element timeout update support") the last
# caller decides: a ban of a week becomes one of ten seconds when a jail with a short bantime sees the same address.
# It is the kernel that changed, under the same nft; a comment given along is still ignored.
#
# Seen (1 h, then ten seconds; one minute, then none given in a set with 10 min): under 10 s left; 10 min left
set -euo pipefail

case $(uname -r) in
6.1[89].* | [7-9].*) ;;
*) echo "this kernel is $(uname -r); what is shown here was seen on 6.18"; exit 1 ;;
esac
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends 'nftables=1.0.6-*' >/dev/null

unshare --net python3 - <<'PYTHON'
import json
import platform
import subprocess


def nft(*words: str) -> str:
    return subprocess.run(["nft", *words], check=True, capture_output=True, text=True).stdout


def banned(name: str, *times: str) -> dict[str, object]:
    """One address added once for each of the times; what the set then holds."""
    for time in times:
        nft("add", "element", "t", name, f"{{ 192.0.2.1 {time} }}")
    (row,) = (row["set"] for row in json.loads(nft("-j", "list", "set", "t", name))["nftables"] if "set" in row)
    (element,) = row["elem"]
    return element["elem"]


nft("add", "table", "t")
for name in "abc":
    nft("add", "set", "t", name, "{ type ipv4_addr; flags timeout; timeout 10m; }")
seen = {
    "1 h, then 10 s": banned("a", "timeout 1h", "timeout 10s"),
    "1 min, then none given": banned("b", "timeout 1m", ""),
    "then with a comment": banned("c", "timeout 1m", 'timeout 1m comment "second"'),
}
for case, element in seen.items():
    print(f"{platform.release()}, {case}: {element}")
first, second, third = seen.values()
assert first["timeout"] == 10 and first["expires"] <= 10, "the behaviour changed"
assert second["expires"] > 590, "the behaviour changed"
assert "comment" not in third, "the behaviour changed"
PYTHON
