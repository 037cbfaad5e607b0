/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* The data path: parse, judge, count; the same steps for incoming (XDP) and outgoing (TC) packets. */
#ifndef TM_BCC
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
char _license[] SEC("license") = "Dual MIT/GPL";
#endif
#include "ledger.h"
#include "quick.h"
#include "tunnel.h"
#include "verdict.h"

#define TC_ACT_UNSPEC (-1) /* linux/pkt_cls.h: on to the next program, or out */
#define TC_ACT_SHOT 2

#define TM_PULL_BYTES                                                                                                  \
	512 /* more than any headers that are followed in practice; beyond it a packet counts as malformed */

/*
 * A packet pointer that a context holds as a 32-bit number. bcc makes LLVM write no 32-bit instructions: there the
 * number has to be widened where it is read; otherwise LLVM 19 widens it later by shifts, which the verifier rejects.
 */
#ifdef TM_BCC
#define TM_POINTER(field)                                                                                              \
	({                                                                                                             \
		__u64 pointer_ = *(volatile __u32 *)&(field);                                                          \
		__asm__ __volatile__("" : "+r"(pointer_));                                                             \
		(void *)(long)pointer_;                                                                                \
	})
#else
#define TM_POINTER(field) ((void *)(long)(field))
#endif

/* What one packet adds: outgoing super-packets are counted as the segments that will be on the wire. */
struct tm_weight {
	__u32 packets;
	__u64 bytes;
};

static __always_inline __u8 tm_ifslot(__u32 ifindex)
{
	__u32 index = ifindex >> 12 & 15;
	const struct tm_ifslots *slots = bpf_map_lookup_elem(TM_REF(tm_ifslots), &index);

	return slots ? slots->slot[ifindex & 4095] : 0;
}

static __always_inline void tm_count(struct tm_count *to, const struct tm_weight *w)
{
	to->packets += w->packets;
	to->bytes += w->bytes;
}

/*
 * Looks up everything else that judging and counting need. With the short parser, this is done before the packet is
 * read; otherwise the fields would not stay in registers. With bcc it is done afterwards: all that the inlined parser
 * leaves would be verified twice. Returns whether all of it was found.
 */
static __always_inline int tm_begin(struct tm_context *x, __u8 ifslot, __u32 ifindex, __u32 egress,
				    struct __sk_buff *skb)
{
	__u32 zero = 0, slot;

	x->cpu = bpf_get_smp_processor_id();
	slot = (x->cpu * TM_MAX_INTERFACES + (ifslot & TM_IFSLOT_MASK)) * 2 + egress;
	x->totals = bpf_map_lookup_elem(TM_REF(tm_totals), &slot);
	x->config = bpf_map_lookup_elem(TM_REF(tm_config), &zero);
	if (!x->totals || !x->config)
		return 0;
	x->now = bpf_jiffies64();
	x->place = (x->now - x->config->until) >> 63; /* TM_TRIAL before it, without a branch to verify */
	x->flags = x->config->flags[x->place & 1];
	x->ifindex = ifindex;
	x->egress = egress;
	x->raw = ifslot & TM_IFSLOT_RAW_IP;
	x->skb = skb;
	x->usual = 1;
	return 1;
}

