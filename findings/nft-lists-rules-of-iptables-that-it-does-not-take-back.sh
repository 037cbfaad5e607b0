#!/usr/bin/env bash
# nftables 1.0.6 with iptables 1.8.9 (Debian 12): `nft list ruleset` prints rules that iptables-nft made with `-m recent`
# or `-m connlimit` without what they compare, and `nft -f` refuses that very text.
#
# `nft list ruleset > file` and `nft -f file` is how a rule set is saved and brought back, and since iptables itself is
# iptables-nft, its rules are in that list. One would expect the list either to hold them whole or to lack them. What is
# printed is `xt match recent`: no name of the list, no seconds, no limit. Somebody who reads the list to learn, or to
# translate, what a host drops sees a rule that drops every packet to the port; a backup made so cannot be loaded at all.
#
# Seen: "tcp dport 22 xt match recent counter packets 0 bytes 0 drop"; nft -c -f: "unsupported xtables compat expression"
set -euo pipefail

DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends 'nftables=1.0.6-*' 'iptables=1.8.9-*' >/dev/null
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

unshare --net bash -eu -s "$folder" <<'SHELL'
iptables-nft -A INPUT -p tcp --dport 22 -m recent --name guesses --rcheck --seconds 60 -j DROP
iptables-nft -A INPUT -p tcp --dport 80 -m connlimit --connlimit-above 20 -j REJECT
nft list ruleset >"$1/listed" 2>/dev/null
nft -c -f "$1/listed" >"$1/said" 2>&1 && { echo "nft takes its own list back: the behaviour changed"; exit 1; }
cat "$1/listed" "$1/said"
SHELL

changed() {
	echo "the behaviour changed"
	exit 1
}
grep -q "tcp dport 22 xt match recent counter packets 0 bytes 0 drop" "$folder/listed" || changed
grep -q "tcp dport 80 xt match connlimit counter packets 0 bytes 0 reject" "$folder/listed" || changed
grep -q "unsupported xtables compat expression" "$folder/said" || changed
