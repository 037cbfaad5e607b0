/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* What stands before an IP packet: Ethernet, VLAN tags, MPLS labels. */
#ifndef TM_LINK_H
#define TM_LINK_H

#include "packet.h"

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

#endif
