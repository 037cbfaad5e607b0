/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * From a parsed packet to its verdict word. Precedence, the strongest first: guard, allowlist, ban, rule or list by
 * longest prefix, rule by system, rule by country, default. Guard, allowlist, rules, lists and default are resolved
 * when the table is compiled; what depends on the packet or the moment (bans, lifelines, replies, rates) is decided
 * here.
 */
#pragma once

#include "opening.h"
#include "table.h"

#define TM_REASON(verdict) ((verdict) >> TM_REASON_SHIFT & TM_REASON_MASK)
#define TM_ACTION(verdict) ((verdict) >> TM_ACTION_SHIFT & TM_ACTION_MASK)
#define TM_VERDICT(action, reason, rule)                                                                               \
	((__u32)(rule) | (__u32)(reason) << TM_REASON_SHIFT | (__u32)(action) << TM_ACTION_SHIFT)

/* What verdict and ledger need besides the packet. */
struct tm_context {
	__u64 now;   /* jiffies64 */
	__u32 flags; /* TM_CFG_* */
	__u32 place; /* enum tm_table_place */
	__u32 egress;
	__u32 raw; /* the packet has no link header */
	__u32 ifindex;
	__u32 cpu;
	int usual;	       /* the quick parser read it: the table is first walked in line, else in a call alone */
	struct __sk_buff *skb; /* of what goes out */
	struct tm_config *config;
	struct tm_totals *totals;
};

/* A connection is forgotten after this long without a packet from this host; of TCP as by netfilter's conntrack. */
#define TM_CONN_TCP_S (5 * 24 * 3600)
#define TM_CONN_OTHER_S 180
#define TM_CONN_ASKED_S 10 /* seconds in which a question to many may be answered */

#define TM_DHCP4_CLIENT 68
#define TM_DHCP6_CLIENT 546

#define TM_PROTO_IGMP 2

/* Jiffies from `then` to `now`; 0 if a CPU whose clock was a tick ahead stored `then`. */
static __always_inline __u64 tm_since(__u64 then, __u64 now)
{
	return (__s64)(now - then) > 0 ? now - then : 0;
}

/*
 * Whether the packet is for one of a set of services. The number that is bounded must be the one that is used. LLVM
 * would bound a copy and use another from the stack, which the verifiers of Linux 5.10 to 6.12 treat as unbounded.
 */
static __always_inline int tm_asks_for(const struct tm_packet *p, __u32 services)
{
	const struct tm_ban_set *set = bpf_map_lookup_elem(TM_REF(tm_ban_services), &services);
	__u64 at = p->what / 8;

	__asm__ __volatile__("" : "+r"(at));
	return set && at < sizeof(set->bits) && set->bits[at] >> (p->what & 7) & 1;
}

static __always_inline __u32 tm_banned(const struct tm_packet *p, __u64 now)
{
	struct tm_ban_key key = {.prefixlen = 128};
	const struct tm_ban *ban;

	__builtin_memcpy(key.addr, p->key.src, sizeof(key.addr));
	ban = bpf_map_lookup_elem(TM_REF(tm_bans), &key);
	if (!ban || (ban->expires && now >= ban->expires) ||
	    (ban->family && ban->family != (p->key.scope & TM_SCOPE_IPV6 ? 6 : 4)))
		return 0;
	if (ban->services && !tm_asks_for(p, ban->services))
		return 0;
	return ban->verdict;
}

/* From a link-local address, or from no address yet. */
static __always_inline int tm_is_from_link(const struct tm_packet *p)
{
	const __u32 *src = (const __u32 *)p->key.src;

	return (src[0] & tm_htonl(0xffc00000)) == tm_htonl(0xfe800000) || !(src[0] | src[1] | src[2] | src[3]);
}

/*
 * Packets that must not be dropped (RFC 4890 section 4.4.1), besides errors and echoes. They cannot have crossed a
 * router: neighbour discovery has a hop limit of 255, messages about multicast groups have one of 1.
 */
static __always_inline int tm_is_lifeline6(const struct tm_packet *p)
{
	switch (tm_ntohs(p->key.sport)) {
	case 130: /* multicast listeners: query, report, done (RFC 2710), */
	case 131:
	case 132:
	case 143: /* report of version 2 (RFC 3810); */
	case 151: /* multicast routers: advertisement, solicitation, termination (RFC 4286) */
	case 152:
	case 153:
		return p->ttl == 1 && tm_is_from_link(p);
	case 133: /* routers and neighbours: two solicitations and advertisements, redirect (RFC 4861), */
	case 134:
	case 135:
	case 136:
	case 137:
	case 141: /* inverse (RFC 3122), */
	case 142:
	case 148: /* certification paths (RFC 3971) */
	case 149:
		return p->ttl == 255;
	}
	return 0;
}

