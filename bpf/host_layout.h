/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * The offset of each field in the structs that numpy reads and writes as dtypes. Callers compare them when they load
 * the library, so a library of another version is rejected instead of misread.
 */
#ifndef TM_HOST_LAYOUT_H
#define TM_HOST_LAYOUT_H

#include <stddef.h>
#include <string.h>

#include "host_state.h"

#define TM_EXPORT __attribute__((visibility("default")))

/* Offset of each field of struct tm_row in its order, then its size: native.py compares them with the dtype. */
TM_EXPORT __u32 tm_row_layout(__u32 *out)
{
#define AT(field) offsetof(struct tm_row, field)
	static const __u32 at[] = {
		AT(src_hi),	   AT(src_lo),
		AT(dst_hi),	   AT(dst_lo),
		AT(sport),	   AT(dport),
		AT(proto),	   AT(family),
		AT(direction),	   AT(vlan),
		AT(ifindex),	   AT(verdict),
		AT(inner),	   AT(owner),
		AT(packets),	   AT(bytes),
		AT(payload_bytes), AT(payload_packets),
		AT(first),	   AT(last),
		AT(first_len),	   AT(last_len),
		AT(tcp_flags),	   AT(first_flags),
		AT(bits),	   AT(ttl),
		AT(new_record),	   sizeof(struct tm_row),
	};
#undef AT
	memcpy(out, at, sizeof(at));
	return sizeof(at) / sizeof(at[0]);
}

/* Offset of each field of struct tm_state in its order, then its size: as tm_row_layout. */
TM_EXPORT __u32 tm_state_layout(__u32 *out)
{
#define AT(field) offsetof(struct tm_state, field)
	static const __u32 at[] = {
		AT(flow.id),
		AT(flow.src_hi),
		AT(flow.src_lo),
		AT(flow.dst_hi),
		AT(flow.dst_lo),
		AT(flow.sport),
		AT(flow.dport),
		AT(flow.proto),
		AT(flow.family),
		AT(flow.direction),
		AT(flow.vlan),
		AT(flow.ifindex),
		AT(flow.verdict),
		AT(flow.inner),
		AT(flow.owner),
		AT(flow.first),
		AT(flow.last),
		AT(flow.reply_first),
		AT(flow.packets),
		AT(flow.bytes),
		AT(flow.payload_bytes),
		AT(flow.reply_packets),
		AT(flow.reply_bytes),
		AT(flow.reply_payload_bytes),
		AT(flow.payload_packets),
		AT(flow.reply_payload_packets),
		AT(flow.d_packets),
		AT(flow.d_bytes),
		AT(flow.d_reply_packets),
		AT(flow.d_reply_bytes),
		AT(flow.tcp_flags),
		AT(flow.reply_tcp_flags),
		AT(flow.first_flags),
		AT(flow.bits),
		AT(flow.reply_bits),
		AT(flow.reply_first_flags),
		AT(flow.first_len),
		AT(flow.is_new),
		AT(flow.ended),
		AT(p_packets),
		AT(p_bytes),
		AT(p_reply_packets),
		AT(p_reply_bytes),
		AT(since),
		AT(reply_verdict),
		AT(side),
		AT(sure),
		AT(closed),
		sizeof(struct tm_state),
	};
#undef AT
	memcpy(out, at, sizeof(at));
	return sizeof(at) / sizeof(at[0]);
}

#endif
