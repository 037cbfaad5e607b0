/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* Headers before an IP packet: Ethernet, VLAN tags, MPLS labels. */
#pragma once

#include "packet.h"

/* The EtherType for the version of the IP packet at the cursor; 0 if it is neither. */
static __always_inline __u16 tm_type_of_raw(const struct tm_cursor *c)
{
	if (c->pos + 1 > c->end)
		return 0;
	return *c->pos >> 4 == 4 ? TM_ETH_IPV4 : *c->pos >> 4 == 6 ? TM_ETH_IPV6 : 0;
}

/* Without branches, like tm_parse_tag(): each would double what the verifier has to check in hundreds of rounds. */
static __always_inline int tm_is_tag(__u16 type)
{
	__u32 plain = type ^ TM_ETH_8021Q, provider = type ^ TM_ETH_8021AD;

	return plain * provider == 0;
}

static __always_inline int tm_is_mpls(__u16 type)
{
	return type == TM_ETH_MPLS || type == TM_ETH_MPLS_MULTICAST;
}

/* The tag at the cursor, which has the type of what follows. The outermost tag with a number is the packet's VLAN. */
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

/*
 * VLAN tags; Linux follows any number of them. Returns the type after them, 0 if malformed.
 *
 * A round has few instructions, because the verifier checks all rounds. All ways out of a round leave their result in
 * *p only, so the verifier sees one state there, and the same on the way in.
 */
static __always_inline __u16 tm_parse_tags(struct tm_cursor *c, struct tm_packet *p, int most)
{
	const struct tm_vlan *tag;
	__u32 whole;
	__u16 type = 0;
	int i;

	p->malformed = TM_UNPARSED_LINK;
	p->header_len = p->wire_len - c->left;
	p->payload_len = c->left;
	tm_resume(c, p);
	tag = (const void *)c->pos;
	whole = c->left;
	TM_LOOP
	for (i = 0; i < most; i++, tag++) {
		if ((const __u8 *)(tag + 1) > c->end) {
			p->malformed = TM_SHORT_VLAN;
			break;
		}
		type = tm_parse_tag(tag, p);
		if (!tm_is_tag(type)) {
			p->malformed = 0;
			i++;
			break;
		}
	}
	p->header_len += i * sizeof(*tag);
	p->payload_len -= i * sizeof(*tag);
	tm_resume(c, p);
	if (c->left > whole) /* they went beyond the packet */
		p->malformed = TM_SHORT_VLAN;
	return p->malformed ? 0 : type;
}

/* MPLS labels (RFC 3032) do not have the type of what follows: as in routers, the IP version shows it. */
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

/* Ethernet, and what the host's stack removes before IP: the EtherType after it in host order; 0: no IP, malformed. */
static __always_inline __u16 tm_parse_link(struct tm_cursor *c, struct tm_packet *p, int tags)
{
	const struct tm_ethernet *eth = tm_take(c, sizeof(*eth));
	__u16 type;

	if (!eth) {
		p->malformed = TM_SHORT_ETHERNET;
		return 0;
	}
	type = tm_ntohs(eth->type);
	if (tm_is_tag(type))
		type = tm_parse_tags(c, p, tags);
	return tm_is_mpls(type) ? tm_parse_labels(c, p) : type;
}
