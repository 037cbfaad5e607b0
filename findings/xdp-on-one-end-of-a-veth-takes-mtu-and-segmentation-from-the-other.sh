#!/usr/bin/env bash
# Linux 6.18: to attach a native XDP program to one end of a veth pair changes the other end, where no program is: its
# largest MTU falls from 65,535 to 3,506, and all of its segmentation in hardware but the generic one is off, fixed.
#
# A program is attached to a device, and one expects the device to pay for it. What arrives at a veth is what its peer
# sends, and XDP wants a frame in one page; so the driver limits the sender. Where the ends are in different network
# namespaces, the host and a container, the container's own `ip link set mtu 9000` begins to fail with "mtu greater
# than device maximum", its TSO is off and cannot be turned on, its throughput falls, and nothing in it tells
# why. In generic mode nothing of it happens, and with the program gone all is as before.
#
# Seen (largest MTU, TCP segmentation of the peer): no program 65535 on; native 3506 off [fixed]; generic 65535 on;
#   detached 65535 on
set -euo pipefail

case $(uname -r) in
6.1[89].* | [7-9].*) ;;
*) echo "this kernel is $(uname -r); what is shown here was seen on 6.18"; exit 1 ;;
esac
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends 'ethtool=1:6.1-*' 'xdp-tools=1.3.1-*' >/dev/null

unshare --net bash -euo pipefail <<'SHELL'
ip link add near type veth peer name far
ip link set near up
ip link set far up

far() {
	printf '%s %s\n' "$(ip -d link show far | grep -o 'maxmtu [0-9]*' | cut -d' ' -f2)" \
		"$(ethtool -k far | sed -n 's/^\ttx-tcp-segmentation: //p')"
}
expect() { # CASE WHAT
	seen=$(far)
	echo "$(uname -r), $1: $seen"
	[ "$seen" = "$2" ] || { echo "the behaviour changed"; exit 1; }
}

program=(obj /usr/lib/x86_64-linux-gnu/bpf/xdpfilt_alw_all.o section xdp)
expect "no program" "65535 on"
ip link set near xdpdrv "${program[@]}"
expect "native at the other end" "3506 off [fixed]"
refused=$(ip link set far mtu 9000 2>&1) && { echo "the behaviour changed: the MTU was taken"; exit 1; }
echo "ip link set far mtu 9000: $refused"
ip link set near xdpdrv off
ip link set near xdpgeneric "${program[@]}"
expect "generic at the other end" "65535 on"
ip link set near xdpgeneric off
expect "detached" "65535 on"
SHELL
