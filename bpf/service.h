/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* The service of a packet: its place in the classes of services (TM_WHAT_* of abi.h). */
#pragma once

#include "packet.h"

/* If the ports could not be read, the port is 0. */
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
