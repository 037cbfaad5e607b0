/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* For small programs at TC separate from the data path: both ends of a packet, from its network header. */
#pragma once

#include "packet.h"

#define TM_NEXT (-1) /* TC_ACT_UNSPEC of linux/pkt_cls.h */
#define TM_LOAD(skb, at, to, bytes) bpf_skb_load_bytes_relative(skb, at, to, bytes, BPF_HDR_START_NET)

/* Whether the packet is complete and of `proto`; source and destination (IPv4 v4-mapped), and the transport offset. */
static __always_inline int tm_ends_read(struct __sk_buff *skb, __u8 proto, __u8 *src, __u8 *dst, __u32 *at)
{
	if (skb->protocol == tm_htons(TM_ETH_IPV4)) {
		__u8 head[20];

		if (TM_LOAD(skb, 0, head, sizeof(head)) || head[9] != proto || (head[6] & 0x3f) | head[7])
			return 0;
		src[10] = src[11] = dst[10] = dst[11] = 0xff;
		__builtin_memcpy(src + 12, head + 12, 4);
		__builtin_memcpy(dst + 12, head + 16, 4);
		*at = (head[0] & 0xf) * 4;
		return *at >= sizeof(head);
	}
	if (skb->protocol == tm_htons(TM_ETH_IPV6)) {
		__u8 head[40];

		if (TM_LOAD(skb, 0, head, sizeof(head)) || head[6] != proto)
			return 0;
		__builtin_memcpy(src, head + 8, 16);
		__builtin_memcpy(dst, head + 24, 16);
		*at = sizeof(head);
		return 1;
	}
	return 0;
}
