/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* What tunnels carry, read by the same parser. Only the outer packet counts. An unreadable inner packet is ignored. */
#pragma once

#include "parse.h"

#define TM_PROTO_IPIP 4
#define TM_PROTO_IPV6 41
#define TM_PROTO_GRE 47

#define TM_PORT_VXLAN 4789
#define TM_PORT_VXLAN_LINUX 8472 /* Linux's own default, and so flannel's and Cilium's */
#define TM_PORT_GENEVE 6081

#define TM_ETH_BRIDGED 0x6558 /* Ethernet in GRE or Geneve */
#define TM_ETH_ERSPAN 0x88be  /* types I and II */
#define TM_ETH_ERSPAN_3 0x22eb

/* RFC 2784, 2890; version 0 without source routes */
struct tm_gre {
	__be16 flags;
	__be16 type;
};

#define TM_GRE_CHECKSUM 0x8000
#define TM_GRE_ROUTING 0x4000
#define TM_GRE_KEY 0x2000
#define TM_GRE_SEQUENCE 0x1000
#define TM_GRE_VERSION 0x0007

/* draft-foschiano-erspan-03: eight bytes; four more in type III, and again eight where it says so */
struct tm_erspan {
	__be16 version_vlan;
	__be16 session; /* ten bits */
	__be32 index;
};

#define TM_ERSPAN_SESSION 0x3ff
#define TM_ERSPAN_3_SUBHEADER 1 /* bit 0 of the last of the four */

/* RFC 7348 and RFC 8926, whose headers differ only in their first four bytes */
struct tm_overlay {
	__u8 first; /* VXLAN: flags; Geneve: version and length of the options in words */
	__u8 second;
	__be16 type; /* Geneve only */
	__be32 vni;  /* 24 bits and eight reserved */
};

#define TM_VXLAN_HAS_VNI 0x08

/* The kind of tunnel, by the outer headers. The inner packet of a fragment is incomplete. */
static __always_inline __u32 tm_tunnel(const struct tm_packet *p)
{
	__u16 port = tm_ntohs(p->key.dport);

	if (p->bits & (TM_BIT_FRAGMENT | TM_BIT_MORE_FRAGMENTS))
		return TM_NO_TUNNEL;
	if (p->key.proto == TM_PROTO_IPIP || p->key.proto == TM_PROTO_IPV6)
		return TM_IPIP;
	if (p->key.proto == TM_PROTO_GRE)
		return TM_GRE;
	if (p->key.proto != TM_PROTO_UDP)
		return TM_NO_TUNNEL;
	if (port == TM_PORT_VXLAN || port == TM_PORT_VXLAN_LINUX)
		return TM_VXLAN;
	return port == TM_PORT_GENEVE ? TM_GENEVE : TM_NO_TUNNEL;
}

/* Like tm_take(), but also within the packet. */
static __always_inline const void *tm_take_whole(struct tm_cursor *c, __u32 size)
{
	return c->left < size ? (void *)0 : tm_take(c, size);
}

/* While an inner packet is read, its key has the number and the kind of the tunnel, as in struct tm_inner. */
static __always_inline void tm_number(struct tm_packet *in, __u32 number)
{
	in->key.ifindex = number;
	in->key.scope |= TM_SCOPE_NUMBERED;
}

/* ERSPAN after GRE: a mirrored Ethernet frame. Returns TM_ETH_BRIDGED, 0 if it cannot be read. */
static __always_inline __u16 tm_parse_erspan(struct tm_cursor *c, struct tm_packet *in, int third)
{
	const struct tm_erspan *erspan = tm_take_whole(c, sizeof(*erspan));
	const __u8 *more;

	if (!erspan)
		return 0;
	tm_number(in, tm_ntohs(erspan->session) & TM_ERSPAN_SESSION);
	if (third) {
		more = tm_take_whole(c, 4);
		if (!more || (more[3] & TM_ERSPAN_3_SUBHEADER && !tm_take_whole(c, 8)))
			return 0;
	}
	return TM_ETH_BRIDGED;
}

/* Each of these moves past a tunnel's header and returns the EtherType of what follows, 0 if it cannot be read. */
static __always_inline __u16 tm_parse_gre(struct tm_cursor *c, struct tm_packet *in)
{
	const struct tm_gre *gre = tm_take_whole(c, sizeof(*gre));
	const __be32 *key;
	__u16 flags, type;

	if (!gre)
		return 0;
	flags = tm_ntohs(gre->flags);
	type = tm_ntohs(gre->type);
	if (flags & (TM_GRE_ROUTING | TM_GRE_VERSION))
		return 0;
	if (flags & TM_GRE_CHECKSUM && !tm_take_whole(c, 4))
		return 0;
	if (flags & TM_GRE_KEY) {
		key = tm_take_whole(c, sizeof(*key));
		if (!key)
			return 0;
		tm_number(in, tm_htonl(*key));
	}
	if (flags & TM_GRE_SEQUENCE && !tm_take_whole(c, 4))
		return 0;
	if (type != TM_ETH_ERSPAN && type != TM_ETH_ERSPAN_3)
		return type;
	in->key.verdict = TM_ERSPAN;
	if (type == TM_ETH_ERSPAN && !(flags & TM_GRE_SEQUENCE))
		return TM_ETH_BRIDGED; /* type I has no header of its own */
	return tm_parse_erspan(c, in, type == TM_ETH_ERSPAN_3);
}

