/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * The inner loops of the flow table: merging deltas into flows. trafficmond/flows (table.py, state.py, turns.py)
 * explains the table; compiled.py there is the only caller. tests/flows/flow_referee.py does the same with numpy, in
 * another order, and tests compare the two.
 */
#pragma once

#include "host_state.h"

#define TM_TIE_S 2e-5	   /* within one tick of the kernel's clock, the packet to the service, or the SYN, was first */
#define TM_SURE_LEAD_S 1e9 /* as if it had been seen decades ago */
#define TM_RANK_S 1e11	   /* more than any time */
#define TM_DRIFT 1e-3	   /* of the wall clock; NTP slews it by half of that */

/* Where a batch of sorted deltas is merged. */
struct tm_merge {
	struct tm_state *row; /* the table's */
	double *deadline;
	__u8 *quiet;
	const __u8 *found; /* of each group ... */
	const __s64 *slot;
	const __u32 *start; /* ... and one more: the end */
	__u32 groups;
	__u32 opens, later;
	__u32 fresh, reopened, reported; /* how many of the rows below were written */
	struct tm_flow_row *out;	 /* of each group */
	__u8 *initial;
	struct tm_state *fresh_row; /* room for each group */
	struct tm_state *reopened_row;
	struct tm_state *reported_row;
};

/* The combined information of the deltas in one group. */
struct tm_group {
	const struct tm_row *lead;
	double first_seen, lead_known;
	__u8 sure, side, lead_answers, agreed;
};

/* Whether a delta is a request (1) or an answer (2), according to TCP or ICMP. */
static int tm_role(const struct tm_row *d, const struct tm_flow_rules *r)
{
	__u8 handshake = d->first_flags & (TM_TCP_SYN | TM_TCP_ACK);
	__u32 at = tm_icmp_at(d);

	if (d->proto == TM_PROTO_TCP)
		return handshake == TM_TCP_SYN ? 1 : handshake == (TM_TCP_SYN | TM_TCP_ACK) ? 2 : 0;
	if (!r->reply[at])
		return r->mate[at] >= 0;
	if (tm_later_fragment(d) || (d->family == 6 && d->dst_hi >> 56 == 0xff) ||
	    (d->family == 4 && (d->dst_lo >> 28 & 0xf) == 0xe))
		return 0;
	return 2;
}

/* When a delta began. If the packets of a conversation were spread over CPUs, several records of it begin within one
 * tick of the kernel's clock: then the one with the handshake is the first. */
static double tm_began(const struct tm_row *d, const struct tm_flow_rules *r)
{
	return (d->new_record ? d->first : tm_begins(d, r->before)) - (tm_role(d, r) ? TM_TIE_S : 0);
}

/* Whether a TCP service of this host sent a delta without a handshake, so its connection began before the daemon. Only
 * outgoing packets count, since other hosts choose the ports of incoming ones. */
static int tm_serves(const struct tm_row *d, const struct tm_flow_rules *r)
{
	return d->proto == TM_PROTO_TCP && d->direction && r->service[d->sport] & TM_LISTENS &&
	       !(r->service[d->dport] & TM_LISTENS);
}

static void tm_group_of(struct tm_group *g, const struct tm_row *d, const __u8 *side, __u32 n,
			const struct tm_flow_rules *r)
{
	double least = 0;

	memset(g, 0, sizeof(*g));
	for (__u32 i = 0; i < n; i++) {
		int role = tm_role(&d[i], r), ours = r->service[d[i].sport] & TM_WELL_KNOWN;
		int theirs = r->service[d[i].dport] & TM_WELL_KNOWN;
		int served = ours != theirs ? ours : !r->in_order && d[i].sport < d[i].dport;
		double when = d[i].first + (role == 2 || (served && !role) ? TM_TIE_S : 0);
		double known = tm_begins(&d[i], r->before);

		/* Evidence before order, a SYN first: a continued record may have begun with the earlier connection. */
		when -= (role ? TM_SURE_LEAD_S : 0) + (tm_opening(&d[i]) ? TM_SURE_LEAD_S : 0);
		if (!i || when < least) {
			least = when;
			g->lead = &d[i];
			g->lead_known = known;
			g->sure = !!role;
			g->lead_answers = role == 2 || (!role && tm_serves(&d[i], r));
			g->side = side[i] ^ g->lead_answers;
		}
		if (!i || known < g->first_seen)
			g->first_seen = known;
		/* A SYN-ACK that is not of the earlier connection (opening.h): the other side accepts another one. */
		g->agreed |= d[i].proto == TM_PROTO_TCP && role == 2 && d[i].new_record;
	}
}

