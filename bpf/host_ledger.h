/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * The ledger of the host build: what the kernel's flow cache does live, for packets and log lines from files. Records
 * are merged for each flow and interval, and become rows of the DELTA layout (trafficmond/flows/batch.py). Fixed
 * memory: a full table is flushed early, and flows of one packet are forgotten.
 */
#pragma once

#include <stdlib.h>
#include <string.h>

#define TM_CAPTURES 1
#include "opening.h"

#define TM_EXPORT __attribute__((visibility("default")))

#define TM_LEDGER_SLOTS 32768u
#define TM_LEDGER_INDEX (TM_LEDGER_SLOTS * 2)
#define TM_ARRIVALS 16
#define TM_LEDGER_ENTRY 0xffffu /* bits that number an entry */
#define TM_ROWS_MAX (TM_LEDGER_SLOTS * 2)
#define TM_LEDGER_KEEP_S 60.0 /* how long a quiet flow is remembered when room is needed */
#define TM_TIME_MAX 1e11      /* epoch seconds; a later time is an error of the file */
#define TM_BITS_OF_INTERVAL (TM_BIT_FRAGMENT | TM_BIT_MORE_FRAGMENTS)
#define TM_SIZE_CLASSES 7 /* RFC 2819, etherStatsPkts*Octets */
#define TM_TYPES_MAX 64	  /* EtherTypes that are counted separately */

#define TM_FIELD(type, name) type name;

/* A row as numpy reads it; its layout is compared with the dtype when the library is loaded. `inner` and `owner` are 0:
 * tunnels in captures are not decoded, and captures have no owners. */
/* clang-format off */
#define TM_ROW(F) \
	F(__u64, src_hi) F(__u64, src_lo) F(__u64, dst_hi) F(__u64, dst_lo) F(__u16, sport) F(__u16, dport) \
	F(__u8, proto) F(__u8, family) F(__u8, direction) F(__u16, vlan) F(__u32, ifindex) \
	F(__u32, verdict) F(__u64, inner) F(__u64, owner) F(__u64, packets) F(__u64, bytes) \
	F(__u64, payload_bytes) F(__u32, payload_packets) F(double, first) F(double, last) \
	F(__u16, first_len) F(__u16, last_len) F(__u8, tcp_flags) F(__u8, first_flags) F(__u8, bits) \
	F(__u8, ttl) F(__u8, new_record)
/* clang-format on */
struct tm_row {
	TM_ROW(TM_FIELD)
} __attribute__((packed));

struct tm_entry {
	struct tm_key key;
	/* since the last flush */
	__u64 packets, bytes, payload_bytes;
	double first, last;
	__u32 payload_packets;
	__u8 tcp_flags;
	/* before it */
	__u64 older_packets;
	__u32 older_payload_packets;
	__u8 older_flags;
	/* of the record */
	__u32 first_ack;
	__u16 first_len, last_len;
	__u8 first_flags, bits, ttl;
};

/* Counts over everything read, for the caller. */
struct tm_host_totals {
	struct tm_count seen, in_flows, not_ip, malformed;
	__u64 malformed_by[TM_MALFORMED_MAX];
	__u64 size_class[TM_SIZE_CLASSES];
	__u64 size_min, size_max;
	double first, last;
	__u64 snapped;	    /* packets that the capture has only in part */
	__u64 unknown_link; /* packets with a link type that cannot be read; among not_ip */
	__u64 other_types;  /* packets of not_ip beyond the types below */
	struct {
		__u64 packets;
		__u32 ethertype, pad;
	} type[TM_TYPES_MAX]; /* of what is not IP; packets 0: free */
};

/* One packet or log line, beyond its key. */
struct tm_seen {
	double at;
	__u32 length, payload;
	__u32 ack;
	__u8 tcp_flags, bits, ttl;
};

/* A packet whose place in the index is being fetched from memory. */
struct tm_arrived {
	struct tm_key key;
	struct tm_seen seen;
	__u64 hash;
};

