/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* The link types of captures, and frames that name their content's. https://www.tcpdump.org/linktypes.html */
#pragma once

#include "host_headers.h"

enum tm_link {
	TM_LINK_NULL = 0,
	TM_LINK_ETHERNET = 1,
	TM_LINK_TOKEN_RING = 6,
	TM_LINK_SLIP = 8,
	TM_LINK_PPP = 9,
	TM_LINK_FDDI = 10,
	TM_LINK_RFC1483_OLD = 11, /* before files had numbers of their own */
	TM_LINK_RAW_BSD = 12,
	TM_LINK_RAW_OPENBSD = 14,
	TM_LINK_PPP_HDLC = 50,
	TM_LINK_PPP_ETHERNET = 51,
	TM_LINK_RFC1483 = 100,
	TM_LINK_RAW = 101,
	TM_LINK_C_HDLC = 104,
	TM_LINK_WIFI = 105,
	TM_LINK_CLIP = 106,
	TM_LINK_FRAME_RELAY = 107,
	TM_LINK_LOOP = 108,
	TM_LINK_ENC = 109,
	TM_LINK_SLL = 113,
	TM_LINK_PFLOG = 117,
	TM_LINK_WIFI_PRISM = 119,
	TM_LINK_FIBRE_CHANNEL = 122,
	TM_LINK_SUN_ATM = 123,
	TM_LINK_WIFI_RADIOTAP = 127,
	TM_LINK_FIREWIRE = 138,
	TM_LINK_PKTAP_OLD = 149, /* of macOS before 258 was given */
	TM_LINK_WIFI_AVS = 163,
	TM_LINK_PPP_PPPD = 166,
	TM_LINK_JUNIPER_ETHERNET = 178,
	TM_LINK_JUNIPER_PPP = 179,
	TM_LINK_JUNIPER_FRAME_RELAY = 180,
	TM_LINK_JUNIPER_C_HDLC = 181,
	TM_LINK_PPI = 192,
	TM_LINK_ERF = 197,
	TM_LINK_PPP_DIR = 204,
	TM_LINK_C_HDLC_DIR = 205,
	TM_LINK_FRAME_RELAY_DIR = 206,
	TM_LINK_MPLS = 219,
	TM_LINK_IPNET = 226,
	TM_LINK_IPV4 = 228,
	TM_LINK_IPV6 = 229,
	TM_LINK_NFLOG = 239,
	TM_LINK_NETANALYZER = 240,
	TM_LINK_NETANALYZER_RAW = 241,
	TM_LINK_INFINIBAND = 242,
	TM_LINK_EXPORTED = 252,
	TM_LINK_PKTAP = 258,
	TM_LINK_MPACKET = 274,
	TM_LINK_SLL2 = 276,
	TM_LINK_DSA_BRCM = 281,
	TM_LINK_DSA_BRCM_PREPEND = 282,
	TM_LINK_DSA = 284,
	TM_LINK_EDSA = 285,
	TM_LINK_NONE = 0x10000, /* a frame without a link that is read here */
};

/* Endace's header of 16 bytes, and its extensions of eight each. Returns the link behind it. */
static __u32 tm_link_of_erf(struct tm_cursor *c, struct tm_packet *p)
{
	const __u8 *at = tm_take_added(c, p, 16);
	__u32 type = at ? at[8] & 0x7f : 0, more = at ? at[8] & 0x80 : 0;

	for (; more; more = at ? at[0] & 0x80 : 0)
		at = tm_take_added(c, p, 8);
	switch (at ? type : 0) {
	case 2: /* Ethernet behind an offset and a byte to fill up; the others have colours or hashes, too */
	case 11:
	case 16:
	case 20:
		return tm_take_added(c, p, 2) ? TM_LINK_ETHERNET : TM_LINK_NONE;
	case 5: /* the channel, then HDLC */
	case 17:
		return tm_take_added(c, p, 4) ? TM_LINK_PPP_HDLC : TM_LINK_NONE;
	case 1:
	case 10:
	case 15:
	case 19:
		return TM_LINK_PPP_HDLC;
	case 22:
	case 23:
		return TM_LINK_RAW;
	}
	return TM_LINK_NONE;
}

/* What Junos puts before a frame of `link`: "MGC", flags, perhaps extensions. Returns the link behind it. */
static __u32 tm_link_of_juniper(struct tm_cursor *c, __u32 link)
{
	const __u8 *at = tm_take(c, 4), *size = NULL;

	if (!at || memcmp(at, "MGC", 3) != 0)
		return TM_LINK_NONE;
	if (at[3] & 0x80 && (!(size = tm_take(c, 2)) || !tm_take(c, tm_wire16(size))))
		return TM_LINK_NONE;
	if (at[3] & 0x02) /* a number of the protocol in place of a link header */
		return tm_take(c, 4) ? TM_LINK_RAW : TM_LINK_NONE;
	return link;
}

/* The tags before what Wireshark exported. Returns the link of it, if that is a frame or a packet of IP. */
static __u32 tm_link_of_exported(struct tm_cursor *c)
{
	const __u8 *at, *name;
	__u32 link = TM_LINK_NONE;

	while ((at = tm_take(c, 4)) && tm_wire16(at)) {
		name = tm_take(c, tm_wire16(at + 2));
		if (!name)
			return TM_LINK_NONE;
		if (tm_wire16(at) != 12 || tm_wire16(at + 2) < 4) /* the name of a dissector, filled up with NULs */
			continue;
		if (!memcmp(name, "ip\0", 3) || !memcmp(name, "ipv6", 4))
			link = TM_LINK_RAW;
		else if (!memcmp(name, "eth", 3))
			link = TM_LINK_ETHERNET;
	}
	return link;
}
