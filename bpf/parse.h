/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * The parser: one function a header, no maps, no helpers. It compiles for the BPF target (both loaders) and
 * for the host, where captures are read and the parser is fuzzed with the very same code.
 *
 * Each step checks its header against the end of the data, refuses impossible lengths, and moves the cursor
 * past all that it consumed. Fields of the header structs are in network order; results say theirs.
 */
#ifndef TM_PARSE_H
#define TM_PARSE_H

#include "abi.h"

#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define tm_ntohs(x) ((__u16)__builtin_bswap16(x))
#define tm_htonl(x) ((__u32)__builtin_bswap32(x))
#else
#define tm_ntohs(x) ((__u16)(x))
#define tm_htonl(x) ((__u32)(x))
#endif
#define tm_htons tm_ntohs

/* A loop that stays one: each loader's compiler would write out some of its rounds. */
#ifdef __clang__
#define TM_LOOP _Pragma("clang loop unroll(disable)")
#else
#define TM_LOOP
#endif

#define tm_barrier() __asm__ __volatile__("" ::: "memory")

/* Naturally aligned on purpose: a packed struct makes the BPF back end load byte by byte. */
struct tm_ethernet {
	__be16 dst[3];
	__be16 src[3];
	__be16 type;
};

struct tm_vlan {
	__be16 tci;
	__be16 type;
};

struct tm_ipv4 {
	__u8 version_ihl;
	__u8 tos;
	__be16 total_length;
	__be16 id;
	__be16 fragment;
	__u8 ttl;
	__u8 protocol;
	__be16 checksum;
	__be32 src;
	__be32 dst;
};

struct tm_ipv6 {
	__be32 version_class_flow;
	__be16 payload_length;
	__u8 next_header;
	__u8 hop_limit;
	__be32 src[4];
	__be32 dst[4];
};

struct tm_extension {
	__u8 next_header;
	__u8 length;
	__be16 fragment; /* fragment header only */
	__be32 id;
};

struct tm_tcp {
	__be16 sport;
	__be16 dport;
	__be32 sequence;
	__be32 acknowledgement;
	__u8 offset;
	__u8 flags;
	__be16 window;
	__be16 checksum;
	__be16 urgent;
};

struct tm_udp {
	__be16 sport;
	__be16 dport;
	__be16 length;
	__be16 checksum;
};

struct tm_icmp {
	__u8 type;
	__u8 code;
	__be16 checksum;
};

#define TM_ETH_IPV4 0x0800
#define TM_ETH_IPV6 0x86dd
#define TM_ETH_8021Q 0x8100
#define TM_ETH_8021AD 0x88a8
#define TM_ETH_MPLS 0x8847
#define TM_ETH_MPLS_MULTICAST 0x8848 /* RFC 5332 */

#define TM_MPLS_BOTTOM 0x0100 /* of a label's lower half: the last of the stack */
#define TM_TAGS_MAX 384	      /* tags that are followed, and two: more than 1,514 bytes have room for */
#define TM_LABELS_MAX 16      /* labels */

#define TM_IP_MORE_FRAGMENTS 0x2000
#define TM_IP_FRAGMENT_OFFSET 0x1fff

#define TM_TCP_SYN 0x02
#define TM_TCP_ACK 0x10

#define TM_PROTO_HOPOPTS 0
#define TM_PROTO_ICMP 1
#define TM_PROTO_TCP 6
#define TM_PROTO_UDP 17
#define TM_PROTO_ROUTING 43
#define TM_PROTO_FRAGMENT 44
#define TM_PROTO_AH 51
#define TM_PROTO_ICMPV6 58
#define TM_PROTO_DSTOPTS 60
#define TM_PROTO_SCTP 132

#define TM_ECHO_REPLY 0
#define TM_ECHO_REQUEST 8
#define TM_ECHO_REQUEST6 128
#define TM_ECHO_REPLY6 129

#define TM_EXTENSIONS_MAX                                                                                              \
	8 /* extension headers followed; RFC 8200 names each at most once, destination options twice */

#define TM_HEADERS_MAX 0x3fff /* bytes of headers followed; a mask as well */

/* What tm_parse() says of a packet. */
enum tm_kind {
	TM_IS_IP = 0,
	TM_IS_OTHER = 1,     /* not IPv4 or IPv6 */
	TM_IS_MALFORMED = 2, /* tm_packet.malformed says why */
};