static void tm_new_flow(struct tm_state *s, const struct tm_group *g, __u64 id, const struct tm_flow_rules *r)
{
	const struct tm_row *lead = g->lead;
	struct tm_flow_row *f = &s->flow;
	int flip = g->lead_answers;

	memset(s, 0, sizeof(*s));
	f->id = id;
	f->src_hi = flip ? lead->dst_hi : lead->src_hi;
	f->src_lo = flip ? lead->dst_lo : lead->src_lo;
	f->dst_hi = flip ? lead->src_hi : lead->dst_hi;
	f->dst_lo = flip ? lead->src_lo : lead->dst_lo;
	f->sport = flip ? lead->dport : lead->sport;
	f->dport = flip ? lead->sport : lead->dport;
	if (flip && lead->proto != TM_PROTO_TCP) {
		f->sport = (__u16)r->mate[tm_icmp_at(lead)];
		f->dport = 0;
	}
	f->proto = lead->proto;
	f->family = lead->family;
	f->direction = lead->direction ^ flip;
	f->vlan = lead->vlan;
	f->ifindex = lead->ifindex;
	f->inner = lead->inner;
	f->first_flags = lead->first_flags;
	f->first_len = lead->first_len;
	f->verdict = s->reply_verdict = lead->verdict;
	f->first = f->last = g->first_seen;
	f->reply_first = NAN;
	f->is_new = 1;
	/* A connection that was forgotten continues: it was opened when its record began, and is not new. */
	if (lead->proto == TM_PROTO_TCP && !lead->new_record && !tm_opening(lead)) {
		f->is_new = 0;
		if (lead->first < f->first)
			f->first = lead->first;
	}
	s->side = g->side;
	s->sure = g->sure;
	s->since = INFINITY;
}

/* How much the first packet of a record may seem to move while a flow lasts. */
static double tm_slack(const struct tm_row *d, const struct tm_flow_row *f)
{
	return TM_TIE_S + (d->last > f->first ? TM_DRIFT * (d->last - f->first) : 0);
}

/*
 * Whether the group opens another connection than the one in its row. It does if it has a SYN after a FIN or RST of
 * either side. A SYN among other packets does too, after a pause or if a new SYN-ACK answers it, perhaps in the next
 * batch. (If packets are spread over CPUs, a FIN or RST may be reported with an earlier connection.)
 */
static int tm_reopens(const struct tm_state *s, const struct tm_group *g, const struct tm_flow_rules *r)
{
	const struct tm_flow_row *f = &s->flow;
	int over, spoke, was_open;

	if (!tm_opening(g->lead) &&
	    !(g->agreed && tm_goes_on(g->lead) && g->lead->first > f->first + tm_slack(g->lead, f)))
		return 0;
	over = (f->tcp_flags | f->reply_tcp_flags) & (TM_TCP_FIN | TM_TCP_RST);
	spoke = f->tcp_flags & TM_TCP_ACK;
	was_open = spoke || f->payload_packets + f->reply_payload_packets > 0;
	return (g->lead_known > f->first + TM_TIE_S && (over || (was_open && g->agreed))) ||
	       (spoke && g->lead_known - f->last > r->linger);
}

#define TM_SWAP(a, b)                                                                                                  \
	do {                                                                                                           \
		__typeof__(a) swap_ = a;                                                                               \
		a = b;                                                                                                 \
		b = swap_;                                                                                             \
	} while (0)

/* Swaps the ends of a flow whose initiator was only guessed. */
static void tm_turn(struct tm_state *s, __u8 side)
{
	struct tm_flow_row *f = &s->flow;

	TM_SWAP(f->src_hi, f->dst_hi);
	TM_SWAP(f->src_lo, f->dst_lo);
	TM_SWAP(f->sport, f->dport);
	TM_SWAP(f->packets, f->reply_packets);
	TM_SWAP(f->bytes, f->reply_bytes);
	TM_SWAP(f->payload_bytes, f->reply_payload_bytes);
	TM_SWAP(f->payload_packets, f->reply_payload_packets);
	TM_SWAP(f->tcp_flags, f->reply_tcp_flags);
	TM_SWAP(f->bits, f->reply_bits);
	TM_SWAP(f->first_flags, f->reply_first_flags);
	TM_SWAP(s->p_packets, s->p_reply_packets);
	TM_SWAP(s->p_bytes, s->p_reply_bytes);
	TM_SWAP(f->verdict, s->reply_verdict);
	f->reply_first = f->reply_packets ? f->first : NAN;
	f->direction ^= 1;
	s->side = side;
}

static int tm_drops(__u32 verdict)
{
	return (verdict >> TM_ACTION_SHIFT & TM_ACTION_MASK) == TM_DROP;
}

