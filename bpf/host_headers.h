/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* The link headers of captures, each read up to the packet after it: https://www.tcpdump.org/linktypes.html */
#pragma once

#include "host_layers.h"

#define TM_PACKET_OUTGOING 4 /* packet type of a cooked header */
#define TM_SLL_LLC 4	     /* its protocol of what begins with LLC */
#define TM_NFLOG_PAYLOAD 9   /* NFULA_PAYLOAD */

static __u16 tm_little16(const __u8 *p)
{
	return (__u16)(p[0] | p[1] << 8);
}

static __u32 tm_little32(const __u8 *p)
{
	return tm_little16(p) | (__u32)tm_little16(p + 2) << 16;
}

/* A BSD address family; IPv6 has a different number on each system. */
static __u16 tm_type_of_family(__u32 family)
{
	switch (family) {
	case 2:
		return TM_ETH_IPV4;
	case 10:
	case 24:
	case 26:
	case 28:
	case 30:
		return TM_ETH_IPV6;
	}
	return family >= TM_ETH_LENGTHS ? (__u16)family : TM_ETH_NONE; /* some writers have an EtherType there */
}

static int tm_behind_nothing(struct tm_packet *p)
{
	p->malformed = TM_SHORT_ETHERNET;
	return TM_IS_MALFORMED;
}

/* Takes `size` bytes that were not on the wire: the capturing program put them before the frame. */
static const __u8 *tm_take_added(struct tm_cursor *c, struct tm_packet *p, __u32 size)
{
	const __u8 *at = tm_take(c, size);

	if (at && p->wire_len > size) {
		c->start += size;
		p->wire_len -= size;
	}
	return at;
}

/* Notes that the frame was sent by the host that captured it, if its first byte is not zero. */
static void tm_link_direction(const __u8 *data, __u32 size, struct tm_packet *p)
{
	if (size && data[0])
		p->key.scope |= TM_SCOPE_EGRESS;
}

/* The same for a byte that is not part of the frame. Returns whether it is there. */
static int tm_take_direction(struct tm_cursor *c, struct tm_packet *p)
{
	const __u8 *at = tm_take_added(c, p, 1);

	tm_link_direction(at, at != NULL, p);
	return at != NULL;
}

/* The network packet after a link header of `size` bytes, whose type is `type`. */
static int tm_behind(struct tm_cursor *c, struct tm_packet *p, __u32 size, __u16 type)
{
	if (!tm_take(c, size))
		return tm_behind_nothing(p);
	return tm_parse_layers(c, p, type);
}

/* The same if the type is in the two bytes at `at`. */
static int tm_behind_typed(struct tm_cursor *c, struct tm_packet *p, __u32 size, __u32 at)
{
	const __u8 *head = tm_take(c, size);

	return head ? tm_parse_layers(c, p, tm_wire16(head + at)) : tm_behind_nothing(p);
}

static int tm_behind_ppp(struct tm_cursor *c, struct tm_packet *p, __u32 size)
{
	return tm_take(c, size) ? tm_parse_layers(c, p, tm_layer_ppp_framed(c)) : tm_behind_nothing(p);
}

static int tm_behind_llc(struct tm_cursor *c, struct tm_packet *p, __u32 size)
{
	p->ethertype = TM_ETH_LLC;
	return tm_take(c, size) ? tm_parse_layers(c, p, tm_layer_llc(c)) : tm_behind_nothing(p);
}

static int tm_behind_raw(struct tm_cursor *c, struct tm_packet *p)
{
	return tm_parse_layers(c, p, tm_type_of_raw(c));
}

/* Ethernet with Marvell's switch tag at `at`, which replaces that of 802.1Q if there was one. */
static int tm_behind_dsa(struct tm_cursor *c, struct tm_packet *p, __u32 at)
{
	if (c->end - c->pos >= at + 4 && c->pos[at] & 0x20)
		p->key.vlan = tm_wire16(c->pos + at + 2) & 0xfff;
	return tm_behind_typed(c, p, at + 6, at + 4);
}

