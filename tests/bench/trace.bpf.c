/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Puts a program before many flows: rewrites addresses and ports of the one packet that BPF_PROG_TEST_RUN repeats from
 * a trace, then jumps into the program under test. Each contestant pays the same for the rewrite and the jump.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <bpf/bpf_helpers.h>

#define TRACE_LENGTH (1u << 20)

struct step {
	__be32 source, target;
	__be16 source_port, target_port;
	__u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, TRACE_LENGTH);
	__type(key, __u32);
	__type(value, struct step);
} trace_steps SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} trace_at SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} trace_next SEC(".maps");

SEC("xdp")
int trace(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct iphdr *ip = data + sizeof(struct ethhdr);
	__u32 *ports = (void *)(ip + 1);
	__u32 zero = 0, at;
	struct step *step;
	__u64 *position;

	if ((void *)(ports + 1) > end)
		return XDP_ABORTED;
	position = bpf_map_lookup_elem(&trace_at, &zero);
	if (!position)
		return XDP_ABORTED;
	at = (*position)++ & (TRACE_LENGTH - 1);
	step = bpf_map_lookup_elem(&trace_steps, &at);
	if (!step)
		return XDP_ABORTED;
	ip->saddr = step->source;
	ip->daddr = step->target;
	*ports = *(__u32 *)&step->source_port;
	bpf_tail_call(ctx, &trace_next, 0);
	return XDP_ABORTED;
}

char LICENSE[] SEC("license") = "GPL";
