#!/usr/bin/env bash
# nftables 1.0.6 on Linux 6.18: what does not fit into a set any more is refused as "Too many open files in system".
#
# A set of bans has a size, so that it cannot grow for ever, and one day a list is longer. One would expect the set to be
# named as full, as ipset has it ("Hash is full, cannot add more elements"), or at worst "No space left". The kernel
# answers ENFILE, the error of the host's table of open files, and nft prints the system's words for it, so one looks for
# leaking descriptors, fs.file-max and LimitNOFILE. The set is not said to be full anywhere: its list has its size and
# its elements, which nobody counts. Nothing of the command is in then, not even what would have fitted, and the list of
# bans stays as it was before the first of them.
#
# Seen, with size 4 and five addresses: "Error: Could not process rule: Too many open files in system"; the set is empty;
#   ipset: "Hash is full, cannot add more elements"
set -euo pipefail

DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends 'nftables=1.0.6-*' 'ipset=7.17-*' >/dev/null
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

unshare --net bash -eu -s "$folder" <<'SHELL'
nft 'add table t; add set t banned { type ipv4_addr; size 4; }'
nft 'add element t banned { 192.0.2.1, 192.0.2.2, 192.0.2.3, 192.0.2.4, 192.0.2.5 }' 2>"$1/nft" || true
nft list set t banned >"$1/listed"
ipset create banned hash:ip maxelem 4
for host in 1 2 3 4 5; do ipset add banned "192.0.2.$host" 2>"$1/ipset" || true; done
cat "$1/nft" "$1/listed" "$1/ipset"
SHELL

changed() {
	echo "the behaviour changed"
	exit 1
}
grep -q "Too many open files in system" "$folder/nft" || changed
grep -q "Hash is full" "$folder/ipset" || changed
if grep -q 192.0.2 "$folder/listed"; then changed; fi