/* Judges and counts a packet; `inner` is the number of its inner flow, 0: none. Returns whether to drop it. */
static __always_inline int tm_handle(struct tm_packet *p, int kind, __u64 inner, const struct tm_weight *w,
				     const struct tm_context *x)
{
	struct tm_totals *totals = x->totals;
	struct tm_set *set = 0;
	__u32 index = 0;
	int drop = 0;

	if (!p)
		return 0;
	tm_count(&totals->seen, w);
	if (kind == TM_IS_OTHER) {
		tm_count(&totals->not_ip, w);
		return 0;
	}
	if (kind == TM_IS_IP) {
		p->key.ifindex = x->ifindex;
		p->key.scope |= x->egress;
		set = tm_find_set(p, inner, x->cpu, &index);
		if (!set) { /* never: all that follows is verified for packets that have one */
			tm_count(&totals->unattributed, w);
			return 0;
		}
	}
	if (kind == TM_IS_IP || p->addressed) {
		p->key.verdict = tm_judge(p, x);
		drop = TM_ACTION(p->key.verdict) == TM_DROP;
	}
	if (kind == TM_IS_MALFORMED) {
		tm_count(&totals->malformed, w);
		if (p->malformed < TM_MALFORMED_MAX)
			totals->malformed_by[p->malformed] += w->packets;
		drop |= !x->egress && (x->flags & (p->addressed ? TM_CFG_DROP_MALFORMED
								: TM_CFG_DROP_MALFORMED | TM_CFG_DROP_UNPARSED));
	} else {
		tm_book(set, index, p, inner, w->packets, w->bytes, x->now, x->cpu, totals, x->skb);
	}
	if (drop)
		tm_count(&totals->dropped, w);
	return drop;
}

static __always_inline struct tm_packet *tm_packet(__u32 place)
{
	return bpf_map_lookup_elem(TM_REF(tm_scratch), &place);
}

/*
 * The packet that this CPU processes. It is in a map rather than on the stack: so the verifier forgets what each path
 * through the parser knew about it, and checks what follows once, not once for each path.
 */
static __always_inline struct tm_packet *tm_fresh_packet(__u32 wire_len)
{
	__u32 zero = 0;
	struct tm_packet *p = bpf_map_lookup_elem(TM_REF(tm_scratch), &zero);

	if (p) {
		__builtin_memset(p, 0, sizeof(*p));
		p->wire_len = wire_len;
	}
	return p;
}

/* Reads the frame, and determines its service. Returns enum tm_kind. */
static __always_inline int tm_parse_what(const void *data, const void *end, struct tm_packet *p, __u32 raw)
{
	int kind = tm_parse(data, end, p, raw);

	p->what = tm_what(p);
	return kind;
}

/* Reads the frame into the CPU's packet. Returns enum tm_kind, or -1 if there is none. */
TM_SUBFN int tm_read_xdp(struct xdp_md *ctx, __u32 raw)
{
	const void *data = TM_POINTER(ctx->data), *end = TM_POINTER(ctx->data_end);
	struct tm_packet *p = tm_fresh_packet(end - data);

	return p ? tm_parse_what(data, end, p, raw) : -1;
}

TM_SUBFN int tm_read_skb(struct __sk_buff *skb, __u32 raw)
{
	const void *data = TM_POINTER(skb->data), *end = TM_POINTER(skb->data_end);
	struct tm_packet *p = tm_fresh_packet(skb->len);

	return p ? tm_parse_what(data, end, p, raw) : -1;
}

/* Whether the packet that was read belongs to a tunnel. */
static __always_inline int tm_is_tunnel(int kind)
{
	const struct tm_packet *p = tm_packet(TM_OUTER);

	return kind == TM_IS_IP && p && tm_tunnel(p) != TM_NO_TUNNEL;
}

/* The same of a usual frame, by its service alone: each test of a field splits what the verifier checks after it. */
static __always_inline int tm_is_quick_tunnel(const struct tm_packet *p)
{
	return p->what == TM_WHAT_UDP + TM_PORT_VXLAN || p->what == TM_WHAT_UDP + TM_PORT_VXLAN_LINUX ||
	       p->what == TM_WHAT_UDP + TM_PORT_GENEVE;
}

/* Reads the inner packet of the CPU's packet into its second place. Returns whether it could be read. */
static __always_inline int tm_read_inside(const void *data, const void *end)
{
	const struct tm_packet *p = tm_packet(TM_OUTER);
	struct tm_packet *in = tm_packet(TM_INSIDE);

	if (!p || !in)
		return 0;
	__builtin_memset(in, 0, sizeof(*in));
	return tm_parse_inside(data, end, p, in);
}

