/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* Where one connection ends and the next on the same ports begins: one rule for the ledgers of kernel and host. */
#pragma once

#include "parse.h"

#define TM_TCP_FIN 0x01
#define TM_TCP_RST 0x04
#define TM_TCP_SYN_ACK (TM_TCP_SYN | TM_TCP_ACK)

/*
 * Whether p belongs to another connection than its record (RFC 9293, 3.5). `first_flags`, `first_ack` and `flags` are
 * those of the record: of its first packet, and the OR over all; `spoke`: it has had payload.
 *
 * Nothing follows a reset, and no payload follows a FIN. A SYN or SYN-ACK is repeated unchanged until something else is
 * sent. The flow table, which sees both directions, decides whether this begins another connection.
 */
static __always_inline int tm_opens_another(const struct tm_packet *p, __u8 first_flags, __be32 first_ack, __u8 flags,
					    __u32 spoke)
{
	__u8 opening = p->tcp_flags & TM_TCP_SYN_ACK, was = first_flags & TM_TCP_SYN_ACK;

	if (p->tcp_flags & (TM_TCP_FIN | TM_TCP_RST))
		return 0;
	if (flags & TM_TCP_RST || (flags & TM_TCP_FIN && p->payload_len))
		return 1;
	if (!(opening & TM_TCP_SYN))
		return 0;
	if (flags & TM_TCP_FIN || (opening == was && p->tcp_ack != first_ack))
		return 1;
	return opening == TM_TCP_SYN ? flags & TM_TCP_ACK : spoke || !(flags & TM_TCP_SYN);
}
