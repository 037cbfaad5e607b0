/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * The parser: one function for each header, no maps, no helpers. It compiles for the BPF target (both loaders) and for
 * the host, where captures are read and the parser is fuzzed with the same code.
 *
 * Each step checks its header against the end of the data, rejects invalid lengths, and moves the cursor past
 * everything that it consumed. Link headers are in link.h.
 */
#pragma once

#include "link.h"

static __always_inline int tm_parse_ports(struct tm_packet *p, __be16 sport, __be16 dport)
{
	p->key.sport = sport;
	p->key.dport = dport;
	return TM_IS_IP;
}

#ifdef TM_CAPTURES
static int tm_parse_cut(struct tm_cursor *c, struct tm_packet *p); /* these are in host_layers.h */
static int tm_short_extension(struct tm_cursor *c, struct tm_packet *p);
static int tm_cut_short(struct tm_cursor *c, struct tm_packet *p, __u32 size);
#define tm_short_transport(c, p) tm_parse_cut(c, p)
#else
#define tm_short_transport(c, p) tm_malformed(p, TM_SHORT_TRANSPORT)
#define tm_short_extension(c, p) tm_malformed(p, TM_SHORT_EXTENSION)
#define tm_cut_short(c, p, size) 0
#endif

/*
 * The transport header; p->payload_len is set to what is beyond the network headers. In a first fragment it may be cut
 * off after the ports (RFC 791 guarantees eight bytes); its flags are then not known and stay zero.
 */
static __always_inline int tm_parse_transport(struct tm_cursor *c, struct tm_packet *p)
{
	int fragment = p->bits & TM_BIT_MORE_FRAGMENTS;
	const struct tm_tcp *tcp;
	const struct tm_udp *udp;
	const struct tm_icmp *icmp;
	__u32 size, length;

	switch (p->key.proto) {
	case TM_PROTO_TCP:
		if (fragment && c->left < sizeof(*tcp))
			goto ports_only;
		if (c->left < sizeof(*tcp))
			return tm_short_transport(c, p);
		tcp = tm_take(c, sizeof(*tcp));
		if (!tcp)
			return tm_short_transport(c, p);
		size = (tcp->offset >> 4) * 4;
		if (size < sizeof(*tcp) || (size - sizeof(*tcp) > c->left && !fragment && !tm_is_cut(p)))
			return tm_malformed(p, TM_BAD_TRANSPORT);
		size -= sizeof(*tcp);
		p->tcp_flags = tcp->flags;
		p->tcp_ack =
			(tcp->flags & (TM_TCP_SYN | TM_TCP_ACK)) == TM_TCP_SYN ? tcp->sequence : tcp->acknowledgement;
		p->header_len += sizeof(*tcp) + size;
		p->payload_len = c->left > size ? c->left - size : 0;
		return tm_parse_ports(p, tcp->sport, tcp->dport);
	case TM_PROTO_UDP:
		if (c->left < sizeof(*udp))
			return tm_short_transport(c, p);
		udp = tm_take(c, sizeof(*udp));
		if (!udp)
			return tm_short_transport(c, p);
		length = tm_ntohs(udp->length); /* 0: a jumbogram (RFC 2675) or a segmentation super-packet */
		if (length &&
		    (length < sizeof(*udp) || (length - sizeof(*udp) > c->left && !fragment && !tm_is_cut(p))))
			return tm_malformed(p, TM_BAD_TRANSPORT);
		p->header_len += sizeof(*udp);
		p->payload_len = c->left;
		return tm_parse_ports(p, udp->sport, udp->dport);
	case TM_PROTO_SCTP:
		size = 12;
		if (c->left < size)
			return fragment ? TM_IS_IP : tm_short_transport(c, p);
		udp = tm_take(c, sizeof(*udp)); /* the ports stand where UDP has its own */
		if (!udp)
			return tm_short_transport(c, p);
		p->header_len += size;
		p->payload_len = c->left - (size - sizeof(*udp));
		return tm_parse_ports(p, udp->sport, udp->dport);
	case TM_PROTO_ICMP:
	case TM_PROTO_ICMPV6:
		if (c->left < sizeof(*icmp))
			return tm_short_transport(c, p);
		icmp = tm_take(c, sizeof(*icmp));
		if (!icmp)
			return tm_short_transport(c, p);
		p->header_len += sizeof(*icmp);
		p->payload_len = c->left;
		return tm_parse_ports(p, tm_htons(icmp->type), tm_htons(icmp->code));
	}
	return TM_IS_IP;

ports_only:
	if (c->left < sizeof(*udp))
		return tm_short_transport(c, p);
	udp = tm_take(c, sizeof(*udp));
	if (!udp)
		return tm_short_transport(c, p);
	p->header_len += sizeof(*udp);
	p->payload_len = c->left;
	return tm_parse_ports(p, udp->sport, udp->dport);
}

