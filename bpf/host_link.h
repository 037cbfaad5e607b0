/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* From the link types of captures (https://www.tcpdump.org/linktypes.html) to Ethernet and raw IP for parse.h. */
#pragma once

#include "host_wrapped.h"

#define TM_LINK_UNREAD -1 /* a link type that cannot be read */
#define TM_LINKS_MAX 4	  /* nested link headers: PPI, PKTAP and others contain another one */
#define TM_PROTO_DCCP 33
#define TM_PROTO_UDP_LITE 136

/* Reads one frame of link type `link`, nested in `depth` link headers. Returns enum tm_kind or TM_LINK_UNREAD. */
static int tm_parse_link_of(struct tm_cursor *c, struct tm_packet *p, __u32 link, int depth)
{
	const __u8 *data = c->pos;
	__u32 size = (__u32)(c->end - data), family, length;

	switch (depth < TM_LINKS_MAX ? link : ~0u) {
	case TM_LINK_ETHERNET:
		/* Cisco's ISL: the group that it is sent to, up to LLC and SNAP, then another frame */
		if (size > 26 && (data[0] & ~0x0d) == 0 && data[0] && !memcmp(data + 1, "\0\x0c\0\0", 4) &&
		    !memcmp(data + 14, "\xaa\xaa\x03", 3))
			return tm_behind(c, p, 26, TM_ETH_BRIDGED);
		return tm_behind_typed(c, p, 14, 12);
	case TM_LINK_RAW:
	case TM_LINK_RAW_BSD:
	case TM_LINK_RAW_OPENBSD:
	case TM_LINK_IPV4:
	case TM_LINK_IPV6:
		return tm_behind_raw(c, p);
	case TM_LINK_SLL:
		if (size < 16)
			return tm_behind_nothing(p);
		if (tm_wire16(data) == TM_PACKET_OUTGOING)
			p->key.scope |= TM_SCOPE_EGRESS;
		return tm_behind_cooked(c, p, 16, tm_wire16(data + 2), tm_wire16(data + 14));
	case TM_LINK_SLL2:
		if (size < 20)
			return tm_behind_nothing(p);
		if (data[10] == TM_PACKET_OUTGOING)
			p->key.scope |= TM_SCOPE_EGRESS;
		return tm_behind_cooked(c, p, 20, tm_wire16(data + 8), tm_wire16(data));
	case TM_LINK_NULL:
	case TM_LINK_LOOP:
	case TM_LINK_ENC:
		family = size < 4 ? 0 : tm_wire32(data);
		if (family > 0xffff)
			family = __builtin_bswap32(family); /* in the order of the host that wrote it */
		return tm_behind(c, p, link == TM_LINK_ENC ? 12 : 4, tm_type_of_family(family));
	case TM_LINK_PFLOG:
		return size < 2 ? tm_behind_nothing(p)
				: tm_behind(c, p, (data[0] + 3) & ~3u, tm_type_of_family(data[1]));
	case TM_LINK_PPP:
	case TM_LINK_PPP_HDLC:
		return tm_behind_ppp(c, p, 0);
	case TM_LINK_PPP_PPPD: /* the direction is in place of the address, or before it */
		tm_link_direction(data, size, p);
		return tm_behind_ppp(c, p, size > 1 && data[1] == 0x03 ? 2 : 1);
	case TM_LINK_PPP_DIR:
		return tm_take_direction(c, p) ? tm_behind_ppp(c, p, 0) : tm_behind_nothing(p);
	case TM_LINK_PPP_ETHERNET:
		return tm_behind(c, p, 0, TM_ETH_PPPOE);
	case TM_LINK_C_HDLC:
		return tm_behind_typed(c, p, 4, 2);
	case TM_LINK_C_HDLC_DIR:
		return tm_take_direction(c, p) ? tm_behind_typed(c, p, 4, 2) : tm_behind_nothing(p);
	case TM_LINK_CLIP: /* LLC and SNAP, or IP alone */
		if (size < 6 || memcmp(data, "\xaa\xaa\x03\0\0\0", 6) != 0)
			return tm_behind_raw(c, p);
		return tm_behind_llc(c, p, 0);
	case TM_LINK_RFC1483:
	case TM_LINK_RFC1483_OLD:
		return tm_behind_llc(c, p, 0);
	case TM_LINK_TOKEN_RING:
		return tm_behind_token_ring(c, p);
	case TM_LINK_FDDI:
		if (size && (data[0] & 0xf0) != 0x50) /* no LLC frame */
			return TM_IS_OTHER;
		return tm_behind_llc(c, p, 13);
	case TM_LINK_FIBRE_CHANNEL: /* RFC 2625 */
		return tm_behind_llc(c, p, 16);
	case TM_LINK_SUN_ATM: /* direction and kind of traffic, path, channel */
		if (size && data[0] & 0x80)
			p->key.scope |= TM_SCOPE_EGRESS;
		if (!tm_take_added(c, p, 4))
			return tm_behind_nothing(p);
		if ((data[0] & 0x0f) == 1) /* an emulated LAN: its client's number, then Ethernet */
			return tm_behind_typed(c, p, 16, 14);
		return (data[0] & 0x0f) == 2 ? tm_behind_llc(c, p, 0) : TM_IS_OTHER;
	case TM_LINK_SLIP:
		return tm_behind_slip(c, p);
	case TM_LINK_FRAME_RELAY_DIR:
		return tm_take_direction(c, p) ? tm_behind_frame_relay(c, p) : tm_behind_nothing(p);
	case TM_LINK_FRAME_RELAY:
		return tm_behind_frame_relay(c, p);
	case TM_LINK_NETANALYZER:
		return tm_behind_typed(c, p, 18, 16);
	case TM_LINK_NETANALYZER_RAW: /* with preamble and start delimiter */
		return tm_behind_typed(c, p, 26, 24);
	case TM_LINK_MPACKET:
		return tm_behind_preamble(c, p);
	case TM_LINK_MPLS:
		return tm_behind(c, p, 0, TM_ETH_MPLS);
	case TM_LINK_IPNET:
		return size < 2 ? tm_behind_nothing(p) : tm_behind(c, p, 24, tm_type_of_family(data[1]));
	case TM_LINK_FIREWIRE:
		return tm_behind_typed(c, p, 18, 16);
	case TM_LINK_INFINIBAND:
		return tm_behind_typed(c, p, 44, 40);
	case TM_LINK_NFLOG:
		return tm_behind_nflog(c, p);
	case TM_LINK_WIFI:
		return tm_behind_wifi(c, p, 0, 0);
	case TM_LINK_WIFI_RADIOTAP:
		return tm_behind_radiotap(c, p);
	case TM_LINK_WIFI_PRISM:
		return tm_behind_wifi(c, p, tm_prism_size(data, size), 0);
	case TM_LINK_WIFI_AVS:
		return size < 8 ? tm_behind_nothing(p) : tm_behind_wifi(c, p, tm_wire32(data + 4) & 0xffff, 0);
	case TM_LINK_DSA_BRCM:
	case TM_LINK_DSA_BRCM_PREPEND:
		return tm_behind_typed(c, p, 18, 16);
	case TM_LINK_DSA:
		return tm_behind_dsa(c, p, 12);
	case TM_LINK_EDSA: /* with an EtherType of its own in front */
		return tm_behind_dsa(c, p, 16);
	case TM_LINK_NONE:
		return TM_IS_OTHER;
	case TM_LINK_ERF:
		return tm_parse_link_of(c, p, tm_link_of_erf(c, p), depth + 1);
	case TM_LINK_JUNIPER_ETHERNET:
		return tm_parse_link_of(c, p, tm_link_of_juniper(c, TM_LINK_ETHERNET), depth + 1);
	case TM_LINK_JUNIPER_PPP:
		return tm_parse_link_of(c, p, tm_link_of_juniper(c, TM_LINK_PPP), depth + 1);
	case TM_LINK_JUNIPER_FRAME_RELAY:
		return tm_parse_link_of(c, p, tm_link_of_juniper(c, TM_LINK_FRAME_RELAY), depth + 1);
	case TM_LINK_JUNIPER_C_HDLC:
		return tm_parse_link_of(c, p, tm_link_of_juniper(c, TM_LINK_C_HDLC), depth + 1);
	case TM_LINK_EXPORTED:
		return tm_parse_link_of(c, p, tm_link_of_exported(c), depth + 1);
	case TM_LINK_PPI:
		length = size < 8 ? 0 : tm_little16(data + 2);
		return length < 8 || !tm_take(c, length) ? tm_behind_nothing(p)
							 : tm_parse_link_of(c, p, tm_little32(data + 4), depth + 1);
	case TM_LINK_PKTAP:
	case TM_LINK_PKTAP_OLD:
		length = size < 40 ? 0 : tm_little32(data);
		if (length < 40 || length > size || !tm_take(c, length))
			return tm_behind_nothing(p);
		if (tm_little32(data + 36) & 2) /* PTH_FLAG_DIR_OUT */
			p->key.scope |= TM_SCOPE_EGRESS;
		return tm_parse_link_of(c, p, tm_little32(data + 8), depth + 1);
	}
	return TM_LINK_UNREAD;
}

/* Reads the ports of protocols that the kernel's program counts without them. */
static void tm_parse_more_ports(const struct tm_cursor *c, struct tm_packet *p)
{
	const __u8 *at = c->start + p->header_len;

	if ((p->key.proto != TM_PROTO_DCCP && p->key.proto != TM_PROTO_UDP_LITE) || p->bits & TM_BIT_FRAGMENT ||
	    c->end - at < 4)
		return;
	memcpy(&p->key.sport, at, 2);
	memcpy(&p->key.dport, at + 2, 2);
}

/*
 * Reads one frame of link type `link`; p->wire_len is set, the rest of *p zero. The kernel's parser reads what the
 * kernel would see. If it finds nothing, and `strict` is 0, the code for captures reads the frame. Returns enum tm_kind
 * or TM_LINK_UNREAD. Stores in `end` where other packets begin that were sent together with this one, and in
 * p->wire_len the length without what the capturing program had put before the frame.
 */
static int tm_parse_frame(const __u8 *data, const __u8 **end, struct tm_packet *p, __u32 link, int strict)
{
	struct tm_cursor cursor = {.start = data, .pos = data, .end = *end, .left = p->wire_len};
	struct tm_packet first;
	int kind, more;

	if (link != TM_LINK_ETHERNET && link != TM_LINK_RAW) {
		kind = tm_parse_link_of(&cursor, p, link, 0);
		*end = cursor.end;
		tm_parse_more_ports(&cursor, p);
		return kind;
	}
	kind = tm_parse(data, *end, p, link == TM_LINK_RAW);
	if (strict)
		return kind;
	tm_parse_more_ports(&cursor, p);
	if (kind == TM_IS_IP)
		return kind;
	first = *p;
	memset(p, 0, sizeof(*p));
	p->wire_len = first.wire_len;
	more = tm_parse_link_of(&cursor, p, link, 0);
	tm_parse_more_ports(&cursor, p);
	if (more == TM_IS_IP || kind != TM_IS_MALFORMED)
		return more;
	*p = first;
	return kind;
}

static int tm_link_known(__u32 link)
{
	static const __u8 nothing[1];
	const __u8 *end = nothing;
	struct tm_packet p;

	memset(&p, 0, sizeof(p));
	return tm_parse_frame(nothing, &end, &p, link, 0) != TM_LINK_UNREAD;
}
