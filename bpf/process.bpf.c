/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * Records which process a flow belongs to (flows.processes). Hooks of the root cgroup, which allow everything, see who
 * binds, connects or first sends. The socket's first packet out of a watched interface shows which end of the flow that
 * is. The programs are separate from the data path. They are loaded and attached only if the setting is on; nothing
 * waits for them, and they drop nothing.
 */
#ifndef TM_BCC
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
char _license[] SEC("license") = "Dual MIT/GPL";
#endif
#include "dialect.h"
#include "ends.h"

#define TM_ALLOW 1
#define TM_FAMILY_IPV4 2  /* AF_INET */
#define TM_TCP_SYN_SENT 2 /* BPF_TCP_SYN_SENT */

/* bound: sockets whose process is known (`flows.processes`) | the least recently used one is evicted and counted */
#define TM_PROCESS_SOCKETS 32768
/* bound: endpoints of flows whose process is known (`flows.processes`) | the oldest one is evicted and counted */
#define TM_PROCESS_ENDS 32768
/* bound: listening ports whose process is known (`flows.processes`) | the oldest one is evicted and counted */
#define TM_PROCESS_WAITING 8192

/*
 * The key of a process: for a connection that it opens, both ends; for datagrams and waiting sockets only the local
 * end, with address zero if that is any address. IPv4 addresses v4-mapped, ports in host order.
 */
struct tm_process_end {
	__u64 netns; /* of what waits: the network namespace's cookie; 0: it was seen on an interface of the daemon's */
	__u8 local[16];
	__u8 remote[16];
	__u16 local_port;
	__u16 remote_port;
	__u32 proto;
};

struct tm_process {
	__u64 at_ns; /* CLOCK_MONOTONIC: since when it holds */
	__u32 pid;
	__u32 told; /* of a socket: its end was noted when it sent */
	char name[16];
};

/* Counters of the programs, on each CPU. */
struct tm_process_counts {
	__u64 noted; /* ends */
	__u64 lost;  /* records for which the kernel had no room */
};

TM_MAP(tm_process_sockets, "lru_hash", LRU_HASH, __u64, struct tm_process, TM_PROCESS_SOCKETS, 0)
TM_MAP(tm_process_ends, "lru_hash", LRU_HASH, struct tm_process_end, struct tm_process, TM_PROCESS_ENDS, 0)
TM_MAP(tm_process_waiting, "lru_hash", LRU_HASH, struct tm_process_end, struct tm_process, TM_PROCESS_WAITING, 0)
TM_MAP(tm_process_counts, "percpu_array", PERCPU_ARRAY, __u32, struct tm_process_counts, 1, 0)

static __always_inline void tm_process_count(int failed)
{
	__u32 zero = 0;
	struct tm_process_counts *counts = bpf_map_lookup_elem(TM_REF(tm_process_counts), &zero);

	if (!counts)
		return;
	if (failed)
		counts->lost++;
	else
		counts->noted++;
}

/* The first process that binds, connects or sends is the owner, even if the socket is passed on afterwards. */
static __always_inline void tm_process_note(__u64 cookie, struct tm_process *p)
{
	if (bpf_map_lookup_elem(TM_REF(tm_process_sockets), &cookie))
		return;
	p->at_ns = bpf_ktime_get_ns();
	p->pid = bpf_get_current_pid_tgid() >> 32;
	bpf_get_current_comm(p->name, sizeof(p->name));
	if (bpf_map_update_elem(TM_REF(tm_process_sockets), &cookie, p, BPF_ANY))
		tm_process_count(1);
}

static __always_inline int tm_process_connects(struct bpf_sock_addr *ctx)
{
	struct tm_process p = {};

	if (ctx->protocol == TM_PROTO_TCP || ctx->protocol == TM_PROTO_UDP)
		tm_process_note(bpf_get_socket_cookie(ctx), &p);
	return TM_ALLOW;
}

/* A program can be attached in one place only. */
#define TM_WHO_CONNECTS(place, name)                                                                                   \
	TM_PROG(place)                                                                                                 \
	int name(struct bpf_sock_addr *ctx)                                                                            \
	{                                                                                                              \
		return tm_process_connects(ctx);                                                                       \
	}