static __always_inline int tm_parse_ipv4(struct tm_cursor *c, struct tm_packet *p)
{
	__u32 *src = (__u32 *)p->key.src, *dst = (__u32 *)p->key.dst;
	const struct tm_ipv4 *ip;
	__u32 size, total, whole = c->left;
	__u16 fragment;

	if (c->left < sizeof(*ip))
		return tm_malformed(p, TM_SHORT_IP);
	ip = tm_take(c, sizeof(*ip));
	if (!ip)
		return tm_malformed(p, TM_SHORT_IP);
	size = (ip->version_ihl & 0xf) * 4;
	if (ip->version_ihl >> 4 != 4 || size < sizeof(*ip))
		return tm_malformed(p, TM_BAD_IP_HEADER);
	total = tm_ntohs(ip->total_length);
	if (!total && (whole > 0xffff || tm_lenient(p)))
		total = whole; /* a super-packet on its way to segmentation */
#ifdef TM_CAPTURES
	if (total > whole && p->lenient) {
		p->cut = 1;
		total = whole;
	}
#endif
	if ((total < size && !tm_is_cut(p)) || total > whole)
		return tm_malformed(p, TM_BAD_IP_LENGTH);

	src[2] = dst[2] = tm_htonl(0xffff);
	src[3] = ip->src;
	dst[3] = ip->dst;
	p->key.proto = ip->protocol;
	p->ttl = ip->ttl;
	p->addressed = 1;
	fragment = tm_ntohs(ip->fragment);
	p->header_len += size;
	c->left = total - sizeof(*ip);
	if (!tm_skip(c, size - sizeof(*ip)) && !tm_cut_short(c, p, size - sizeof(*ip)))
		return tm_malformed(p, TM_SHORT_IP);
	if (fragment & TM_IP_FRAGMENT_OFFSET)
		p->bits |= TM_BIT_FRAGMENT;
	if (fragment & TM_IP_MORE_FRAGMENTS)
		p->bits |= TM_BIT_MORE_FRAGMENTS;
	return TM_IS_IP;
}

static __always_inline int tm_is_extension(__u8 next)
{
	return next == TM_PROTO_HOPOPTS || next == TM_PROTO_ROUTING || next == TM_PROTO_FRAGMENT ||
	       next == TM_PROTO_AH || next == TM_PROTO_DSTOPTS;
}

/* The IPv6 extension header (RFC 8200 section 4) at p->header_len; p->key.proto becomes the header after it. */
static __always_inline int tm_parse_extension(struct tm_cursor *c, struct tm_packet *p)
{
	const struct tm_extension *extension;
	__u16 fragment;
	__u32 size;

	if (p->header_len > TM_HEADERS_MAX)
		return tm_malformed(p, TM_DEEP_EXTENSIONS);
	tm_resume(c, p);
	if (c->left < sizeof(*extension))
		return tm_short_extension(c, p);
	extension = tm_take(c, sizeof(*extension));
	if (!extension)
		return tm_short_extension(c, p);
	size = extension->length * 8;
	if (p->key.proto == TM_PROTO_AH) {
		size = extension->length * 4; /* RFC 4302: in words, less two */
	} else if (p->key.proto == TM_PROTO_FRAGMENT) {
		size = 0;
		fragment = tm_ntohs(extension->fragment);
		if (fragment & 0xfff8)
			p->bits |= TM_BIT_FRAGMENT;
		if (fragment & 1)
			p->bits |= TM_BIT_MORE_FRAGMENTS;
	}
	p->key.proto = extension->next_header;
	if (!tm_skip(c, size & 0x7ff))
		return tm_malformed(p, TM_SHORT_EXTENSION);
	p->header_len += sizeof(*extension) + size;
	p->payload_len = c->left;
	return TM_IS_IP;
}

