/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* What is read of a packet, and the cursor that reads it. */
#pragma once

#include "headers.h"

/* The result of tm_parse(). */
enum tm_kind {
	TM_IS_IP = 0,
	TM_IS_OTHER = 1,     /* not IPv4 or IPv6 */
	TM_IS_MALFORMED = 2, /* tm_packet.malformed has the reason */
};

struct tm_packet {
	struct tm_key key; /* all except ifindex, verdict and direction */
	__u32 wire_len;	   /* in: length on the wire from the link header */
	__u32 header_len;  /* bytes before the payload, from the link header */
	__u32 payload_len; /* beyond the transport header, without padding of the frame */
	__be32 tcp_ack;	   /* acknowledgement number; of a SYN without one, its sequence number */
	__u8 malformed;	   /* enum tm_malformed; addressed is set if the addresses are valid nevertheless */
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
	__u32 what; /* it asks for, TM_WHAT_* */
#endif
};

/* What a rule in shadow leaves for the verdict on a CPU's packet: its word, its rate, and its pair number. */
struct tm_shadow {
	__u32 would;
	__u32 rate_per_s;
	__u32 burst_packets;
	__u32 pair;
	__u32 drops; /* it would drop the packet, unless this is a lifeline or a reply */
};

/* What only captures need (host_layers.h) is compiled for the host only. */
#ifdef TM_CAPTURES
#define tm_lenient(p) ((p)->lenient)
#define tm_is_cut(p) ((p)->cut)
#else
#define tm_lenient(p) 0
#define tm_is_cut(p) 0
#endif

/* What is left to read. `left` is the length on the wire from `pos` on; `end` may be earlier (a snapshot). */
struct tm_cursor {
	const __u8 *start;
	const __u8 *pos;
	const __u8 *end;
	__u32 left;
};

/* The header of `size` bytes at the cursor, which moves past it; NULL if the data ends before. */
static __always_inline const void *tm_take(struct tm_cursor *c, __u32 size)
{
	const __u8 *p = c->pos;

	if (p + size > c->end)
		return (void *)0;
	c->pos = p + size;
	c->left -= size;
	return p;
}

/* Moves past `size` more bytes without reading them; 0 if the packet or the data ends before. */
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

/* Sets the cursor from *p, which the verifier does not track in its map: it checks one round of a loop for all. */
static __always_inline void tm_resume(struct tm_cursor *c, const struct tm_packet *p)
{
	tm_barrier();
	c->pos = c->start + (p->header_len & TM_HEADERS_MAX);
	c->left = p->payload_len;
}

/* The place of a service in the classes of services (TM_WHAT_* of abi.h); port 0 if the ports could not be read. */
static __always_inline __u32 tm_what(const struct tm_packet *p)
{
	const struct tm_key *k = &p->key;

	if (p->bits & TM_BIT_FRAGMENT)
		return TM_WHAT_FRAGMENT + k->proto;
	if (k->proto == TM_PROTO_TCP)
		return TM_WHAT_TCP + tm_ntohs(k->dport);
	if (k->proto == TM_PROTO_UDP)
		return TM_WHAT_UDP + tm_ntohs(k->dport);
	if (k->proto == TM_PROTO_ICMP)
		return TM_WHAT_ICMP + (tm_ntohs(k->sport) & 0xff);
	if (k->proto == TM_PROTO_ICMPV6)
		return TM_WHAT_ICMPV6 + (tm_ntohs(k->sport) & 0xff);
	return TM_WHAT_OTHER + k->proto;
}