/*
 * SLIP: the direction, then the packet. BSD has 15 more bytes between them, which begin with the kind of packet (RFC
 * 1144: 0x40 is IP); an IPv4 header, whose length is at least 5, cannot begin like this.
 */
static int tm_behind_slip(struct tm_cursor *c, struct tm_packet *p)
{
	const __u8 *head = c->pos;
	__u32 size = (__u32)(c->end - head);

	tm_link_direction(head, size, p);
	if (size >= 2 && head[1] & 0x80) /* compressed; readable only with all packets before it */
		return TM_IS_OTHER;
	size = size >= 2 && (head[1] >> 4 == 6 || (head[1] >> 4 == 4 && (head[1] & 0x0f) >= 5)) ? 1 : 16;
	return tm_take(c, size) ? tm_behind_raw(c, p) : tm_behind_nothing(p);
}

/* IEEE 802.5; frames may have a route through several rings (the first bit of the source address). */
static int tm_behind_token_ring(struct tm_cursor *c, struct tm_packet *p)
{
	const __u8 *head = tm_take(c, 14);

	if (!head)
		return tm_behind_nothing(p);
	if ((head[1] & 0xc0) != 0x40) /* of the ring itself */
		return TM_IS_OTHER;
	return tm_behind_llc(c, p, head[8] & 0x80 && c->pos < c->end ? c->pos[0] & 0x1f : 0);
}

/* RFC 2427: an address of two to four bytes, Q.922 control and the protocol; or Cisco's form, with an EtherType. */
static int tm_behind_frame_relay(struct tm_cursor *c, struct tm_packet *p)
{
	const __u8 *at;
	__u32 size = 0;

	do {
		at = tm_take(c, 1);
		if (!at)
			return tm_behind_nothing(p);
	} while (++size < 4 && !(*at & 1));
	if (c->end - c->pos < 2)
		return tm_behind_nothing(p);
	if (*c->pos != 0x03)
		return tm_behind_typed(c, p, 2, 0);
	tm_take(c, c->pos[1] ? 1 : 2); /* a byte to fill up */
	at = tm_take(c, 1);
	switch (at ? *at : 0) {
	case 0xcc:
		return tm_parse_layers(c, p, TM_ETH_IPV4);
	case 0x8e:
		return tm_parse_layers(c, p, TM_ETH_IPV6);
	case 0x80: /* SNAP */
		at = tm_take(c, 5);
		if (at && !memcmp(at, "\0\0\0", 3))
			return tm_parse_layers(c, p, tm_wire16(at + 3));
		if (!at || memcmp(at, "\0\x80\xc2\0", 4) != 0 ||
		    (at[4] != 1 && at[4] != 7)) /* with a checksum, without */
			return TM_IS_OTHER;
		return tm_behind_typed(c, p, 14, 12);
	}
	return TM_IS_OTHER;
}

/* IEEE 802.3br: a preamble, and a delimiter that distinguishes whole frames from first parts. */
static int tm_behind_preamble(struct tm_cursor *c, struct tm_packet *p)
{
	const __u8 *at;
	int before = 0;

	do {
		at = tm_take(c, 1);
		if (!at)
			return tm_behind_nothing(p);
	} while (*at == 0x55 && before++ < 7);
	return memchr("\xd5\xe6\x4c\x7f\xb3", *at, 5) ? tm_behind_typed(c, p, 14, 12) : TM_IS_OTHER;
}

/* Whether radiotap says that the 802.11 header after it is padded to four bytes (https://www.radiotap.org). */
static int tm_radiotap_padded(const __u8 *head, __u32 size)
{
	__u32 at = 4, present, first = 0;

	do {
		if (at + 4 > size)
			return 0;
		present = tm_little32(head + at);
		first = at == 4 ? present : first;
		at += 4;
	} while (present >> 31);
	if (first & 1) /* a time of eight bytes comes before the flags */
		at = ((at + 7) & ~7u) + 8;
	return first & 2 && at < size && head[at] & 0x20;
}

/* The size of one of several packets that are sent together; each but the last is filled up to four bytes. */
static __u32 tm_msdu_size(const __u8 *at, const __u8 *end)
{
	return end - at < 14 ? (__u32)(end - at) : (14 + tm_wire16(at + 12) + 3u) & ~3u;
}