TM_SUBFN int tm_inside_xdp(struct xdp_md *ctx)
{
	return tm_read_inside(TM_POINTER(ctx->data), TM_POINTER(ctx->data_end));
}

TM_SUBFN int tm_inside_skb(struct __sk_buff *skb)
{
	return tm_read_inside(TM_POINTER(skb->data), TM_POINTER(skb->data_end));
}

/* Stores the inner flow, and that it is in use. Returns its number. */
static __always_inline __u64 tm_keep_inner(void)
{
	const struct tm_packet *in = tm_packet(TM_INSIDE);
	__u64 name;

	if (!in)
		return 0;
	name = tm_hash_inner(in, c_seed);
	if (!bpf_map_lookup_elem(TM_REF(tm_inners), &name))
		bpf_map_update_elem(TM_REF(tm_inners), &name, &in->key, BPF_NOEXIST);
	return name;
}

TM_PROG("xdp")
int tm_xdp(struct xdp_md *ctx)
{
	struct tm_quick q = {
		.data = TM_POINTER(ctx->data), .end = TM_POINTER(ctx->data_end), .wire_len = q.end - q.data};
	struct tm_weight w = {.packets = 1, .bytes = q.end - q.data};
	struct tm_packet usual = {}, *p = &usual;
	__u8 ifslot = tm_ifslot(ctx->ingress_ifindex);
	__u32 raw = ifslot & TM_IFSLOT_RAW_IP;
	struct tm_context x;
	int kind = TM_IS_IP;
	__u64 inner = 0;
	__be16 type;

	if (TM_QUICK && !tm_begin(&x, ifslot, ctx->ingress_ifindex, TM_INGRESS, 0))
		return XDP_PASS;
	type = TM_QUICK && !raw ? tm_quick_link(&q, p) : 0;
	if (type == tm_htons(TM_ETH_IPV4) && tm_quick_ipv4(&q, p) && !(TM_LOOK_INSIDE && tm_is_quick_tunnel(p)))
		return tm_handle(p, kind, 0, &w, &x) ? XDP_DROP : XDP_PASS;
	if (type == tm_htons(TM_ETH_IPV6) && tm_quick_ipv6(&q, p) && !(TM_LOOK_INSIDE && tm_is_quick_tunnel(p)))
		return tm_handle(p, kind, 0, &w, &x) ? XDP_DROP : XDP_PASS;
	x.usual = !TM_QUICK;
	kind = tm_read_xdp(ctx, raw);
	if (TM_LOOK_INSIDE && tm_is_tunnel(kind) && tm_inside_xdp(ctx))
		inner = tm_keep_inner();
	p = tm_packet(TM_OUTER);
	if (!TM_QUICK && !tm_begin(&x, ifslot, ctx->ingress_ifindex, TM_INGRESS, 0))
		return XDP_PASS;
	return tm_handle(p, kind, inner, &w, &x) ? XDP_DROP : XDP_PASS;
}

/*
 * Bytes of a super-packet's headers, which each of its segments repeats. They include the inner packet's if the inner
 * packet is the one that is segmented: it then reaches to the end. If whole tunnel packets follow, it ends before.
 */
static __always_inline __u32 tm_repeated(const struct tm_packet *p, int inside)
{
	const struct tm_packet *in = tm_packet(TM_INSIDE);

	if (!inside || !in || in->header_len + in->payload_len != p->header_len + p->payload_len)
		return p->header_len;
	return in->header_len;
}

/* Moves headers in fragments of the buffer to its linear part. Returns 0 if that succeeded. */
static __always_inline long tm_pull(struct __sk_buff *skb)
{
	return bpf_skb_pull_data(skb, skb->len < TM_PULL_BYTES ? skb->len : TM_PULL_BYTES);
}