/* Without these a host loses its address, its neighbours or its groups: never dropped, whatever the rules are. */
static __always_inline int tm_is_lifeline(const struct tm_packet *p)
{
	__u16 dport = tm_ntohs(p->key.dport);

	if (p->key.proto == TM_PROTO_ICMPV6)
		return tm_is_lifeline6(p);
	if (p->key.proto == TM_PROTO_IGMP)
		return p->ttl == 1 && p->key.dst[12] >> 4 == 0xe; /* to a group (RFC 3376) */
	return p->key.proto == TM_PROTO_UDP &&
	       dport == (p->key.scope & TM_SCOPE_IPV6 ? TM_DHCP6_CLIENT : TM_DHCP4_CLIENT);
}

/* ICMP errors about a path (RFC 4890, RFC 1191): replies without a port of this host in their own header. */
static __always_inline int tm_is_path_error(const struct tm_packet *p)
{
	__u16 type = tm_ntohs(p->key.sport);

	if (p->key.proto == TM_PROTO_ICMP)
		return type == 3 || type == 11 || type == 12;
	return p->key.proto == TM_PROTO_ICMPV6 && type >= 1 && type <= 4;
}

/* The connection's key as seen from a reply; 0 for protocols that are not followed. */
static __always_inline int tm_conn_key(const struct tm_packet *p, int egress, struct tm_conn_key *key)
{
	const struct tm_key *k = &p->key;
	int icmp = k->proto == TM_PROTO_ICMP || k->proto == TM_PROTO_ICMPV6;

	if (p->malformed ||
	    (!icmp && k->proto != TM_PROTO_TCP && k->proto != TM_PROTO_UDP && k->proto != TM_PROTO_SCTP))
		return 0;
	__builtin_memcpy(key->remote, egress ? k->dst : k->src, sizeof(key->remote));
	__builtin_memcpy(key->local, egress ? k->src : k->dst, sizeof(key->local));
	key->proto = k->proto;
	if (p->bits & TM_BIT_FRAGMENT) {
		key->kind = TM_CONN_FRAGMENTS;
		return 1;
	}
	if (!icmp) {
		key->remote_port = egress ? k->dport : k->sport;
		key->local_port = egress ? k->sport : k->dport;
	} else if (egress) {
		if (k->sport == tm_htons(TM_ECHO_REQUEST))
			key->remote_port = tm_htons(TM_ECHO_REPLY);
		else if (k->sport == tm_htons(TM_ECHO_REQUEST6))
			key->remote_port = tm_htons(TM_ECHO_REPLY6);
		else
			return 0;
	} else {
		key->remote_port = k->sport;
	}
	return 1;
}

/* Later fragments have no ports: they are recognised by the two hosts and the protocol. */
static __always_inline void tm_key_of_fragments(struct tm_conn_key *key)
{
	key->remote_port = key->local_port = 0;
	key->kind = TM_CONN_FRAGMENTS;
}

/* An answer from anybody to a question that was sent to many. */
static __always_inline void tm_key_of_asked(const struct tm_packet *p, int egress, struct tm_conn_key *key)
{
	__builtin_memset(key->remote, 0, sizeof(key->remote));
	key->remote_port = 0;
	key->local_port = egress ? p->key.sport : p->key.dport;
	key->kind = TM_CONN_ASKED;
}

/*
 * Whether this host sends the packet to answer a SYN. Such a connection is remembered only after another packet of it.
 * Otherwise anybody could open connections from forged sources, and so evict those that this host opened.
 */
static __always_inline int tm_answers_opening(const struct tm_packet *p)
{
	return p->tcp_flags & TM_TCP_RST || (p->tcp_flags & TM_TCP_SYN_ACK) == TM_TCP_SYN_ACK;
}

/* At most one write a second; `p` is the packet that this host sends, if it is one. Returns whether there was one. */
static __always_inline int tm_note(const struct tm_conn_key *key, const struct tm_packet *p, __u64 now)
{
	__u64 *last = bpf_map_lookup_elem(TM_REF(tm_conns), key);

	if (last && tm_since(*last, now) <= c_hz)
		return 0;
	if (last)
		*last = now;
	else if (p && tm_answers_opening(p))
		return 0;
	else
		bpf_map_update_elem(TM_REF(tm_conns), key, &now, BPF_ANY);
	return 1;
}

