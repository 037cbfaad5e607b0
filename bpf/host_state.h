/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * A flow in the flow table: to which flow a delta belongs, and how long a flow is kept. trafficmond/flows (table.py,
 * canonical.py, state.py) explains this.
 */
#pragma once

#include <math.h>
#include <stddef.h>
#include <string.h>

#include "host_ledger.h"

#define TM_KEY_WORDS 14
#define TM_TYPE_UNKNOWN 256

/* clang-format off */
#define TM_FLOW_ROW(F) \
	F(__u64, id) F(__u64, src_hi) F(__u64, src_lo) F(__u64, dst_hi) F(__u64, dst_lo) F(__u16, sport) \
	F(__u16, dport) F(__u8, proto) F(__u8, family) F(__u8, direction) F(__u16, vlan) F(__u32, ifindex) \
	F(__u32, verdict) F(__u64, inner) F(__u64, owner) F(double, first) F(double, last) \
	F(double, reply_first) F(__u64, packets) F(__u64, bytes) F(__u64, payload_bytes) \
	F(__u64, reply_packets) F(__u64, reply_bytes) F(__u64, reply_payload_bytes) \
	F(__u32, payload_packets) F(__u32, reply_payload_packets) F(__u64, d_packets) F(__u64, d_bytes) \
	F(__u64, d_reply_packets) F(__u64, d_reply_bytes) F(__u8, tcp_flags) F(__u8, reply_tcp_flags) \
	F(__u8, first_flags) F(__u8, bits) F(__u8, reply_bits) F(__u8, reply_first_flags) \
	F(__u16, first_len) F(__u8, is_new) F(__u8, ended)
/* clang-format on */
struct tm_flow_row {
	TM_FLOW_ROW(TM_FIELD)
} __attribute__((packed));

/* clang-format off */
#define TM_STATE(F) \
	F(__u64, p_packets) F(__u64, p_bytes) F(__u64, p_reply_packets) F(__u64, p_reply_bytes) \
	F(double, since) F(__u32, reply_verdict) F(__u8, side) F(__u8, sure) F(__u8, closed)
/* clang-format on */
struct tm_state {
	struct tm_flow_row flow;
	TM_STATE(TM_FIELD)
} __attribute__((packed));

#define TM_WELL_KNOWN 1 /* a service's port */
#define TM_LISTENS 2	/* this host accepts TCP connections on it */

/* Tables of the Python side, and its timeouts. */
struct tm_flow_rules {
	const __u64 *key;    /* [1 + TM_KEY_WORDS][2] */
	const __s16 *mate;   /* [256][TM_TYPE_UNKNOWN + 1]: of an ICMP type, -1: none */
	const __u8 *reply;   /* [256][TM_TYPE_UNKNOWN + 1]: an ICMP type is an answer */
	const __u8 *service; /* [65536]: of a port, the two above */
	double idle, active; /* timeouts */
	double linger;	     /* after a close */
	double established, answered;
	double before; /* time of the reading before */
	__u32 in_order;
	__u32 pad;
};

static int tm_is_icmp(__u8 proto)
{
	return proto == TM_PROTO_ICMP || proto == TM_PROTO_ICMPV6;
}

static __u32 tm_icmp_at(const struct tm_row *d)
{
	return d->proto * (TM_TYPE_UNKNOWN + 1) + (d->sport < TM_TYPE_UNKNOWN ? d->sport : TM_TYPE_UNKNOWN);
}

static int tm_later_fragment(const struct tm_row *d)
{
	return tm_is_icmp(d->proto) && d->bits & TM_BIT_FRAGMENT && !d->sport && !d->dport;
}

/* The earliest time of the first packet of a delta. */
static double tm_begins(const struct tm_row *d, double before)
{
	double at = d->new_record ? d->first : d->packets == 1 ? d->last : d->first > before ? d->first : before;

	return at < d->last ? at : d->last;
}

static int tm_opening(const struct tm_row *d)
{
	int only = (d->tcp_flags & (TM_TCP_SYN | TM_TCP_ACK | TM_TCP_FIN | TM_TCP_RST)) == TM_TCP_SYN;

	return d->proto == TM_PROTO_TCP && (d->first_flags & (TM_TCP_SYN | TM_TCP_ACK)) == TM_TCP_SYN &&
	       (d->new_record || only);
}

/* Whether a delta belongs to a record that began with a SYN, in an earlier batch. */
static int tm_goes_on(const struct tm_row *d)
{
	return d->proto == TM_PROTO_TCP && (d->first_flags & (TM_TCP_SYN | TM_TCP_ACK)) == TM_TCP_SYN && !d->new_record;
}

