/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * The ledger: each CPU's 2-way set-associative flow cache. If a set is full, its idle or smaller record is moved to the
 * CPU's ring. If the ring is full, its packets and bytes are added to `unattributed`, so the sums are always complete.
 *
 * Each CPU's part has one writer: both programs run with bottom halves off. The reader only reads (and moves the ring's
 * tail). From a slot's sequence number it learns that the slot changed owner meanwhile, and a record's packet count is
 * written last. Compiler barriers keep the order of writes, and so does x86.
 */
#pragma once

#include "maps.h"
#include "opening.h"

#define TM_IDLE_S 4 /* a record without packets for this long is evicted before a smaller one that is in use */

/* NH over the key's six words (UMAC, RFC 4418 section 5), then a mix: three multiplications side by side. */
static __always_inline __u32 tm_hash(const __u64 *q)
{
	__u64 seed = c_seed; /* read once, as what is read from volatile is read again each time */
	__u64 h = (q[0] + seed) * (q[1] + (seed ^ 0x9e3779b97f4a7c15ull)) +
		  (q[2] + (seed ^ 0xc2b2ae3d27d4eb4full)) * (q[3] + (seed ^ 0x165667b19e3779f9ull)) +
		  (q[4] + (seed ^ 0x27d4eb2f165667c5ull)) * (q[5] + (seed ^ 0xff51afd7ed558ccdull));

	h ^= h >> 32;
	h *= 0xc4ceb9fe1a85ec53ull;
	return h >> 32;
}

static __always_inline int tm_same(const struct tm_flow *f, const __u64 *q, __u64 inner)
{
	const __u64 *k = (const __u64 *)&f->key;

	if (TM_LOOK_INSIDE && f->inner != inner)
		return 0;
	return f->sequence &&
	       !((k[0] ^ q[0]) | (k[1] ^ q[1]) | (k[2] ^ q[2]) | (k[3] ^ q[3]) | (k[4] ^ q[4]) | (k[5] ^ q[5]));
}

static __always_inline void tm_evict(const struct tm_flow *f, __u32 slot, __u32 cpu, struct tm_totals *totals)
{
	struct tm_ring *ring = bpf_map_lookup_elem(TM_REF(tm_rings), &cpu);
	struct tm_flow *to = 0;
	__u32 index;

	if (ring && ring->head - ring->tail <= c_ring_mask) {
		index = cpu * (c_ring_mask + 1) + (ring->head & c_ring_mask);
		to = bpf_map_lookup_elem(TM_REF(tm_evicted), &index);
	}
	if (!to) {
		totals->unattributed.packets += f->packets;
		totals->unattributed.bytes += f->bytes;
		return;
	}
	__builtin_memcpy(to, f, sizeof(*to));
	to->slot = slot;
	totals->evicted.packets += f->packets;
	totals->evicted.bytes += f->bytes;
	tm_barrier();
	ring->head++;
}

/*
 * The owner of an outgoing packet. It takes 6 ns, so it is determined when a record begins, and when it continues after
 * a pause.
 */
static __always_inline __u64 tm_owner(struct __sk_buff *skb)
{
	__u64 owner = bpf_skb_cgroup_id(skb);

	return owner ? owner : TM_OWNER_FORWARDED;
}

/* After a pause another owner may have the ports: a unit takes the record over, the closing kernel does not. Before, a
 * SYN-ACK with a cookie (tcp_syncookies) has no socket, and what is sent after it has. */
static __always_inline void tm_own_again(struct tm_flow *f, struct __sk_buff *skb)
{
	__u64 owner = tm_owner(skb);

	if (owner != TM_OWNER_KERNEL && owner != TM_OWNER_FORWARDED)
		f->owner = owner;
}

