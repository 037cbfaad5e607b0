/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * Headers between a link header and IP in captures, and packets that a capture has only in part. The kernel program
 * sees none of these (its interfaces deliver complete Ethernet or IP packets), so this is compiled for the host only. A
 * frame comes here if parse.h found nothing in it; what the kernel reads is always read by the kernel's own code.
 */
#pragma once

#include <string.h>

#include "host_ledger.h" /* which asks parse.h for what captures need */

#define TM_LAYERS_MAX 64 /* headers followed between link and IP */

/* https://www.iana.org/assignments/ieee-802-numbers, and the vendors' own */
enum tm_ethertype {
	TM_ETH_NONE = 0,	 /* no type: a link without such a field */
	TM_ETH_LLC = 1,		 /* stands for what is named by IEEE 802.2 LLC instead */
	TM_ETH_LENGTHS = 0x0600, /* below: an IEEE 802.3 length, LLC follows */
	TM_ETH_TRILL = 0x22f3,	 /* RFC 6325 */
	TM_ETH_BRIDGED = 0x6558,
	TM_ETH_PPPOE = 0x8864,	    /* RFC 2516, session stage */
	TM_ETH_JUMBO = 0x8870,	    /* LLC in a frame too long for a length */
	TM_ETH_FABRICPATH = 0x8903, /* Cisco */
	TM_ETH_METADATA = 0x8909,   /* Cisco TrustSec security-group tag */
	TM_ETH_VNTAG = 0x8926,	    /* Cisco VN-Tag */
	TM_ETH_HSR = 0x892f,	    /* IEC 62439-3 */
	TM_ETH_ETAG = 0x893f,	    /* IEEE 802.1BR */
	TM_ETH_NSH = 0x894f,	    /* RFC 8300 */
	TM_ETH_MACSEC = 0x88e5,	    /* IEEE 802.1AE */
	TM_ETH_PBB = 0x88e7,	    /* IEEE 802.1ah */
	TM_ETH_QINQ_OLD = 0x9100,   /* tags from before 802.1ad */
	TM_ETH_QINQ_OLDER = 0x9200,
	TM_ETH_ARISTA = 0xd28b, /* time stamp behind the addresses */
	TM_ETH_RTAG = 0xf1c1,	/* IEEE 802.1CB */
};

static __u16 tm_wire16(const __u8 *p)
{
	return (__u16)(p[0] << 8 | p[1]);
}

static __u32 tm_wire32(const __u8 *p)
{
	return (__u32)tm_wire16(p) << 16 | tm_wire16(p + 2);
}

/*
 * A transport header that ends too early. If the capture cut it off, ports, flags and acknowledgement are read if they
 * are there; a packet that was itself too short is malformed.
 */
static int tm_parse_cut(struct tm_cursor *c, struct tm_packet *p)
{
	__u32 there = (__u32)(c->end - c->pos), header = p->key.proto == TM_PROTO_TCP ? 20 : 8;
	const __u8 *at = c->pos;

	if (!p->lenient || !(p->cut || there < c->left))
		return tm_malformed(p, TM_SHORT_TRANSPORT);
	if (p->key.proto == TM_PROTO_TCP && there > 12)
		header = (at[12] >> 4) * 4;
	else if (p->key.proto == TM_PROTO_ICMP || p->key.proto == TM_PROTO_ICMPV6)
		header = 4;
	p->header_len += header;
	p->payload_len = c->left > header ? c->left - header : 0;
	if (p->key.proto == TM_PROTO_ICMP || p->key.proto == TM_PROTO_ICMPV6) {
		if (there < 2)
			p->bits |= TM_BIT_FRAGMENT; /* no type: as in a later fragment */
		else
			tm_parse_ports(p, tm_htons(at[0]), tm_htons(at[1]));
		return TM_IS_IP;
	}
	if (there >= 2)
		memcpy(&p->key.sport, at, 2);
	if (there >= 4)
		memcpy(&p->key.dport, at + 2, 2);
	if (p->key.proto == TM_PROTO_TCP && there >= 12)
		memcpy(&p->tcp_ack, at + 8, 4);
	if (p->key.proto == TM_PROTO_TCP && there >= 14)
		p->tcp_flags = at[13];
	return TM_IS_IP;
}

/* An extension header that ends too early; its first byte, if there, has the type of what follows. */
static int tm_short_extension(struct tm_cursor *c, struct tm_packet *p)
{
	if (p->lenient && c->pos < c->end)
		p->key.proto = *c->pos;
	return tm_malformed(p, TM_SHORT_EXTENSION);
}

