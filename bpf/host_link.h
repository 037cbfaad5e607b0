/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * Link types of captures on the way to parse.h: what the kernel side never meets (it sees Ethernet and raw IP).
 * Numbers: https://www.tcpdump.org/linktypes.html
 */
#ifndef TM_HOST_LINK_H
#define TM_HOST_LINK_H

#include <string.h>

#include "parse.h"

enum tm_link {
	TM_LINK_NULL = 0,
	TM_LINK_ETHERNET = 1,
	TM_LINK_PPP = 9,
	TM_LINK_RAW_BSD = 12,
	TM_LINK_RAW_OPENBSD = 14,
	TM_LINK_PPP_HDLC = 50,
	TM_LINK_RAW = 101,
	TM_LINK_C_HDLC = 104,
	TM_LINK_LOOP = 108,
	TM_LINK_SLL = 113,
	TM_LINK_IPV4 = 228,
	TM_LINK_IPV6 = 229,
	TM_LINK_SLL2 = 276,
};

#define TM_PACKET_OUTGOING 4 /* packet type of a cooked header */

static __u16 tm_wire16(const __u8 *p)
{
	return (__u16)(p[0] << 8 | p[1]);
}

/* EtherType behind up to two more VLAN tags at the cursor; 0 if the packet is malformed. */
static __u16 tm_tags(struct tm_cursor *cursor, struct tm_packet *p, __u16 type)
{
	const struct tm_vlan *tag;
	int i;

	for (i = 0; i < 2 && (type == TM_ETH_8021Q || type == TM_ETH_8021AD); i++) {
		tag = tm_take(cursor, sizeof(*tag));
		if (!tag) {
			p->malformed = TM_SHORT_VLAN;
			return 0;
		}
		if (i == 0)
			p->key.vlan = tm_ntohs(tag->tci) & 0xfff;
		type = tm_ntohs(tag->type);
	}
	return type;
}

/* The network packet behind a link header of `size` bytes that named it `type`. */
static int tm_behind(struct tm_cursor *cursor, struct tm_packet *p, __u32 size, __u16 type)
{
	if (!tm_take(cursor, size)) {
		p->malformed = TM_SHORT_ETHERNET;
		return TM_IS_MALFORMED;
	}
	type = tm_tags(cursor, p, type);
	if (p->malformed)
		return TM_IS_MALFORMED;
	p->header_len = p->wire_len - cursor->left;
	return tm_parse_network(cursor, p, type);
}

static __u16 tm_type_of_ppp(__u16 protocol)
{
	return protocol == 0x21 ? TM_ETH_IPV4 : protocol == 0x57 ? TM_ETH_IPV6 : 0;
}

/* A BSD address family, which has as many numbers for IPv6 as there are systems. */
static __u16 tm_type_of_family(__u32 family)
{
	switch (family) {
	case 2:
		return TM_ETH_IPV4;
	case 10:
	case 24:
	case 28:
	case 30:
		return TM_ETH_IPV6;
	}
	return 0;
}

/* One frame of link type `link`. Returns enum tm_kind, or -1 if the link type is not read. */
static int tm_parse_frame(const __u8 *data, const __u8 *end, struct tm_packet *p, __u32 link)
{
	struct tm_cursor cursor = {.start = data, .pos = data, .end = end, .left = p->wire_len};
	__u32 size = (__u32)(end - data);
	__u32 family;

	switch (link) {
	case TM_LINK_ETHERNET:
		return tm_parse(data, end, p, 0);
	case TM_LINK_RAW:
	case TM_LINK_RAW_BSD:
	case TM_LINK_RAW_OPENBSD:
	case TM_LINK_IPV4:
	case TM_LINK_IPV6:
		return tm_parse(data, end, p, 1);
	case TM_LINK_SLL:
		if (size >= 16 && tm_wire16(data) == TM_PACKET_OUTGOING)
			p->key.scope |= TM_SCOPE_EGRESS;
		return tm_behind(&cursor, p, 16, size >= 16 ? tm_wire16(data + 14) : 0);
	case TM_LINK_SLL2:
		if (size >= 20 && data[10] == TM_PACKET_OUTGOING)
			p->key.scope |= TM_SCOPE_EGRESS;
		return tm_behind(&cursor, p, 20, size >= 20 ? tm_wire16(data) : 0);
	case TM_LINK_NULL:
	case TM_LINK_LOOP:
		family = size < 4 ? 0 : (__u32)tm_wire16(data) << 16 | tm_wire16(data + 2);
		if (family > 0xffff)
			family = __builtin_bswap32(family); /* NULL: in the order of the host that wrote it */
		return tm_behind(&cursor, p, 4, tm_type_of_family(family));
	case TM_LINK_PPP:
	case TM_LINK_PPP_HDLC:
		if (size >= 4 && data[0] == 0xff && data[1] == 0x03)
			return tm_behind(&cursor, p, 4, tm_type_of_ppp(tm_wire16(data + 2)));
		return tm_behind(&cursor, p, 2, size >= 2 ? tm_type_of_ppp(tm_wire16(data)) : 0);
	case TM_LINK_C_HDLC:
		return tm_behind(&cursor, p, 4, size >= 4 ? tm_wire16(data + 2) : 0);
	}
	return -1;
}

static int tm_link_known(__u32 link)
{
	static const __u8 nothing[1];
	struct tm_packet p;

	memset(&p, 0, sizeof(p));
	return tm_parse_frame(nothing, nothing, &p, link) != -1;
}

#endif
