/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A flood from inside the kernel: run through BPF_PROG_TEST_RUN as live frames, it gives each copy of an Ethernet,
 * IPv4, UDP frame its own source and sends it out of an interface. Only the lab's namespaces ever see it.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct settings {
	__u32 ifindex; /* out of which */
	__u32 base;    /* sources are base + (n modulo 2^bits) * 2^shift, host order */
	__u16 bits, shift;
	__u32 random; /* n is random, else counts up */
	__u64 sent;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct settings);
} flood_settings SEC(".maps");

/* RFC 1624: the header's checksum after one 32-bit word has changed. */
static __always_inline __u16 adjusted(__u16 check, __be32 from, __be32 to)
{
	__u32 sum = (__u16)~check;

	sum += (__u16)~from + (__u16) ~(from >> 16) + (__u16)to + (to >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

SEC("xdp")
int flood(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);
	struct udphdr *udp = (void *)(ip + 1);
	__u32 zero = 0;
	struct settings *s = bpf_map_lookup_elem(&flood_settings, &zero);
	__u64 n;
	__be32 source;

	if (!s || (void *)(udp + 1) > end)
		return XDP_ABORTED;
	n = __sync_fetch_and_add(&s->sent, 1);
	if (s->random)
		n = bpf_get_prandom_u32();
	source = bpf_htonl(s->base + ((__u32)(n & ((1ull << (s->bits & 31)) - 1)) << (s->shift & 31)));
	ip->check = adjusted(ip->check, ip->saddr, source);
	ip->saddr = source;
	return bpf_redirect(s->ifindex, 0);
}

char LICENSE[] SEC("license") = "GPL";