/* Whether the capture cut off a header of `size` bytes; then the packet ends there. */
static int tm_cut_short(struct tm_cursor *c, struct tm_packet *p, __u32 size)
{
	if (!p->lenient || !(p->cut || c->end - c->pos < c->left))
		return 0;
	c->pos = c->end;
	c->left -= size < c->left ? size : c->left;
	p->cut = 1;
	p->malformed = 0;
	return 1;
}

/* EtherType of a PPP protocol number (RFC 1661; MPLS: RFC 3032, 4.3); 0: nothing that IP is found in. Of multilink
 * (RFC 1990) a packet is read that is whole, behind four bytes of flags and number. */
static __u16 tm_type_of_ppp(struct tm_cursor *c, __u16 protocol)
{
	const __u8 *at;

	if (protocol == 0x003d) {
		at = tm_take(c, 5);
		if (!at || (at[0] & 0xc0) != 0xc0)
			return 0;
		protocol = at[4];
		if (!(protocol & 1)) {
			at = tm_take(c, 1);
			protocol = (__u16)(protocol << 8 | (at ? *at : 0));
		}
	}
	switch (protocol) {
	case 0x0021:
		return TM_ETH_IPV4;
	case 0x0031: /* RFC 3518, 4.2: flags, which say whether a LAN's number follows, and the kind of frame */
		at = tm_take(c, 2);
		return at && at[1] == 1 && (!(at[0] & 0x40) || tm_take(c, 4)) ? TM_ETH_BRIDGED : 0;
	case 0x0057:
		return TM_ETH_IPV6;
	case 0x0281:
	case 0x0283:
		return TM_ETH_MPLS;
	}
	return 0;
}

/* The EtherType for PPP's protocol field, which has one byte if that is odd (RFC 1661 6.5); 0: not IP. */
static __u16 tm_layer_ppp(struct tm_cursor *c)
{
	const __u8 *at = tm_take(c, 1), *more;

	if (!at || *at & 1)
		return at ? tm_type_of_ppp(c, *at) : 0;
	more = tm_take(c, 1);
	return more ? tm_type_of_ppp(c, (__u16)(*at << 8 | *more)) : 0;
}

/* PPP from its first byte: in HDLC-like framing (RFC 1662), Cisco's HDLC, or without framing. */
static __u16 tm_layer_ppp_framed(struct tm_cursor *c)
{
	const __u8 *at = c->pos;

	if (c->end - at >= 4 && (at[0] == 0x0f || at[0] == 0x8f) && at[1] == 0) {
		c->pos += 4;
		c->left -= 4;
		return tm_wire16(at + 2);
	}
	if (c->end - at >= 2 && at[0] == 0xff && at[1] == 0x03) {
		c->pos += 2;
		c->left -= 2;
	}
	return tm_layer_ppp(c);
}

/* LLC (IEEE 802.2), with SNAP, IP's own service access point or an NLPID; 0: not IP. Ethernet that is bridged over ATM
 * (RFC 2684, 5.2) comes behind two bytes to fill up. */
static __u16 tm_layer_llc(struct tm_cursor *c)
{
	const __u8 *at = tm_take(c, 3);

	if (!at)
		return 0;
	if (at[0] == 0x06 && (at[1] & 0xfe) == 0x06 && at[2] == 0x03)
		return TM_ETH_IPV4;
	if (at[0] == 0xfe && at[1] == 0xfe && at[2] == 0x03) {
		at = tm_take(c, 1);
		return !at ? 0 : *at == 0xcc ? TM_ETH_IPV4 : *at == 0x8e ? TM_ETH_IPV6 : 0;
	}
	if (at[0] != 0xaa || at[1] != 0xaa || at[2] != 0x03)
		return 0;
	at = tm_take(c, 5);
	if (at && !memcmp(at, "\0\x80\xc2\0", 4) && (at[4] == 1 || at[4] == 7))
		return tm_take(c, 2) ? TM_ETH_BRIDGED : 0;
	return at && (!memcmp(at, "\0\0\0", 3) || !memcmp(at, "\0\0\xf8", 3)) ? tm_wire16(at + 3) : 0;
}

/* An MPLS label stack does not name its payload: IP by its first nibble, or Ethernet, perhaps after a control word. */
static __u16 tm_layer_mpls(struct tm_cursor *c)
{
	const __u8 *label;

	do {
		label = tm_take(c, 4);
		if (!label)
			return 0;
	} while (!(label[2] & 1));
	if (c->pos == c->end)
		return 0;
	switch (*c->pos >> 4) {
	case 4:
		return TM_ETH_IPV4;
	case 6:
		return TM_ETH_IPV6;
	case 0: /* RFC 4385 */
		return tm_take(c, 4) ? TM_ETH_BRIDGED : 0;
	}
	return TM_ETH_BRIDGED;
}

