/* SPDX-License-Identifier: GPL-2.0-only */
/* Puts VLAN tag 5 beside each buffer on its way out, as a VLAN device does. Only the lab's namespaces ever see it. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

SEC("tc")
int tag(struct __sk_buff *skb)
{
	bpf_skb_vlan_push(skb, bpf_htons(ETH_P_8021Q), 5);
	return TC_ACT_UNSPEC; /* on to the next filter */
}

char LICENSE[] SEC("license") = "GPL";