TM_WHO_CONNECTS("cgroup/connect4", tm_who_dial4)
TM_WHO_CONNECTS("cgroup/connect6", tm_who_dial6)
TM_WHO_CONNECTS("cgroup/sendmsg4", tm_who_send4)
TM_WHO_CONNECTS("cgroup/sendmsg6", tm_who_send6)

static __always_inline void tm_process_waits(struct bpf_sock *ctx, struct tm_process_end *end)
{
	struct tm_process p = {};

	if (ctx->protocol != TM_PROTO_TCP && ctx->protocol != TM_PROTO_UDP)
		return;
	tm_process_note(bpf_get_socket_cookie(ctx), &p);
	if (!p.pid) /* bound again */
		return;
	end->netns = bpf_get_netns_cookie(ctx);
	end->proto = ctx->protocol;
	end->local_port = ctx->src_port;
	tm_process_count(!!bpf_map_update_elem(TM_REF(tm_process_waiting), end, &p, BPF_ANY));
}

TM_PROG("cgroup/post_bind4")
int tm_who_bind4(struct bpf_sock *ctx)
{
	struct tm_process_end end = {};
	__u32 local = ctx->src_ip4;

	if (local) {
		end.local[10] = end.local[11] = 0xff;
		__builtin_memcpy(end.local + 12, &local, sizeof(local));
	}
	tm_process_waits(ctx, &end);
	return TM_ALLOW;
}

TM_PROG("cgroup/post_bind6")
int tm_who_bind6(struct bpf_sock *ctx)
{
	struct tm_process_end end = {};
	__u32 local[4] = {ctx->src_ip6[0], ctx->src_ip6[1], ctx->src_ip6[2], ctx->src_ip6[3]};

	__builtin_memcpy(end.local, local, sizeof(local));
	tm_process_waits(ctx, &end);
	return TM_ALLOW;
}

/* For a connection that is being opened, both ends as on the wire, whatever family the socket has. */
static __always_inline int tm_process_dials(struct __sk_buff *skb, struct tm_process_end *end)
{
	__be16 ports[2];
	__u32 at = 0;

	if (!tm_ends_read(skb, TM_PROTO_TCP, end->local, end->remote, &at) || TM_LOAD(skb, at, ports, sizeof(ports)))
		return 0;
	end->local_port = tm_htons(ports[0]);
	end->remote_port = tm_htons(ports[1]);
	return 1;
}

static __always_inline void tm_process_sends(struct bpf_sock *sk, struct tm_process_end *end)
{
	__u32 local[4] = {};

	if (sk->family != TM_FAMILY_IPV4) {
		local[0] = sk->src_ip6[0];
		local[1] = sk->src_ip6[1];
		local[2] = sk->src_ip6[2];
		local[3] = sk->src_ip6[3];
	} else if (sk->src_ip4) {
		local[2] = tm_htonl(0xffff);
		local[3] = sk->src_ip4;
	}
	__builtin_memcpy(end->local, local, sizeof(local));
	end->local_port = sk->src_port;
}

TM_PROG("tc")
int tm_who_out(struct __sk_buff *skb)
{
	struct tm_process_end end = {};
	struct bpf_sock *sk = skb->sk;
	struct tm_process *known, *before, p;
	__u64 cookie;

	if (!sk)
		return TM_NEXT;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return TM_NEXT;
	end.proto = sk->protocol;
	if (end.proto != TM_PROTO_UDP && !(end.proto == TM_PROTO_TCP && sk->state == TM_TCP_SYN_SENT))
		return TM_NEXT;
	cookie = bpf_get_socket_cookie(skb);
	known = bpf_map_lookup_elem(TM_REF(tm_process_sockets), &cookie);
	if (!known)
		return TM_NEXT;
	if (end.proto == TM_PROTO_UDP) {
		if (known->told)
			return TM_NEXT;
		known->told = 1;
		tm_process_sends(sk, &end);
	} else if (!tm_process_dials(skb, &end)) {
		return TM_NEXT;
	}
	before = bpf_map_lookup_elem(TM_REF(tm_process_ends), &end);
	if (before && before->pid == known->pid) /* a SYN that is sent again */
		return TM_NEXT;
	p = *known;
	p.at_ns = bpf_ktime_get_ns();
	tm_process_count(!!bpf_map_update_elem(TM_REF(tm_process_ends), &end, &p, BPF_ANY));
	return TM_NEXT;
}
