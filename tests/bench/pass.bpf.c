/* SPDX-License-Identifier: GPL-2.0-only */
/* The least an XDP program can do: what a packet costs before anybody looks at it. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("xdp")
int pass(struct xdp_md *ctx)
{
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