static __u64 tm_flow_id(const struct tm_row *d, const struct tm_flow_rules *r, __u8 *swapped)
{
	int swap = d->src_hi != d->dst_hi   ? d->src_hi > d->dst_hi
		   : d->src_lo != d->dst_lo ? d->src_lo > d->dst_lo
					    : d->sport > d->dport;
	__u16 dport = d->dport;
	__u64 word[TM_KEY_WORDS], half[2] = {r->key[0], r->key[1]}, a[2], b[2];
	int i;

	if (tm_is_icmp(d->proto)) {
		__s16 mate = r->mate[tm_icmp_at(d)];
		int paired = mate >= 0 && !tm_later_fragment(d),
		    same = d->src_hi == d->dst_hi && d->src_lo == d->dst_lo;
		int kind = d->sport < TM_TYPE_UNKNOWN ? d->sport : TM_TYPE_UNKNOWN;

		if (paired)
			dport = (__u16)mate;
		swap = paired && (same ? kind > mate : swap);
	}
	a[0] = swap ? d->dst_hi : d->src_hi;
	a[1] = swap ? d->dst_lo : d->src_lo;
	b[0] = swap ? d->src_hi : d->dst_hi;
	b[1] = swap ? d->src_lo : d->dst_lo;
	for (i = 0; i < 2; i++) {
		word[2 * i] = a[i] >> 32;
		word[2 * i + 1] = a[i] & 0xffffffff;
		word[4 + 2 * i] = b[i] >> 32;
		word[4 + 2 * i + 1] = b[i] & 0xffffffff;
	}
	word[8] = (__u64)(swap ? dport : d->sport) << 16 | (swap ? d->sport : dport);
	word[9] = d->ifindex;
	word[10] = d->vlan;
	word[11] = (__u64)d->proto << 8 | d->family;
	word[12] = d->inner >> 32;
	word[13] = d->inner & 0xffffffff;
	for (i = 0; i < TM_KEY_WORDS; i++) {
		half[0] += word[i] * r->key[2 * (i + 1)];
		half[1] += word[i] * r->key[2 * (i + 1) + 1];
	}
	*swapped = swap;
	return (half[0] & ~0xffffffffull) | half[1] >> 32;
}

static double tm_kept(const struct tm_state *s, const struct tm_flow_rules *r)
{
	const struct tm_flow_row *f = &s->flow;
	int tcp = f->proto == TM_PROTO_TCP, lasting;
	double kept = 0;

	if (s->closed)
		return r->linger < r->idle ? r->linger : r->idle;
	lasting = tcp ? !((f->tcp_flags | f->reply_tcp_flags) & (TM_TCP_FIN | TM_TCP_RST))
		      : f->packets > 1 && f->reply_packets > 1 && f->last - f->first > r->idle;
	if (f->packets && f->reply_packets && (!tcp || f->tcp_flags & f->reply_tcp_flags & TM_TCP_ACK))
		kept = lasting ? r->established : r->answered;
	return kept > r->idle ? kept : r->idle;
}

/* When a row must be examined again. */
static double tm_deadline(const struct tm_state *s, const struct tm_flow_rules *r)
{
	double kept = tm_kept(s, r), idle, active;

	if (s->since < INFINITY && r->idle < kept)
		kept = r->idle;
	idle = s->flow.last + kept;
	active = s->since + r->active;
	return idle < active ? idle : active;
}

#define TM_ROW_AT(type, field) offsetof(struct tm_row, field),
#define TM_FLOW_AT(type, field) offsetof(struct tm_state, flow.field),
#define TM_STATE_AT(type, field) offsetof(struct tm_state, field),

/*
 * Offset of each field of struct tm_row in its order, then its size. Callers compare them with their dtype when they
 * load the library, so a library of another version is rejected instead of misread.
 */
TM_EXPORT __u32 tm_row_layout(__u32 *out)
{
	static const __u32 at[] = {TM_ROW(TM_ROW_AT) sizeof(struct tm_row)};

	memcpy(out, at, sizeof(at));
	return sizeof(at) / sizeof(at[0]);
}

/* The same of struct tm_state. */
TM_EXPORT __u32 tm_state_layout(__u32 *out)
{
	static const __u32 at[] = {TM_FLOW_ROW(TM_FLOW_AT) TM_STATE(TM_STATE_AT) sizeof(struct tm_state)};

	memcpy(out, at, sizeof(at));
	return sizeof(at) / sizeof(at[0]);
}
