/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The usual design, done with care: the kernel's longest-prefix trie for rules, a per-CPU LRU hash for flows, and the
 * monotonic clock for each packet. What trafficmon's own structures are measured against.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct flow_key {
	__u32 src[4], dst[4];
	__be16 sport, dport;
	__u8 proto, pad;
	__u16 vlan;
};

struct flow {
	__u64 packets, bytes, first, last;
	__u32 rule;
	__u32 tcp_flags;
};

struct rule_key {
	__u32 prefixlen;
	__be32 addr;
};

struct rule_key6 {
	__u32 prefixlen;
	__u32 addr[4];
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 20);
	__type(key, struct rule_key);
	__type(value, __u32);
} usual_rules SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 18);
	__type(key, struct rule_key6);
	__type(value, __u32);
} usual_rules6 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_PERCPU_HASH);
	__uint(max_entries, 1 << 17);
	__type(key, struct flow_key);
	__type(value, struct flow);
} usual_flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct flow);
} usual_totals SEC(".maps");

struct vlan_tag {
	__be16 tci, ethertype;
};

static __always_inline int parse(void *data, void *end, struct flow_key *key, __u32 *tcp_flags, int *ipv6)
{
	struct ethhdr *eth = data;
	void *at = eth + 1;
	__be16 ethertype;
	int i;

	if (at > end)
		return -1;
	ethertype = eth->h_proto;
#pragma unroll
	for (i = 0; i < 2; i++) {
		struct vlan_tag *tag = at;

		if (ethertype != bpf_htons(ETH_P_8021Q) && ethertype != bpf_htons(ETH_P_8021AD))
			break;
		if ((void *)(tag + 1) > end)
			return -1;
		if (!key->vlan)
			key->vlan = bpf_ntohs(tag->tci) & 0xfff;
		ethertype = tag->ethertype;
		at = tag + 1;
	}
	if (ethertype == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = at;

		if ((void *)(ip + 1) > end || ip->ihl < 5)
			return -1;
		key->src[3] = ip->saddr;
		key->dst[3] = ip->daddr;
		key->src[2] = key->dst[2] = bpf_htonl(0xffff);
		key->proto = ip->protocol;
		if (ip->frag_off & bpf_htons(0x1fff))
			return 0;
		at += ip->ihl * 4;
	} else if (ethertype == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip = at;

		if ((void *)(ip + 1) > end)
			return -1;
		__builtin_memcpy(key->src, &ip->saddr, 16);
		__builtin_memcpy(key->dst, &ip->daddr, 16);
		key->proto = ip->nexthdr;
		*ipv6 = 1;
		at = ip + 1;
	} else {
		return -1;
	}
	if (key->proto == IPPROTO_TCP) {
		struct tcphdr *tcp = at;

		if ((void *)(tcp + 1) > end)
			return -1;
		key->sport = tcp->source;
		key->dport = tcp->dest;
		*tcp_flags = ((__u8 *)tcp)[13];
	} else if (key->proto == IPPROTO_UDP) {
		struct udphdr *udp = at;

		if ((void *)(udp + 1) > end)
			return -1;
		key->sport = udp->source;
		key->dport = udp->dest;
	}
	return 0;
}

static __always_inline __u32 rule_of(const struct flow_key *key, int ipv6)
{
	__u32 *rule;

	if (ipv6) {
		struct rule_key6 at = {.prefixlen = 128};

		__builtin_memcpy(at.addr, key->src, 16);
		rule = bpf_map_lookup_elem(&usual_rules6, &at);
	} else {
		struct rule_key at = {.prefixlen = 32, .addr = key->src[3]};

		rule = bpf_map_lookup_elem(&usual_rules, &at);
	}
	return rule ? *rule : 0;
}

SEC("xdp")
int usual(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct flow_key key = {};
	__u32 tcp_flags = 0, zero = 0, rule;
	struct flow *totals, *flow;
	int ipv6 = 0;
	__u64 now, bytes = end - data;

	totals = bpf_map_lookup_elem(&usual_totals, &zero);
	if (!totals)
		return XDP_ABORTED;
	totals->packets++;
	totals->bytes += bytes;
	if (parse(data, end, &key, &tcp_flags, &ipv6))
		return XDP_PASS;
	now = bpf_ktime_get_ns();
	rule = rule_of(&key, ipv6);
	flow = bpf_map_lookup_elem(&usual_flows, &key);
	if (flow) {
		flow->packets++;
		flow->bytes += bytes;
		flow->last = now;
		flow->rule = rule;
		flow->tcp_flags |= tcp_flags;
	} else {
		struct flow fresh = {
			.packets = 1,
			.bytes = bytes,
			.first = now,
			.last = now,
			.rule = rule,
			.tcp_flags = tcp_flags,
		};

		bpf_map_update_elem(&usual_flows, &key, &fresh, BPF_NOEXIST);
	}
	return rule >> 31 ? XDP_DROP : XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