struct tm_ledger {
	struct tm_host_totals totals;
	double interval, bucket_start;
	__u32 used, touched, rows;
	__u32 arrived;
	int begun;
	struct tm_arrived arrival[TM_ARRIVALS];
	__u32 index[TM_LEDGER_INDEX]; /* entry number + 1, and in the upper half bits of its hash; 0: free */
	__u32 touched_list[TM_LEDGER_SLOTS];
	struct tm_entry entry[TM_LEDGER_SLOTS];
	struct tm_row row[TM_ROWS_MAX];
};

static __u64 tm_be64(const __u8 *p)
{
	__u64 v;

	memcpy(&v, p, sizeof(v));
	return __builtin_bswap64(v); /* abi.h refuses big-endian machines */
}

static __u64 tm_key_hash(const struct tm_key *key)
{
	__u64 word[sizeof(*key) / 8], h = 0x9e3779b97f4a7c15ull;

	memcpy(word, key, sizeof(word));
	for (unsigned int i = 0; i < sizeof(word) / 8; i++) {
		h = (h ^ word[i]) * 0xff51afd7ed558ccdull;
		h ^= h >> 32;
	}
	return h;
}

static int tm_size_class(__u64 length)
{
	static const __u32 upper[TM_SIZE_CLASSES - 1] = {64, 127, 255, 511, 1023, 1518};
	int i = 0;

	while (i < TM_SIZE_CLASSES - 1 && length > upper[i])
		i++;
	return i;
}

/* Counts a packet in the totals; the caller adds it to in_flows, not_ip or malformed. */
static void tm_note_seen(struct tm_host_totals *t, __u64 length, double at)
{
	if (!t->seen.packets || at < t->first)
		t->first = at;
	if (!t->seen.packets || at > t->last)
		t->last = at;
	if (!t->seen.packets || length < t->size_min)
		t->size_min = length;
	if (length > t->size_max)
		t->size_max = length;
	t->size_class[tm_size_class(length)]++;
	t->seen.packets++;
	t->seen.bytes += length;
}

static void tm_count_add(struct tm_count *c, __u64 length)
{
	c->packets++;
	c->bytes += length;
}

/* Counts a packet that is not IP, by its type. */
static void tm_count_type(struct tm_host_totals *t, __u32 ethertype)
{
	for (int i = 0; i < TM_TYPES_MAX; i++) {
		if (t->type[i].packets && t->type[i].ethertype != ethertype)
			continue;
		t->type[i].ethertype = ethertype;
		t->type[i].packets++;
		return;
	}
	t->other_types++;
}

/* The row of a flow that has counted nothing. */
static struct tm_row tm_row_of(const struct tm_key *k)
{
	int six = k->scope & TM_SCOPE_IPV6;

	return (struct tm_row){
		/* An IPv4 packet's upper half is zero by definition; v4-mapped already. */
		.src_hi = six ? tm_be64(k->src) : 0,
		.src_lo = tm_be64(k->src + 8),
		.dst_hi = six ? tm_be64(k->dst) : 0,
		.dst_lo = tm_be64(k->dst + 8),
		.sport = tm_ntohs(k->sport),
		.dport = tm_ntohs(k->dport),
		.proto = k->proto,
		.family = six ? 6 : 4,
		.direction = k->scope & TM_SCOPE_EGRESS ? TM_EGRESS : TM_INGRESS,
		.vlan = k->vlan,
		.ifindex = k->ifindex,
		.verdict = k->verdict,
	};
}