static __always_inline __u16 tm_parse_overlay(struct tm_cursor *c, struct tm_packet *in)
{
	const struct tm_overlay *header = tm_take_whole(c, sizeof(*header));
	__u32 options;

	if (!header)
		return 0;
	tm_number(in, tm_htonl(header->vni) >> 8);
	if (in->key.verdict == TM_VXLAN)
		return header->first & TM_VXLAN_HAS_VNI ? TM_ETH_BRIDGED : 0;
	options = header->first * 4;
	if (options > 0xff) /* two bits of version before six of length: only 0 is known */
		return 0;
	return tm_skip(c, options) ? tm_ntohs(header->type) : 0;
}

/* The tunnel's own header at the cursor. */
static __always_inline __u16 tm_parse_tunnel(struct tm_cursor *c, const struct tm_packet *p, struct tm_packet *in)
{
	switch (in->key.verdict) {
	case TM_IPIP:
		return p->key.proto == TM_PROTO_IPIP ? TM_ETH_IPV4 : TM_ETH_IPV6;
	case TM_GRE:
		return tm_parse_gre(c, in);
	case TM_VXLAN:
	case TM_GENEVE:
		return tm_parse_overlay(c, in);
	}
	return 0;
}

/* Stores the position of the cursor in *in. Returns 0 if that is further than headers are followed. */
static __always_inline int tm_reach(struct tm_cursor *c, struct tm_packet *in)
{
	in->header_len = in->wire_len - c->left;
	in->payload_len = c->left;
	if (in->header_len > TM_HEADERS_MAX)
		return 0;
	tm_resume(c, in);
	return 1;
}

/*
 * The inner packet of `p`, the frame from `data` to `end`: stored in `in`, all zero before, with header_len counted
 * from the beginning of the outer frame. Its key is then a struct tm_inner. Returns whether it could be read.
 */
static __always_inline int tm_parse_inside(const void *data, const void *end, const struct tm_packet *p,
					   struct tm_packet *in)
{
	struct tm_cursor c = {data, data, end, p->payload_len};
	__u32 whole;
	__u16 type;

	in->key.verdict = tm_tunnel(p);
	in->wire_len = p->header_len + p->payload_len;
	if (!tm_reach(&c, in))
		return 0;
	type = tm_parse_tunnel(&c, p, in);
	if (type == TM_ETH_BRIDGED) {
		whole = c.left;
		type = tm_parse_link(&c, in, TM_TAGS_INSIDE);
		if (in->malformed || c.left > whole) /* headers longer than the packet */
			return 0;
	}
	return tm_reach(&c, in) && tm_parse_network(&c, in, type) == TM_IS_IP;
}

/* A hash of one end of a conversation. */
static __always_inline __u64 tm_hash_end(const __u64 *address, __u64 port, __u64 seed)
{
	__u64 h = (address[0] ^ seed) * 0x9e3779b97f4a7c15ull;

	h = ((h ^ h >> 32) + address[1]) * 0xc2b2ae3d27d4eb4full;
	h = ((h ^ h >> 29) + port) * 0x165667b19e3779f9ull;
	h = (h ^ h >> 32) * 0xff51afd7ed558ccdull;
	return h ^ h >> 32;
}

/* Numbers the conversation of `in`, alike in both directions: ends are added, an echo's reply is a request. Never 0. */
static __always_inline __u64 tm_hash_inner(const struct tm_packet *in, __u64 seed)
{
	const __u64 *q = (const __u64 *)&in->key;
	__u64 sport = in->key.sport, dport = in->key.dport,
	      rest = (__u64)in->key.proto << 24 | in->key.scope << 16 | in->key.vlan, h;

	if (in->key.proto == TM_PROTO_ICMP || in->key.proto == TM_PROTO_ICMPV6) {
		if (in->key.proto == TM_PROTO_ICMP && sport == tm_htons(TM_ECHO_REPLY))
			sport = tm_htons(TM_ECHO_REQUEST);
		if (in->key.proto == TM_PROTO_ICMPV6 && sport == tm_htons(TM_ECHO_REPLY6))
			sport = tm_htons(TM_ECHO_REQUEST6);
		rest |= sport << 32 | dport << 48;
		sport = dport = 0;
	}
	h = tm_hash_end(q, sport, seed) + tm_hash_end(q + 2, dport, seed) + rest;
	h = ((h ^ h >> 32) * 0xc4ceb9fe1a85ec53ull) + q[5];
	h = (h ^ h >> 29) * 0x9e3779b97f4a7c15ull;
	return (h ^ h >> 32) | 1;
}