static __always_inline int tm_noted(const struct tm_conn_key *key, __u64 now, __u32 seconds)
{
	const __u64 *last = bpf_map_lookup_elem(TM_REF(tm_conns), key);

	return last && tm_since(*last, now) <= (__u64)c_hz * seconds;
}

/*
 * Whether an outgoing datagram is a question to many: sent to a group or to all according to its link header, since a
 * broadcast address looks like any other. Its ports must differ: a service that announces itself opens nothing.
 */
static __always_inline int tm_asks_many(const struct tm_packet *p, const struct tm_context *x)
{
	__u8 first = 0;

	if (p->key.proto != TM_PROTO_UDP || p->key.sport == p->key.dport || x->raw)
		return 0;
	return !bpf_skb_load_bytes(x->skb, 0, &first, sizeof(first)) && (first & 1);
}

/* Egress: remember what this host sends, so that replies are recognised. */
static __always_inline void tm_learn(const struct tm_packet *p, const struct tm_context *x)
{
	struct tm_conn_key key = {};

	if (!tm_conn_key(p, 1, &key) || !tm_note(&key, p, x->now))
		return;
	tm_key_of_fragments(&key);
	tm_note(&key, p, x->now);
	if (p->bits & TM_BIT_FRAGMENT || !tm_asks_many(p, x))
		return;
	tm_key_of_asked(p, 1, &key);
	tm_note(&key, p, x->now);
	x->config->asked = x->now; /* spares a look-up where nobody asks, in a flood for one */
}

static __always_inline int tm_is_reply(const struct tm_packet *p, const struct tm_context *x)
{
	struct tm_conn_key key = {};

	if (tm_is_path_error(p))
		return 1;
	if (!tm_conn_key(p, 0, &key))
		return 0;
	if (tm_noted(&key, x->now, p->key.proto == TM_PROTO_TCP ? TM_CONN_TCP_S : TM_CONN_OTHER_S))
		return 1;
	if (p->key.proto != TM_PROTO_UDP || p->bits & TM_BIT_FRAGMENT)
		return 0;
	if (tm_since(x->config->asked, x->now) > (__u64)c_hz * TM_CONN_ASKED_S)
		return 0;
	tm_key_of_asked(p, 0, &key);
	if (!tm_noted(&key, x->now, TM_CONN_ASKED_S))
		return 0;
	if (p->bits & TM_BIT_MORE_FRAGMENTS) { /* the rest of the answer may follow */
		__builtin_memcpy(key.remote, p->key.src, sizeof(key.remote));
		tm_key_of_fragments(&key);
		tm_note(&key, 0, x->now);
	}
	return 1;
}

/*
 * Takes a token from the source's bucket; 0 if it is empty. Two CPUs that serve one source at the same moment may both
 * take the last token. The bucket then owes one, because spent tokens are added up, never overwritten. A CPU whose
 * timer tick comes late finds slightly fewer tokens. `hi`, `lo`: the halves of the source, as they are in the packet.
 */
TM_SUBFN int tm_take_token(__u64 hi, __u64 lo, __u32 rule, __u32 rate_per_s, __u32 burst_packets)
{
	struct tm_bucket_key key = {.rule = rule & TM_RULE_MASK};
	struct tm_bucket fresh = {.rate_per_s = rate_per_s}, *bucket;
	__u64 dripped = bpf_jiffies64() * rate_per_s, full = (__u64)burst_packets * c_hz;
	__s64 left;

	__builtin_memcpy(key.src, &hi, sizeof(hi));
	__builtin_memcpy(key.src + sizeof(hi), &lo, sizeof(lo));
	bucket = bpf_map_lookup_elem(TM_REF(tm_buckets), &key);
	if (!bucket || bucket->rate_per_s != fresh.rate_per_s) {
		fresh.spent = dripped - full + c_hz;
		bpf_map_update_elem(TM_REF(tm_buckets), &key, &fresh, BPF_ANY);
		return 1;
	}
	left = dripped - bucket->spent;
	if (left > (__s64)full) {
		left = full;
		bucket->spent = dripped - full;
	}
	if (left < (__s64)c_hz)
		return 0;
	__sync_fetch_and_add(&bucket->spent, c_hz);
	return 1;
}

/* The root, and the address that decides: the source of what comes in, the destination of what goes out. */
static __always_inline __u32 tm_look_up(const struct tm_packet *p, const struct tm_context *x)
{
	const __u8 *address = x->egress ? p->key.dst : p->key.src;
	__u64 hi = tm_host64(address), lo = tm_host64(address + 8);
	__u32 which = 2 * x->egress, leaf;

	if (p->key.scope & TM_SCOPE_IPV6) {
		which++;
	} else {
		hi = lo << 32;
		lo = 0;
	}
	leaf = x->usual ? tm_decide_small(which, hi, x->place, p->what) : TM_LEAF_RECORD;
	if (!(leaf & TM_LEAF_RECORD))
		return leaf;
	/* The only call: bcc writes out the function wherever it is called. */
	return tm_decide(which + TM_ON_TRIAL * x->place, hi, lo, x->now, p->what);
}

