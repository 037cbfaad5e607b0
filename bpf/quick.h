/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * The usual frame: Ethernet with at most one VLAN tag, an IPv4 header of 20 bytes that is not a fragment or an IPv6
 * header without extensions, TCP or UDP, all lengths valid. Its packet is kept in registers: writing it to the CPU's
 * map and reading it back is the largest part of a packet's cost. All other frames go to tm_parse(), whose result for
 * usual frames is the same (tests/lab/test_lab_parser.py).
 *
 * TCP and UDP are distinguished by arithmetic on the packet's values: so the verifier cannot tell them apart, and
 * checks what follows once for both.
 */
#pragma once

#include "parse.h"

/* Not with bcc, which inlines everything that follows once more for each way there: the program would be too long. */
#ifdef TM_BCC
#define TM_QUICK 0
#else
#define TM_QUICK 1
#endif

struct tm_quick {
	const void *data, *end;
	__u32 wire_len; /* of the frame, of which `end` may hold less */
	__u32 link_len; /* bytes before the IP header */
};

/* Moves past what is before the IP header. Returns the EtherType, in network order; 0 if the frame is not usual. */
static __always_inline __be16 tm_quick_link(struct tm_quick *q, struct tm_packet *p)
{
	const struct tm_ethernet *eth = q->data;
	const struct tm_vlan *tag = q->data + sizeof(*eth);

	q->link_len = sizeof(*eth);
	if (q->data + sizeof(*eth) + sizeof(*tag) > q->end)
		return 0;
	if (eth->type != tm_htons(TM_ETH_8021Q))
		return eth->type;
	q->link_len += sizeof(*tag);
	p->key.vlan = tm_ntohs(tag->tci) & 0xfff;
	return tag->type;
}

/* TCP or UDP at `offset`, where at least the bytes of a TCP header are there; `left`: bytes after the IP header. */
static __always_inline int tm_quick_transport(const struct tm_quick *q, __u32 offset, __u32 left, __u32 proto,
					      struct tm_packet *p)
{
	const struct tm_tcp *tcp = q->data + offset;
	const struct tm_udp *udp = q->data + offset;
	__u64 is_tcp = (proto - (__u64)TM_PROTO_UDP) >> 32; /* 0xffffffff, or 0 for UDP */
	__u32 size;

	if ((proto - TM_PROTO_TCP) * (proto - TM_PROTO_UDP))
		return 0;
	__asm__ __volatile__("" : "+r"(is_tcp)); /* or the compiler branches */
	size = ((tcp->offset >> 4) * 4 & is_tcp) | (tm_ntohs(udp->length) & ~is_tcp);
	if (size < sizeof(*udp) + (is_tcp & (sizeof(*tcp) - sizeof(*udp))) || size > left)
		return 0;
	size = (size & is_tcp) | (sizeof(*udp) & ~is_tcp);
	p->key.sport = tcp->sport;
	p->key.dport = tcp->dport;
	p->key.proto = proto;
	p->what = tm_ntohs(tcp->dport) + (TM_WHAT_UDP & ~is_tcp); /* TM_WHAT_TCP is 0 */
	p->tcp_flags = tcp->flags & is_tcp;
	p->tcp_ack = tcp->acknowledgement & is_tcp;
	if ((p->tcp_flags & (TM_TCP_SYN | TM_TCP_ACK)) == TM_TCP_SYN)
		p->tcp_ack = tcp->sequence;
	p->wire_len = q->wire_len;
	p->header_len = offset + size;
	p->payload_len = left - size;
	p->addressed = 1;
	return 1;
}

/* Whether *p, which was zero except for the VLAN, is filled as tm_parse() would have done. */
static __always_inline int tm_quick_ipv4(const struct tm_quick *q, struct tm_packet *p)
{
	const void *at = q->data + q->link_len;
	const struct tm_ipv4 *ip = at;
	__u32 *src = (__u32 *)p->key.src, *dst = (__u32 *)p->key.dst, left;

	if (at + sizeof(*ip) + sizeof(struct tm_tcp) > q->end)
		return 0;
	left = tm_ntohs(ip->total_length) - sizeof(*ip);
	if (ip->version_ihl != 0x45 || ip->fragment & tm_htons(TM_IP_MORE_FRAGMENTS | TM_IP_FRAGMENT_OFFSET) ||
	    left > q->wire_len - q->link_len - sizeof(*ip))
		return 0;
	src[2] = dst[2] = tm_htonl(0xffff);
	src[3] = ip->src;
	dst[3] = ip->dst;
	p->ttl = ip->ttl;
	return tm_quick_transport(q, q->link_len + sizeof(*ip), left, ip->protocol, p);
}

static __always_inline int tm_quick_ipv6(const struct tm_quick *q, struct tm_packet *p)
{
	const void *at = q->data + q->link_len;
	const struct tm_ipv6 *ip = at;
	__u32 *src = (__u32 *)p->key.src, *dst = (__u32 *)p->key.dst, left;
	int i;

	if (at + sizeof(*ip) + sizeof(struct tm_tcp) > q->end)
		return 0;
	left = tm_ntohs(ip->payload_length);
	if (*(const __u8 *)at >> 4 != 6 || left > q->wire_len - q->link_len - sizeof(*ip))
		return 0;
	for (i = 0; i < 4; i++) {
		src[i] = ip->src[i];
		dst[i] = ip->dst[i];
	}
	p->key.scope = TM_SCOPE_IPV6;
	p->ttl = ip->hop_limit;
	return tm_quick_transport(q, q->link_len + sizeof(*ip), left, ip->next_header, p);
}