/* A MACsec header; the packet in it is read if it is not encrypted. */
static __u16 tm_layer_macsec(struct tm_cursor *c)
{
	const __u8 *tag = tm_take(c, 6), *type;

	if (!tag || tag[0] & 0x0c || (tag[0] & 0x20 && !tm_take(c, 8)))
		return 0;
	type = tm_take(c, 2);
	return type ? tm_wire16(type) : 0;
}

static __u16 tm_layer_nsh(struct tm_cursor *c)
{
	static const __u16 types[] = {0, TM_ETH_IPV4, TM_ETH_IPV6, TM_ETH_BRIDGED, 0, TM_ETH_MPLS};
	const __u8 *head = c->pos;
	__u32 size;

	if (c->end - head < 8)
		return 0;
	size = (head[1] & 0x3f) * 4;
	if (size < 8 || head[3] >= sizeof(types) / sizeof(types[0]) || !tm_take(c, size))
		return 0;
	return types[head[3]];
}

/* A header of `size` bytes whose last two are the EtherType of what follows. */
static __u16 tm_layer_typed(struct tm_cursor *c, __u32 size)
{
	const __u8 *head = tm_take(c, size);

	return head ? tm_wire16(head + size - 2) : 0;
}

static __u16 tm_layer_ethernet(struct tm_cursor *c, __u32 before)
{
	return tm_layer_typed(c, before + 14);
}

/* The EtherType behind the header that `type` stands for; `type` if that is unknown, 0 if it cannot be read. */
static __u16 tm_layer(struct tm_cursor *c, struct tm_packet *p, __u16 type)
{
	const __u8 *at = c->pos;
	__u32 size = (__u32)(c->end - at);

	if (type < TM_ETH_LENGTHS || type == TM_ETH_JUMBO)
		return tm_layer_llc(c);
	switch (type) {
	case TM_ETH_8021Q:
	case TM_ETH_8021AD:
	case TM_ETH_QINQ_OLD:
	case TM_ETH_QINQ_OLDER:
		if (size >= 4 && !p->key.vlan)
			p->key.vlan = tm_wire16(at) & 0xfff;
		return tm_layer_typed(c, 4);
	case TM_ETH_MPLS:
	case TM_ETH_MPLS_MULTICAST:
		return tm_layer_mpls(c);
	case TM_ETH_PPPOE:
		return tm_take(c, 6) ? tm_layer_ppp(c) : 0;
	case TM_ETH_METADATA:
		return size >= 2 ? tm_layer_typed(c, 4 + 4 * at[1]) : 0;
	case TM_ETH_VNTAG:
	case TM_ETH_HSR:
	case TM_ETH_RTAG:
		return tm_layer_typed(c, 6);
	case TM_ETH_ETAG:
		return tm_layer_typed(c, 8);
	case TM_ETH_ARISTA: /* a time of 64 or of 48 bits behind kind and version */
		return size >= 4 ? tm_layer_typed(c, (at[3] & 0x20 ? 4 + 6 : 4 + 8) + 2) : 0;
	case TM_ETH_MACSEC:
		return tm_layer_macsec(c);
	case TM_ETH_NSH:
		return tm_layer_nsh(c);
	case TM_ETH_BRIDGED:
		return tm_layer_ethernet(c, 0);
	case TM_ETH_FABRICPATH:
		return tm_layer_ethernet(c, 2);
	case TM_ETH_PBB:
		return tm_layer_ethernet(c, 4);
	case TM_ETH_TRILL:
		return size >= 2 ? tm_layer_ethernet(c, 6 + 4 * ((tm_wire16(at) >> 6) & 0x1f)) : 0;
	}
	return type;
}

/* The network packet at the cursor, after any headers that begin with `type`. Returns enum tm_kind. */
static int tm_parse_layers(struct tm_cursor *c, struct tm_packet *p, __u16 type)
{
	const __u8 *before;
	__u16 next;

	p->lenient = 1;
	if (!type) /* p->ethertype says what this is instead */
		return TM_IS_OTHER;
	for (int i = 0; i < TM_LAYERS_MAX && type != TM_ETH_IPV4 && type != TM_ETH_IPV6; i++) {
		before = c->pos;
		next = tm_layer(c, p, type);
		if (!next || c->pos == before)
			break;
		type = next;
	}
	if (type == TM_ETH_IPV4 && c->pos < c->end && *c->pos >> 4 == 6) /* some senders have one type for both */
		type = TM_ETH_IPV6;
	p->ethertype = type < TM_ETH_LENGTHS ? TM_ETH_LLC : type;
	p->header_len = p->wire_len - c->left;
	return tm_parse_network(c, p, type);
}