static int tm_stale(const struct tm_row *d, const struct tm_flow_row *f)
{
	return !d->new_record && d->first < f->first - tm_slack(d, f);
}

#define TM_SERIALS_MOST 0x7ffffffe /* of processes; larger ones are constants */

/* The rank of an owner: a unit 3, the kernel 2, forwarded 1, unknown 0. */
static int tm_owner_rank(__u64 owner)
{
	return !owner ? 0 : owner == TM_OWNER_KERNEL ? 2 : owner == TM_OWNER_FORWARDED ? 1 : 3;
}

/* Whether the present owner of a flow names a process of the new cgroup: flows/processes.py. */
static int tm_owner_says_more(__u64 had, __u64 current)
{
	return had >> 63 && (had >> 32 & 0x7fffffff) < TM_SERIALS_MOST && (had & 0xffffffff) == current;
}

/*
 * Stores verdicts and owner of the group in the row. Returns whether pending packets must first be reported under the
 * old ones. Of two owners, a unit comes before the kernel (the kernel ends a unit's connections, and answers packets
 * that no unit waits for), the unit that sent last before another, a known process before an unknown one.
 */
static int tm_verdicts(struct tm_state *s, const struct tm_row *mine, const struct tm_row *theirs, __u64 owner,
		       struct tm_state *reported)
{
	struct tm_flow_row *f = &s->flow;
	__u32 verdict = mine ? mine->verdict : f->verdict, reply = theirs ? theirs->verdict : s->reply_verdict;
	int unheard = !mine && !f->packets, changed;

	if (unheard)
		verdict = reply;
	if (tm_owner_rank(owner) < tm_owner_rank(f->owner) || tm_owner_says_more(f->owner, owner))
		owner = f->owner;
	changed = verdict != f->verdict && (s->p_packets || (unheard && s->p_reply_packets));
	if (!changed && (verdict != f->verdict || reply != s->reply_verdict) && s->p_reply_packets)
		changed = tm_drops(reply) || tm_drops(s->reply_verdict) || tm_drops(verdict) || tm_drops(f->verdict);
	changed |= owner != f->owner && tm_owner_rank(owner) == tm_owner_rank(f->owner);
	changed = changed && s->since < INFINITY;
	if (changed) {
		*reported = *s;
		s->p_packets = s->p_bytes = s->p_reply_packets = s->p_reply_bytes = 0;
		s->since = INFINITY;
	}
	f->verdict = verdict;
	s->reply_verdict = reply;
	f->owner = owner;
	return changed;
}