static __always_inline int tm_parse_ipv6(struct tm_cursor *c, struct tm_packet *p)
{
	__u32 *src = (__u32 *)p->key.src, *dst = (__u32 *)p->key.dst;
	const struct tm_ipv6 *ip;
	__u32 length;
	int i;

	if (c->left < sizeof(*ip))
		return tm_malformed(p, TM_SHORT_IP);
	ip = tm_take(c, sizeof(*ip));
	if (!ip)
		return tm_malformed(p, TM_SHORT_IP);
	if ((*(const __u8 *)ip) >> 4 != 6)
		return tm_malformed(p, TM_BAD_IP_HEADER);
	length = tm_ntohs(ip->payload_length);
#ifdef TM_CAPTURES
	if (length > c->left && p->lenient) {
		p->cut = 1;
		length = c->left;
	}
	if (!length && p->lenient)
		length = c->left; /* a super-packet of less than 64 KiB */
#endif
	if (length > c->left)
		return tm_malformed(p, TM_BAD_IP_LENGTH);
	for (i = 0; i < 4; i++) {
		src[i] = ip->src[i];
		dst[i] = ip->dst[i];
	}
	p->key.scope |= TM_SCOPE_IPV6;
	p->key.proto = ip->next_header;
	p->ttl = ip->hop_limit;
	p->addressed = 1;
	p->header_len += sizeof(*ip);
	if (length || c->left <= 0xffff)
		c->left = length; /* else a jumbogram (RFC 2675): as long as the frame says */
	p->payload_len = c->left;
	if (!tm_is_extension(p->key.proto))
		return TM_IS_IP;
	for (i = 0; i < TM_EXTENSIONS_MAX; i++) {
		if (tm_parse_extension(c, p) != TM_IS_IP)
			return tm_cut_short(c, p, 0) ? TM_IS_IP : TM_IS_MALFORMED;
		if ((p->bits & TM_BIT_FRAGMENT) || !tm_is_extension(p->key.proto)) {
			tm_resume(c, p);
			return TM_IS_IP;
		}
	}
	return tm_malformed(p, TM_DEEP_EXTENSIONS);
}

/* The IP packet at the cursor, of EtherType `type` (host order). Returns enum tm_kind. */
static __always_inline int tm_parse_network(struct tm_cursor *c, struct tm_packet *p, __u16 type)
{
	int kind = TM_IS_OTHER;

	if (type == TM_ETH_IPV4)
		kind = tm_parse_ipv4(c, p);
	else if (type == TM_ETH_IPV6)
		kind = tm_parse_ipv6(c, p);
	if (kind != TM_IS_IP)
		return kind;
	p->payload_len = c->left;
	return p->bits & TM_BIT_FRAGMENT ? TM_IS_IP : tm_parse_transport(c, p);
}

/*
 * One frame: `data` to `end` is what can be read, p->wire_len what was on the wire. `raw` says that it starts
 * at the IP header. Everything in *p but wire_len must be zero. Returns enum tm_kind.
 */
static __always_inline int tm_parse(const void *data, const void *end, struct tm_packet *p, int raw)
{
	struct tm_cursor c = {data, data, end, p->wire_len};
	__u16 type;

	if (raw) {
		type = tm_type_of_raw(&c);
	} else {
		type = tm_parse_link(&c, p, TM_TAGS_MAX);
		if (p->malformed)
			return TM_IS_MALFORMED;
	}
	p->header_len = p->wire_len - c.left;
	return tm_parse_network(&c, p, type);
}