/*
 * Unencrypted IEEE 802.11 data frames; management and encrypted frames are not IP. Of packets that are sent together
 * (A-MSDU, 9.3.2.2.2), the first is read; the cursor's end is then that of this one, and the others are like frames of
 * Ethernet with a length.
 */
static int tm_behind_wifi(struct tm_cursor *c, struct tm_packet *p, __u32 before, int padded)
{
	const __u8 *head = tm_take(c, before) ? tm_take(c, 24) : (const __u8 *)0;
	__u32 more = 0, together = 0;
	__u16 control;

	if (!head)
		return tm_behind_nothing(p);
	control = tm_little16(head);
	if ((control & 0x000c) != 0x0008 || control & 0x4040) /* not data; without data, or protected */
		return TM_IS_OTHER;
	if ((control & 0x0300) == 0x0300)
		more += 6; /* a fourth address */
	if (control & 0x0080) {
		together = c->end - c->pos > more && c->pos[more] & 0x80;
		more += control & 0x8000 ? 6 : 2; /* quality of service, and perhaps HT control */
	}
	if (padded)
		more = (more + 3) & ~3u;
	if (together && tm_take(c, more)) {
		if (c->end - c->pos > tm_msdu_size(c->pos, c->end))
			c->end = c->pos + tm_msdu_size(c->pos, c->end);
		more = 14; /* addresses and length */
	}
	return tm_behind_llc(c, p, more);
}

static int tm_behind_radiotap(struct tm_cursor *c, struct tm_packet *p)
{
	__u32 size = (__u32)(c->end - c->pos), length = size < 4 ? 0 : tm_little16(c->pos + 2);

	if (length < 8 || length > size)
		return tm_behind_nothing(p);
	return tm_behind_wifi(c, p, length, tm_radiotap_padded(c->pos, length));
}

/* The AVS header of wlan-ng, with the length that it states; otherwise Prism's. */
static __u32 tm_prism_size(const __u8 *head, __u32 size)
{
	return size >= 8 && (tm_wire32(head) & 0xfffff000) == 0x80211000 ? tm_wire32(head + 4) & 0xffff : 144;
}

/* Linux's cooked header of `size` bytes, by the device type and the protocol in it. */
static int tm_behind_cooked(struct tm_cursor *c, struct tm_packet *p, __u32 size, __u16 device, __u16 type)
{
	if (!tm_take(c, size))
		return tm_behind_nothing(p);
	switch (device) { /* <linux/if_arp.h> */
	case 801:
		return tm_behind_wifi(c, p, 0, 0);
	case 802:
		return tm_behind_wifi(c, p, tm_prism_size(c->pos, (__u32)(c->end - c->pos)), 0);
	case 803:
		return tm_behind_radiotap(c, p);
	case 824: /* netlink, whose protocols are its own */
		return TM_IS_OTHER;
	}
	if (type < TM_ETH_LENGTHS && type != TM_SLL_LLC)
		return TM_IS_OTHER;
	return tm_parse_layers(c, p, type);
}

/* A packet logged by Linux's netfilter: attributes in the byte order of the host, one of them the packet. */
static int tm_behind_nflog(struct tm_cursor *c, struct tm_packet *p)
{
	const __u8 *at = tm_take(c, 4);
	__u32 length, type, swapped;

	if (!at)
		return tm_behind_nothing(p);
	while (c->end - c->pos >= 4) {
		at = c->pos;
		swapped = tm_little16(at) < 4 || tm_little16(at) > c->end - at;
		length = swapped ? tm_wire16(at) : tm_little16(at);
		type = (swapped ? tm_wire16(at + 2) : tm_little16(at + 2)) & 0x7fff;
		if (length < 4 || !tm_take(c, type == TM_NFLOG_PAYLOAD ? 4 : (length + 3) & ~3u))
			break;
		if (type == TM_NFLOG_PAYLOAD)
			return tm_behind_raw(c, p); /* the family may be that of a bridge */
	}
	return TM_IS_OTHER;
}