/* Merges the `n` deltas of a group into its row; returns the number of rows written to `reported`, 0 or 1. */
static int tm_merge_group(struct tm_state *s, const struct tm_group *g, const struct tm_row *d, const __u8 *side,
			  __u32 n, int initial, const struct tm_flow_rules *r, struct tm_state *reported)
{
	struct tm_flow_row *f = &s->flow;
	const struct tm_row *mine = NULL, *theirs = NULL, *my_first = NULL, *their_first = NULL;
	__u64 packets[2] = {0, 0}, bytes[2] = {0, 0}, payload[2] = {0, 0};
	__u32 payloads[2] = {0, 0};
	__u8 flags[2] = {0, 0}, bits[2] = {0, 0}, closed;
	double last = 0, best = 0;
	__u64 owner = 0;
	int changed, quiet;

	if (g->sure && !s->sure && g->side != s->side)
		tm_turn(s, g->side);
	s->sure |= g->sure;
	for (__u32 i = 0; i < n; i++) {
		/* Flags that a record had before this connection do not belong to it. Only a FIN can be among them, and
		 * only for packets without payload: after any other end a new record begins (opening.h). */
		int reply = side[i] != s->side, stale = tm_stale(&d[i], f);
		int old = stale && !d[i].payload_packets && d[i].tcp_flags != d[i].first_flags;
		const struct tm_row **first = reply ? &their_first : &my_first;

		*(reply ? &theirs : &mine) = &d[i];
		if (!*first || tm_began(&d[i], r) < tm_began(*first, r))
			*first = &d[i];
		packets[reply] += d[i].packets;
		bytes[reply] += d[i].bytes;
		payload[reply] += d[i].payload_bytes;
		payloads[reply] += d[i].payload_packets;
		flags[reply] |= d[i].tcp_flags & ~(old ? TM_TCP_FIN : 0);
		bits[reply] |= d[i].bits & ~(TM_BIT_FIRST_PAYLOAD | (stale ? TM_BIT_SPOKE_FIRST : 0));
		if (!i || d[i].last > last)
			last = d[i].last;
		if (!i || tm_owner_rank(d[i].owner) * TM_RANK_S + d[i].last > best) {
			best = tm_owner_rank(d[i].owner) * TM_RANK_S + d[i].last;
			owner = d[i].owner;
		}
	}
	changed = tm_verdicts(s, mine, theirs, owner, reported);
	if (mine && !f->packets) {
		f->first_flags = my_first->first_flags;
		f->first_len = my_first->first_len;
		f->bits |= my_first->bits & TM_BIT_FIRST_PAYLOAD;
	}
	if (theirs && !f->reply_packets) {
		f->reply_first = tm_stale(their_first, f) ? tm_begins(their_first, r->before) : their_first->first;
		f->reply_first_flags = their_first->first_flags;
		f->reply_bits |= their_first->bits & TM_BIT_FIRST_PAYLOAD;
	}
	f->packets += packets[0];
	f->bytes += bytes[0];
	f->payload_bytes += payload[0];
	f->payload_packets += payloads[0];
	f->reply_packets += packets[1];
	f->reply_bytes += bytes[1];
	f->reply_payload_bytes += payload[1];
	f->reply_payload_packets += payloads[1];
	s->p_packets += packets[0];
	s->p_bytes += bytes[0];
	s->p_reply_packets += packets[1];
	s->p_reply_bytes += bytes[1];
	f->d_packets = packets[0] + (initial ? 0 : f->d_packets);
	f->d_bytes = bytes[0] + (initial ? 0 : f->d_bytes);
	f->d_reply_packets = packets[1] + (initial ? 0 : f->d_reply_packets);
	f->d_reply_bytes = bytes[1] + (initial ? 0 : f->d_reply_bytes);
	f->tcp_flags |= flags[0];
	f->reply_tcp_flags |= flags[1];
	f->bits |= bits[0];
	f->reply_bits |= bits[1];

	f->is_new = f->is_new && f->packets + f->reply_packets == f->d_packets + f->d_reply_packets;
	quiet = s->since == INFINITY;
	if (quiet)
		s->since = f->is_new ? f->first : g->first_seen;
	if (last > f->last)
		f->last = last;
	closed = f->proto == TM_PROTO_TCP &&
		 ((f->tcp_flags | f->reply_tcp_flags) & TM_TCP_RST || f->tcp_flags & f->reply_tcp_flags & TM_TCP_FIN);
	f->ended = (closed && !s->closed) || (f->ended && !initial);
	s->closed = closed;
	return changed;
}

/* Whether a flow's deltas must be merged in turns: it has several connections, or several verdict words of one side. */
static int tm_takes_turns(const struct tm_row *d, const __u8 *side, __u32 n, double before)
{
	const struct tm_row *seen[2] = {NULL, NULL};
	double least = 0;

	if (n == 1)
		return 0;
	for (__u32 i = 0; i < n; i++) {
		double at = tm_begins(&d[i], before);

		if (!i || at < least)
			least = at;
		if (seen[side[i]] && seen[side[i]]->verdict != d[i].verdict)
			return 1;
		seen[side[i]] = &d[i];
	}
	for (__u32 i = 0; i < n; i++)
		if (tm_opening(&d[i]) && tm_begins(&d[i], before) > least + TM_TIE_S)
			return 1;
	return 0;
}

TM_EXPORT void tm_flows_merge(struct tm_merge *w, const struct tm_row *d, const __u64 *id, const __u8 *side,
			      const struct tm_flow_rules *r)
{
	w->fresh = w->reopened = w->reported = 0;
	for (__u32 i = 0; i < w->groups; i++) {
		__u32 at = w->start[i], n = w->start[i + 1] - at;
		int found = w->found[i], initial = !w->later;
		struct tm_group g;
		struct tm_state *s;

		if (found && i + 4 < w->groups && w->found[i + 4])
			__builtin_prefetch(&w->row[w->slot[i + 4]], 1);
		tm_group_of(&g, d + at, side + at, n, r);
		if (found) {
			s = &w->row[w->slot[i]];
			if (w->opens && tm_reopens(s, &g, r)) {
				w->reopened_row[w->reopened++] = *s;
				tm_new_flow(s, &g, id[at], r);
				initial = 1;
			}
		} else {
			s = &w->fresh_row[w->fresh++];
			tm_new_flow(s, &g, id[at], r);
			initial = 1;
		}
		w->reported += tm_merge_group(s, &g, d + at, side + at, n, initial, r, &w->reported_row[w->reported]);
		w->initial[i] = initial;
		w->out[i] = s->flow;
		if (found) {
			w->deadline[w->slot[i]] = tm_deadline(s, r);
			w->quiet[w->slot[i]] = 0;
		}
	}
}