/* Moves what the interval added to one record into a row. */
static void tm_ledger_row(struct tm_ledger *l, struct tm_entry *e)
{
	struct tm_row *r = &l->row[l->rows++];

	*r = tm_row_of(&e->key);
	r->packets = e->packets;
	r->bytes = e->bytes;
	r->payload_bytes = e->payload_bytes;
	r->payload_packets = e->payload_packets;
	r->first = e->first;
	r->last = e->last;
	r->first_len = e->first_len;
	r->last_len = e->last_len;
	r->tcp_flags = e->tcp_flags;
	r->first_flags = e->first_flags;
	r->bits = e->bits;
	r->ttl = e->ttl;
	r->new_record = !e->older_packets;
	e->older_packets += e->packets;
	e->older_payload_packets += e->payload_packets;
	e->older_flags |= e->tcp_flags;
	e->packets = e->bytes = e->payload_bytes = 0;
	e->payload_packets = 0;
	e->tcp_flags = 0;
	e->bits &= ~TM_BITS_OF_INTERVAL;
}

/* Moves what the interval added into rows. There is always room: see tm_ledger_room(). */
static void tm_ledger_flush(struct tm_ledger *l)
{
	for (__u32 i = 0; i < l->touched; i++)
		tm_ledger_row(l, &l->entry[l->touched_list[i]]);
	l->touched = 0;
}

/* The number of the key's entry; if it has none, the next one is for it. */
static __u32 tm_ledger_place(struct tm_ledger *l, const struct tm_key *key, __u64 hash)
{
	__u32 at = hash & (TM_LEDGER_INDEX - 1), mark = hash >> 32 & ~TM_LEDGER_ENTRY;

	for (; l->index[at]; at = (at + 1) & (TM_LEDGER_INDEX - 1)) {
		__u32 number = (l->index[at] & TM_LEDGER_ENTRY) - 1;

		/* Only the entry of a key with the same bits is worth a cache line. */
		if ((l->index[at] & ~TM_LEDGER_ENTRY) == mark && !memcmp(&l->entry[number].key, key, sizeof(*key)))
			return number;
	}
	if (l->used < TM_LEDGER_SLOTS)
		l->index[at] = mark | (l->used + 1);
	return l->used;
}

/* Forgets quiet flows and flows seen once; all, if that frees less than half. Only after a flush. */
static void tm_ledger_forget(struct tm_ledger *l, double now)
{
	__u32 kept = 0;

	for (__u32 i = 0; i < l->used; i++)
		if (l->entry[i].older_packets > 1 && l->entry[i].last > now - TM_LEDGER_KEEP_S)
			l->entry[kept++] = l->entry[i];
	kept = kept > TM_LEDGER_SLOTS / 2 ? 0 : kept;
	memset(l->index, 0, sizeof(l->index));
	for (l->used = 0; l->used < kept; l->used++)
		tm_ledger_place(l, &l->entry[l->used].key, tm_key_hash(&l->entry[l->used].key));
}

#define TM_TOGETHER_MAX 512 /* packets of one frame */

/* Whether another frame may be added: a full interval always fits after the waiting rows. */
static int tm_ledger_room(const struct tm_ledger *l)
{
	return l->rows <= TM_ROWS_MAX - TM_LEDGER_SLOTS - TM_TOGETHER_MAX - TM_ARRIVALS;
}

static __u16 tm_cap16(__u32 length)
{
	return length > 0xffff ? 0xffff : (__u16)length;
}

static void tm_entry_begin(struct tm_entry *e, const struct tm_key *key, const struct tm_seen *s)
{
	memset(e, 0, sizeof(*e));
	e->key = *key;
	e->first_len = tm_cap16(s->length);
	e->first_flags = s->tcp_flags;
	e->first_ack = s->ack;
	e->ttl = s->ttl;
	if (s->payload)
		e->bits |= TM_BIT_FIRST_PAYLOAD;
}

