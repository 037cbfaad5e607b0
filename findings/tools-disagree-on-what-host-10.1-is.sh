#!/usr/bin/env bash
# One address as a person types it, in the tools of one host (Debian 12: tcpdump 4.99.3, iptables 1.8.9, nftables 1.0.6,
# iproute2 6.1.0): `10.1` and `010.0.0.1` are other hosts in each.
#
# What is dropped by one tool is looked for with the other, by the same words. One would expect a short or padded address
# to be refused, or to be what `ping` takes it for (10.0.0.1; leading zeros octal). 10.1 is the host 10.1.0.0 for
# iptables and ip, an error for nft, and for tcpdump, though it is asked for a *host*, the whole of 10.1.0.0/16.
# 010.0.0.1 is 8.0.0.1, somebody else's, for iptables, nft and ip, and 10.0.0.1 for tcpdump: a capture "of the address
# that was just dropped" shows that traffic still flows.
#
# Seen:  10.1: getaddrinfo 10.0.0.1, ip 10.1.0.0, iptables 10.1.0.0, nft refuses, tcpdump 10.1.0.0/16
#        010.0.0.1: getaddrinfo 8.0.0.1, ip 8.0.0.1, iptables 8.0.0.1, nft 8.0.0.1, tcpdump 10.0.0.1
set -euo pipefail

DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
	'tcpdump=4.99.3-*' 'iptables=1.8.9-*' 'nftables=1.0.6-*' 'iproute2=6.1.0-*' >/dev/null

address_of() { # the first address of these lines, or "refused"
	grep -oE '[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+' | grep -v '^127\.' | head -n 1 || echo refused
}

of_tcpdump() { # the first address that the filter compares with, and the mask before it
	tcpdump -y EN10MB -d "ip src host $1" | awk '/and +#/ { mask = " & " $3 } /jeq/ && seen++ { print $3 mask; exit }'
}

ask() {
	python3 -c 'import socket, sys; print("getaddrinfo", socket.getaddrinfo(sys.argv[1], None)[0][4][0])' "$1"
	unshare --net bash -c "ip addr add $1/32 dev lo && ip -4 -o addr show lo" | address_of | sed 's/^/ip /'
	unshare --net bash -c "iptables-nft -A INPUT -s $1 && iptables-nft -S INPUT" | address_of | sed 's/^/iptables /'
	unshare --net bash -c "nft 'add table t; add chain t c; add rule t c ip saddr $1' && nft list table t" 2>/dev/null |
		address_of | sed 's/^/nft /'
	echo "tcpdump $(of_tcpdump "$1")"
}

expect() {
	found=$(ask "$1" | paste -sd ,)
	echo "$1: $found"
	[ "$found" = "$2" ] || { echo "the behaviour changed" && exit 1; }
}

expect 10.1 "getaddrinfo 10.0.0.1,ip 10.1.0.0,iptables 10.1.0.0,nft refused,tcpdump #0xa010000 & #0xffff0000"
expect 010.0.0.1 "getaddrinfo 8.0.0.1,ip 8.0.0.1,iptables 8.0.0.1,nft 8.0.0.1,tcpdump #0xa000001"