struct tm_packet {
	struct tm_key key; /* all but ifindex, verdict and the direction */
	__u32 wire_len;	   /* in: length on the wire from the link header */
	__u32 header_len;  /* bytes before the payload, from the link header */
	__u32 payload_len; /* beyond the transport header, without padding of the frame */
	__be32 tcp_ack;	   /* acknowledgement number; of a SYN without one, its sequence number */
	__u8 malformed;	   /* enum tm_malformed; addressed is set if the addresses are valid all the same */
	__u8 addressed;
	__u8 tcp_flags;
	__u8 bits; /* TM_BIT_FRAGMENT, TM_BIT_MORE_FRAGMENTS */
	__u8 ttl;
#ifdef TM_CAPTURES	  /* 80 bytes in all: more are cleared by a slow instruction */
	__u8 lenient : 1; /* in: read what a capture holds although a kernel never sees it so */
	__u8 cut : 1;	  /* the capture has less of the packet than the frame's length says */
	__u16 ethertype;  /* of a frame that is not IP: the type at which reading ended; 0 if it has none */
#else
	__u32 rate_per_s; /* of a TM_LIMIT verdict, in the CPU's packet alone; the parser leaves these alone */
	__u32 burst_packets;
	__u32 what; /* TM_WHAT_*, once it was asked for (tm_note_what) */
#endif
};

/* What only captures need (host_layers.h) is compiled for the host alone. */
#ifdef TM_CAPTURES
#define tm_lenient(p) ((p)->lenient)
#define tm_is_cut(p) ((p)->cut)
#else
#define tm_lenient(p) 0
#define tm_is_cut(p) 0
#endif

/* What is left to read. `left` is the length on the wire from `pos` on; `end` may come earlier (a snapshot). */
struct tm_cursor {
	const __u8 *start;
	const __u8 *pos;
	const __u8 *end;
	__u32 left;
};

/* The header of `size` bytes at the cursor, which moves past it; NULL if the data ends first. */
static __always_inline const void *tm_take(struct tm_cursor *c, __u32 size)
{
	const __u8 *p = c->pos;

	if (p + size > c->end)
		return (void *)0;
	c->pos = p + size;
	c->left -= size;
	return p;
}

/* Moves past `size` more bytes without reading them; 0 if the packet or the data ends first. */
static __always_inline int tm_skip(struct tm_cursor *c, __u32 size)
{
	if (size > c->left || c->pos + size > c->end)
		return 0;
	c->pos += size;
	c->left -= size;
	return 1;
}

static __always_inline int tm_malformed(struct tm_packet *p, __u8 why)
{
	p->malformed = why;
	return TM_IS_MALFORMED;
}

/*
 * Sets the cursor from *p alone. In the kernel *p lies in a map, of whose contents the verifier keeps nothing: all
 * rounds of a loop over headers then look alike to it and it checks one.
 */
static __always_inline void tm_resume(struct tm_cursor *c, const struct tm_packet *p)
{
	tm_barrier();
	c->pos = c->start + (p->header_len & TM_HEADERS_MAX);
	c->left = p->payload_len;
}

/* EtherType by the version of the IP packet at the cursor; 0 if it is neither. */
static __always_inline __u16 tm_type_of_raw(const struct tm_cursor *c)
{
	if (c->pos + 1 > c->end)
		return 0;
	return *c->pos >> 4 == 4 ? TM_ETH_IPV4 : *c->pos >> 4 == 6 ? TM_ETH_IPV6 : 0;
}

/* Without a branch, as tm_parse_tag(): each would double what the verifier has to look at in hundreds of rounds. */
static __always_inline int tm_is_tag(__u16 type)
{
	__u32 plain = type ^ TM_ETH_8021Q, provider = type ^ TM_ETH_8021AD;

	return plain * provider == 0;
}

static __always_inline int tm_is_mpls(__u16 type)
{
	return type == TM_ETH_MPLS || type == TM_ETH_MPLS_MULTICAST;
}

/* The tag at the cursor, which names the type of what follows. The outermost with a number is the packet's VLAN. */
static __always_inline __u16 tm_parse_tag(const struct tm_vlan *tag, struct tm_packet *p)
{
	__u64 none = p->key.vlan - 1ull; /* its upper half is all ones if there was none, else all zeros */

	p->key.vlan |= tm_ntohs(tag->tci) & none >> 32 & 0xfff;
	return tm_ntohs(tag->type);
}