/* Handles an outgoing packet: adds what only its buffer has (the tag beside it, segments to come). */
static __always_inline int tm_send(struct __sk_buff *skb, struct tm_packet *p, int kind, __u32 gso_size, int inside,
				   __u64 inner, const struct tm_context *x)
{
	struct tm_weight w = {.packets = 1, .bytes = skb->len};
	__u32 tag, segments, headers;

	if (skb->vlan_present &&
	    (skb->vlan_tci & 0xfff)) /* the tag travels beside the buffer and will be on the wire */
		p->key.vlan = skb->vlan_tci & 0xfff;
	tag = skb->vlan_present ? sizeof(struct tm_vlan) : 0;
	w.bytes += tag;
	if (gso_size) {
		headers = tm_repeated(p, inside);
		segments = skb->gso_segs;
		if (!segments && skb->len > headers) /* from a guest or a tun: its kernel has not counted yet */
			segments = (skb->len - headers + gso_size - 1) / gso_size;
		if (segments > 1) {
			w.packets = segments;
			w.bytes += (__u64)(segments - 1) * (headers + tag);
		}
	}
	return tm_handle(p, kind, inner, &w, x) ? TC_ACT_SHOT : TC_ACT_UNSPEC;
}

TM_PROG("tc")
int tm_tc(struct __sk_buff *skb)
{
	struct tm_quick q = {.data = TM_POINTER(skb->data), .end = TM_POINTER(skb->data_end), .wire_len = skb->len};
	__u8 ifslot = tm_ifslot(skb->ifindex);
	__u32 raw = ifslot & TM_IFSLOT_RAW_IP, gso_size = skb->gso_size, look_inside = TM_LOOK_INSIDE || gso_size;
	struct tm_packet usual = {}, *p = &usual;
	struct tm_context x;
	int kind = TM_IS_IP, inside = 0;
	__u64 inner = 0;
	__be16 type;

	if (TM_QUICK && !tm_begin(&x, ifslot, skb->ifindex, TM_EGRESS, skb))
		return TC_ACT_UNSPEC;
	type = TM_QUICK && !raw ? tm_quick_link(&q, p) : 0;
	if (type == tm_htons(TM_ETH_IPV4) && tm_quick_ipv4(&q, p) && !(look_inside && tm_is_quick_tunnel(p)))
		return tm_send(skb, p, kind, gso_size, 0, 0, &x);
	if (type == tm_htons(TM_ETH_IPV6) && tm_quick_ipv6(&q, p) && !(look_inside && tm_is_quick_tunnel(p)))
		return tm_send(skb, p, kind, gso_size, 0, 0, &x);
	x.usual = !TM_QUICK;
	kind = tm_read_skb(skb, raw);
	if (kind == TM_IS_MALFORMED && !tm_pull(skb))
		kind = tm_read_skb(skb, raw);
	if (look_inside && tm_is_tunnel(kind)) {
		inside = tm_inside_skb(skb);
		if (!inside && !tm_pull(skb))
			inside = tm_inside_skb(skb);
		if (TM_LOOK_INSIDE && inside)
			inner = tm_keep_inner();
	}
	p = tm_packet(TM_OUTER);
	if (!TM_QUICK && !tm_begin(&x, ifslot, skb->ifindex, TM_EGRESS, skb))
		return TC_ACT_UNSPEC;
	return p ? tm_send(skb, p, kind, gso_size, inside, inner, &x) : TC_ACT_UNSPEC;
}

/* The daemon runs this through BPF_PROG_TEST_RUN: the two clocks, read together. */
TM_PROG("xdp")
int tm_tick(struct xdp_md *ctx)
{
	__u32 zero = 0;
	struct tm_clock *clock = bpf_map_lookup_elem(TM_REF(tm_clock), &zero);

	if (clock) {
		clock->jiffies = bpf_jiffies64();
		clock->monotonic_ns = bpf_ktime_get_ns();
	}
	return XDP_PASS;
}
