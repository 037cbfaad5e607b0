#!/usr/bin/env bash
# nftables 1.0.6 (Debian 12): in a set with `auto-merge`, an address that is added for two seconds takes the permanent ban of
# the address beside it away with it.
#
# A list of banned networks is an interval set with timeouts, and auto-merge is what lets overlapping entries in at all
# (without it `nft` refuses them). One would expect it to join neighbours only where they share a fate, or to keep the
# longer time. It joins whatever touches, and the range has the time of what came last: 192.0.2.5 for good and then
# 192.0.2.6 for two seconds make 192.0.2.5-192.0.2.6 for two seconds, after which neither is banned. The other way round
# the second one is banned for good. Both commands succeed, and the first entry can no longer be deleted by its address.
# The joining is done by nft itself, not by the kernel. Where times matter, a set has no auto-merge.
#
# Seen: "192.0.2.5-192.0.2.6 timeout 2s expires 1s980ms", then an empty set; delete: "element does not exist"
set -euo pipefail

DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends 'nftables=1.0.6-*' >/dev/null
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

unshare --net bash -eu -s "$folder" <<'SHELL'
nft 'add table t; add set t banned { type ipv4_addr; flags interval, timeout; auto-merge; }'
nft 'add element t banned { 192.0.2.5 }'
nft 'add element t banned { 192.0.2.6 timeout 2s }'
nft list set t banned | tee "$1/joined"
nft 'delete element t banned { 192.0.2.5 }' 2>&1 | tee "$1/deleted" || true
sleep 3
nft list set t banned | tee "$1/later"
SHELL

changed() {
	echo "the behaviour changed"
	exit 1
}
grep -q "192.0.2.5-192.0.2.6 timeout 2s" "$folder/joined" || changed
grep -q "element does not exist" "$folder/deleted" || changed
if grep -q 192.0.2 "$folder/later"; then changed; fi