/* The next word of a stack at p->header_len; NULL if the packet or the data ends first. */
static __always_inline const struct tm_vlan *tm_take_word(struct tm_cursor *c, struct tm_packet *p)
{
	const struct tm_vlan *word;

	tm_resume(c, p);
	word = c->left < sizeof(*word) ? (void *)0 : tm_take(c, sizeof(*word));
	if (!word)
		p->malformed = TM_SHORT_VLAN;
	p->header_len += sizeof(*word);
	p->payload_len = c->left;
	return word;
}

/* More tags than two. No round leaves anything to the next but in *p, for the verifier's sake as in tm_resume(). */
static __always_inline __u16 tm_parse_more_tags(struct tm_cursor *c, struct tm_packet *p)
{
	const struct tm_vlan *tag;
	__u16 type;
	int i;

	p->header_len = p->wire_len - c->left;
	p->payload_len = c->left;
	TM_LOOP
	for (i = 0; i < TM_TAGS_MAX; i++) {
		tag = tm_take_word(c, p);
		if (!tag)
			return 0;
		type = tm_parse_tag(tag, p);
		if (!tm_is_tag(type)) {
			tm_resume(c, p);
			return type;
		}
	}
	p->malformed = TM_UNPARSED_LINK;
	return 0;
}

/* MPLS labels (RFC 3032), which do not say what follows them: as in routers, the version of IP tells. */
static __always_inline __u16 tm_parse_labels(struct tm_cursor *c, struct tm_packet *p)
{
	const struct tm_vlan *label;
	int i;

	p->header_len = p->wire_len - c->left;
	p->payload_len = c->left;
	TM_LOOP
	for (i = 0; i < TM_LABELS_MAX; i++) {
		label = tm_take_word(c, p);
		if (!label)
			return 0;
		if (label->type & tm_htons(TM_MPLS_BOTTOM)) {
			tm_resume(c, p);
			return tm_type_of_raw(c);
		}
	}
	p->malformed = TM_UNPARSED_LINK;
	return 0;
}

/*
 * What the host's own stack takes off before it looks for an IP packet: VLAN tags, of which Linux follows any number,
 * and MPLS labels. Returns the EtherType behind them in host order, 0 if it cannot be IP or is malformed.
 */
static __always_inline __u16 tm_parse_tags(struct tm_cursor *c, struct tm_packet *p, __u16 type)
{
	const struct tm_vlan *tag;
	int i;

	for (i = 0; i < 2 && tm_is_tag(type); i++) {
		tag = tm_take(c, sizeof(*tag));
		if (!tag) {
			p->malformed = TM_SHORT_VLAN;
			return 0;
		}
		type = tm_parse_tag(tag, p);
	}
	if (tm_is_tag(type))
		type = tm_parse_more_tags(c, p);
	return tm_is_mpls(type) ? tm_parse_labels(c, p) : type;
}

/* Ethernet and what stands between it and the packet. Returns the EtherType in host order, 0 if malformed. */
static __always_inline __u16 tm_parse_link(struct tm_cursor *c, struct tm_packet *p)
{
	const struct tm_ethernet *eth = tm_take(c, sizeof(*eth));
	__u16 type;

	if (!eth) {
		p->malformed = TM_SHORT_ETHERNET;
		return 0;
	}
	type = tm_ntohs(eth->type);
	return type == TM_ETH_IPV4 || type == TM_ETH_IPV6 ? type : tm_parse_tags(c, p, type);
}

static __always_inline int tm_parse_ports(struct tm_packet *p, __be16 sport, __be16 dport)
{
	p->key.sport = sport;
	p->key.dport = dport;
	return TM_IS_IP;
}

#ifdef TM_CAPTURES
static int tm_parse_cut(struct tm_cursor *c, struct tm_packet *p); /* host_layers.h */
#define tm_short_transport(c, p) tm_parse_cut(c, p)
#else
#define tm_short_transport(c, p) tm_malformed(p, TM_SHORT_TRANSPORT)
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
	if (total < size || total > whole)
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
	if (!tm_skip(c, size - sizeof(*ip)))
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
		return tm_malformed(p, TM_SHORT_EXTENSION);
	extension = tm_take(c, sizeof(*extension));
	if (!extension)
		return tm_malformed(p, TM_SHORT_EXTENSION);
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
			return TM_IS_MALFORMED;
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
		type = tm_parse_link(&c, p);
		if (p->malformed)
			return TM_IS_MALFORMED;
	}
	p->header_len = p->wire_len - c.left;
	return tm_parse_network(&c, p, type);
}

#endif