static __always_inline void tm_enter(struct tm_flow *f, const struct tm_packet *p, __u64 inner, __u64 now,
				     struct __sk_buff *skb)
{
	f->sequence++;
	tm_barrier();
	__builtin_memcpy(&f->key, &p->key, sizeof(f->key));
	if (TM_LOOK_INSIDE)
		f->inner = inner;
	f->packets = f->bytes = f->payload_bytes = 0;
	f->payload_packets = 0;
	f->first = now;
	f->first_len = p->wire_len > 0xffff ? 0xffff : p->wire_len;
	f->first_flags = p->tcp_flags;
	f->first_ack = p->tcp_ack;
	f->tcp_flags = 0;
	f->bits = p->payload_len ? TM_BIT_FIRST_PAYLOAD : 0;
	f->ttl = p->ttl;
	if (TM_OWNERS)
		f->owner = skb ? tm_owner(skb) : 0;
	tm_barrier();
	f->sequence++;
}

/*
 * The set that p->key belongs to, and its index. It is found before the verdict, because the hash does not need the
 * verdict, and in a flood both the set and the table miss the caches: the set is fetched while the table is walked. The
 * number of the inner flow is part of the hash, since everything in a GRE tunnel has one outer key.
 */
static __always_inline struct tm_set *tm_find_set(const struct tm_packet *p, __u64 inner, __u32 cpu, __u32 *index)
{
	volatile struct tm_set *set;

	*index = cpu * (c_set_mask + 1) + ((tm_hash((const __u64 *)&p->key) ^ inner >> 32) & c_set_mask);
	set = bpf_map_lookup_elem(TM_REF(tm_sets), index);
	if (!set)
		return 0;
	set->way[0].key.ifindex; /* a read that nobody waits for: BPF has no prefetch */
	set->way[1].key.ifindex;
	return (struct tm_set *)set;
}

/* Counts packets (a super-packet as its segments) and bytes under p->key and inner flow. `skb`: if outgoing, else 0. */
static __always_inline void tm_book(struct tm_set *set, __u32 index, const struct tm_packet *p, __u64 inner,
				    __u32 packets, __u64 bytes, __u64 now, __u32 cpu, struct tm_totals *totals,
				    struct __sk_buff *skb)
{
	const __u64 *q = (const __u64 *)&p->key;
	struct tm_flow *f;
	int new_record = 0;

	if (!set) {
		totals->unattributed.packets += packets;
		totals->unattributed.bytes += bytes;
		return;
	}
	f = &set->way[0];
	if (!tm_same(f, q, inner)) {
		f = &set->way[1];
		new_record = !tm_same(f, q, inner);
		if (new_record) {
			__u64 idle = (__u64)c_hz * TM_IDLE_S;
			struct tm_flow *a = &set->way[0], *b = &set->way[1];

			if (!a->sequence)
				f = a;
			else if (b->sequence && now - b->last <= idle &&
				 (now - a->last > idle || a->packets < b->packets))
				f = a;
		}
	}
	if (!new_record && (p->tcp_flags & TM_TCP_SYN || f->tcp_flags & (TM_TCP_FIN | TM_TCP_RST)))
		new_record = tm_opens_another(p, f->first_flags, f->first_ack, f->tcp_flags, f->payload_packets);
	if (new_record) {
		if (f->sequence)
			tm_evict(f, 2 * index + (f == &set->way[1]), cpu, totals);
		tm_enter(f, p, inner, now, skb);
	} else if (TM_OWNERS && skb &&
		   (now - f->last > (__u64)c_hz * TM_IDLE_S ||
		    ((f->tcp_flags & ~TM_TCP_ECN) == TM_TCP_SYN_ACK && f->owner == TM_OWNER_FORWARDED))) {
		tm_own_again(f, skb);
	}
	f->bytes += bytes;
	f->last = now;
	f->last_len = p->wire_len > 0xffff ? 0xffff : p->wire_len;
	f->tcp_flags |= p->tcp_flags;
	f->bits |= p->bits;
	if (p->payload_len) {
		if (!f->payload_packets && p->tcp_ack == f->first_ack &&
		    (f->first_flags & (TM_TCP_SYN | TM_TCP_ACK)) == (TM_TCP_SYN | TM_TCP_ACK))
			f->bits |= TM_BIT_SPOKE_FIRST;
		f->payload_bytes += p->payload_len;
		f->payload_packets += packets;
	}
	tm_barrier();
	f->packets += packets; /* last: whoever reads it first finds the rest no older */
}