/*
 * Whether a rule in shadow would drop the packet, except replies and lifelines. It is stored with the rest, where the
 * verifier forgets how it was found and checks what follows once.
 */
static __always_inline void tm_note_shadow(const __u64 *src)
{
	__u32 zero = 0;
	struct tm_shadow *shadow = bpf_map_lookup_elem(TM_REF(tm_shadow), &zero);

	if (!shadow)
		return;
	shadow->drops = TM_ACTION(shadow->would) == TM_DROP;
	if (TM_ACTION(shadow->would) == TM_LIMIT)
		shadow->drops =
			!tm_take_token(src[0], src[1], shadow->would, shadow->rate_per_s, shadow->burst_packets);
	tm_barrier();
}

/* The verdict word for a packet with valid addresses. */
static __always_inline __u32 tm_judge(const struct tm_packet *p, const struct tm_context *x)
{
	__u32 verdict = tm_look_up(p, x), shadowed = verdict & TM_SHADOWED;
	__u32 would = 0, would_drop = 0, zero = 0, taken = 1, drop, ban;
	const __u64 *src = (const __u64 *)p->key.src;
	const struct tm_shadow *shadow;

	/* The usual: it passes, and nothing else has a say (TM_DROP is a bit of TM_LIMIT too). */
	if (!((verdict & (TM_SHADOWED | TM_DROP << TM_ACTION_SHIFT)) | (x->flags & (TM_CFG_BANS | TM_CFG_ESTABLISHED))))
		return verdict;
	verdict ^= shadowed;
	if (x->egress && (x->flags & TM_CFG_ESTABLISHED) && TM_ACTION(verdict) != TM_DROP)
		tm_learn(p, x);
	if (!x->egress && (x->flags & TM_CFG_BANS) && TM_REASON(verdict) < TM_BY_ALLOWLIST) {
		ban = tm_banned(p, x->now);
		if (ban) {
			verdict = ban;
			shadowed = 0;
		}
	}
	if (TM_ACTION(verdict) == TM_LIMIT) {
		const struct tm_packet *settled = bpf_map_lookup_elem(TM_REF(tm_scratch), &zero);

		if (settled) /* tm_settle() left it there */
			taken = tm_take_token(src[0], src[1], verdict, settled->rate_per_s, settled->burst_packets);
		taken = 0 - (taken & 1);
		verdict = (TM_VERDICT(TM_ALLOW, TM_REASON(verdict), verdict & TM_RULE_MASK) & taken) |
			  (TM_VERDICT(TM_DROP, TM_BY_LIMIT, verdict & TM_RULE_MASK) & ~taken);
	}
	if (shadowed) {
		tm_note_shadow(src);
		shadow = bpf_map_lookup_elem(TM_REF(tm_shadow), &zero);
		if (!shadow)
			return verdict;
		would = shadow->would;
		would_drop = shadow->drops;
	}
	/* 1 or 0 without a branch, which would double what the verifier has to check after it. */
	drop = ((TM_ACTION(verdict) ^ TM_DROP) - 1ull) >> 63;
	__asm__ __volatile__("" : "+r"(drop));
	if (drop | would_drop) {
		if (tm_is_lifeline(p)) {
			verdict = drop ? TM_VERDICT(TM_ALLOW, TM_BY_GUARD, 0) : verdict;
			would_drop = 0;
		} else if (!x->egress && (x->flags & TM_CFG_ESTABLISHED) &&
			   (TM_REASON(drop ? verdict : would) == TM_BY_DEFAULT) && tm_is_reply(p, x)) {
			verdict = drop ? TM_VERDICT(TM_ALLOW, TM_BY_ESTABLISHED, 0) : verdict;
			would_drop = TM_REASON(would) == TM_BY_DEFAULT ? 0 : would_drop;
		}
	}
	if (!shadowed)
		return verdict;
	shadow = bpf_map_lookup_elem(TM_REF(tm_shadow), &zero);
	if (!shadow)
		return verdict;
	would = shadow->pair + (TM_ACTION(would) >= TM_DROP && !would_drop);
	return (verdict & ~TM_RULE_MASK) | TM_SHADOWED | (would & TM_RULE_MASK);
}