static void tm_ledger_count(struct tm_ledger *l, const struct tm_arrived *a)
{
	const struct tm_key *key = &a->key;
	const struct tm_seen *s = &a->seen;
	struct tm_packet packet = {.tcp_flags = s->tcp_flags, .tcp_ack = s->ack, .payload_len = s->payload};
	__u32 number = tm_ledger_place(l, key, a->hash);
	struct tm_entry *e;

	if (number == TM_LEDGER_SLOTS) {
		tm_ledger_flush(l);
		tm_ledger_forget(l, s->at);
		number = tm_ledger_place(l, key, a->hash);
	}
	e = &l->entry[number];
	if (number == l->used) {
		tm_entry_begin(e, key, s);
		l->used++;
	}
	if (!e->packets)
		l->touched_list[l->touched++] = number;
	if (tm_opens_another(&packet, e->first_flags, e->first_ack, e->tcp_flags | e->older_flags,
			     e->payload_packets | e->older_payload_packets)) {
		if (e->packets)
			tm_ledger_row(l, e); /* it stays in the list, for what follows */
		tm_entry_begin(e, key, s);
	}
	/* Times are those of the interval, so packets that are out of order keep their own. */
	if (!e->packets || s->at > e->last)
		e->last = s->at;
	if (!e->packets || s->at < e->first)
		e->first = s->at;
	e->packets++;
	e->bytes += s->length;
	if (s->payload) {
		if (!e->payload_packets && !e->older_payload_packets &&
		    (e->first_flags & TM_TCP_SYN_ACK) == TM_TCP_SYN_ACK && s->ack == e->first_ack)
			e->bits |= TM_BIT_SPOKE_FIRST;
		e->payload_packets++;
		e->payload_bytes += s->payload;
	}
	e->last_len = tm_cap16(s->length);
	e->tcp_flags |= s->tcp_flags;
	e->bits |= s->bits;
}

/* Adds the packets that have arrived to their flows. */
static void tm_ledger_settle(struct tm_ledger *l)
{
	for (__u32 i = 0; i < l->arrived; i++)
		tm_ledger_count(l, &l->arrival[i]);
	l->arrived = 0;
}

/*
 * Adds one packet to its flow, after tm_ledger_begin() returned 1. The unused bytes of the key must be zero. Several
 * packets wait for their places at once: the index is in no cache, and the processor would wait for each in turn.
 */
static void tm_ledger_add(struct tm_ledger *l, const struct tm_key *key, const struct tm_seen *s)
{
	struct tm_arrived *a = &l->arrival[l->arrived++];

	*a = (struct tm_arrived){*key, *s, tm_key_hash(key)};
	__builtin_prefetch(&l->index[a->hash & (TM_LEDGER_INDEX - 1)]);
	tm_count_add(&l->totals.in_flows, s->length);
	if (l->arrived == TM_ARRIVALS)
		tm_ledger_settle(l);
}

/*
 * Starts a new interval if `at` is outside the present one, which is flushed first. A packet up to one interval late
 * (captures are not always in order) still belongs to the present one. Returns 0 if rows must be taken before the
 * packet can be added.
 */
static int tm_ledger_begin(struct tm_ledger *l, double at)
{
	if (!tm_ledger_room(l))
		return 0;
	if (l->begun && at >= l->bucket_start - l->interval && at < l->bucket_start + l->interval)
		return 1;
	tm_ledger_settle(l);
	tm_ledger_flush(l);
	l->begun = 1;
	l->bucket_start = __builtin_floor(at / l->interval) * l->interval;
	return tm_ledger_room(l);
}

/* What a record of the kernel gained since it was last read. */
static struct tm_row tm_gained(const struct tm_flow *f, const struct tm_taken *base)
{
	struct tm_row r = tm_row_of(&f->key);

	r.inner = f->inner;
	r.owner = f->owner;
	r.packets = f->packets - base->packets;
	r.bytes = f->bytes - base->bytes;
	r.payload_bytes = f->payload_bytes - base->payload_bytes;
	r.payload_packets = f->payload_packets - base->payload_packets;
	r.first = (double)f->first;
	r.last = (double)f->last;
	r.first_len = f->first_len;
	r.last_len = f->last_len;
	r.tcp_flags = f->tcp_flags;
	r.first_flags = f->first_flags;
	r.bits = f->bits;
	r.ttl = f->ttl;
	r.new_record = !base->sequence;
	return r;
}
