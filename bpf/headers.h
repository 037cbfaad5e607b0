/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* Headers on the wire, their numbers, and limits on how many are followed. Fields are in network order. */
#pragma once

#include "abi.h"

#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif

#define tm_ntohs(x) ((__u16)__builtin_bswap16(x))
#define tm_htonl(x) ((__u32)__builtin_bswap32(x))
#define tm_htons tm_ntohs

/* A loop that stays one: each loader's compiler would write out some of its rounds. */
#ifdef __clang__
#define TM_LOOP _Pragma("clang loop unroll(disable)")
#else
#define TM_LOOP
#endif

#define tm_barrier() __asm__ __volatile__("" ::: "memory")

/* Naturally aligned on purpose: with a packed struct the BPF back end loads byte by byte. */
struct tm_ethernet {
	__be16 dst[3];
	__be16 src[3];
	__be16 type;
};

struct tm_vlan {
	__be16 tci;
	__be16 type;
};

struct tm_ipv4 {
	__u8 version_ihl;
	__u8 tos;
	__be16 total_length;
	__be16 id;
	__be16 fragment;
	__u8 ttl;
	__u8 protocol;
	__be16 checksum;
	__be32 src;
	__be32 dst;
};

struct tm_ipv6 {
	__be32 version_class_flow;
	__be16 payload_length;
	__u8 next_header;
	__u8 hop_limit;
	__be32 src[4];
	__be32 dst[4];
};

struct tm_extension {
	__u8 next_header;
	__u8 length;
	__be16 fragment; /* fragment header only */
	__be32 id;
};

struct tm_tcp {
	__be16 sport;
	__be16 dport;
	__be32 sequence;
	__be32 acknowledgement;
	__u8 offset;
	__u8 flags;
	__be16 window;
	__be16 checksum;
	__be16 urgent;
};

struct tm_udp {
	__be16 sport;
	__be16 dport;
	__be16 length;
	__be16 checksum;
};

struct tm_icmp {
	__u8 type;
	__u8 code;
	__be16 checksum;
};

#define TM_ETH_IPV4 0x0800
#define TM_ETH_IPV6 0x86dd
#define TM_ETH_8021Q 0x8100
#define TM_ETH_8021AD 0x88a8
#define TM_ETH_MPLS 0x8847
#define TM_ETH_MPLS_MULTICAST 0x8848 /* RFC 5332 */

#define TM_MPLS_BOTTOM 0x0100 /* of a label's lower half: the last of the stack */
#define TM_TAGS_MAX 386	      /* tags that are followed: more than fit into 1,514 bytes */
#define TM_TAGS_INSIDE 16     /* the same inside a tunnel: fewer to verify */
#define TM_LABELS_MAX 16      /* labels */

#define TM_IP_MORE_FRAGMENTS 0x2000
#define TM_IP_FRAGMENT_OFFSET 0x1fff

#define TM_TCP_SYN 0x02
#define TM_TCP_ACK 0x10
#define TM_TCP_ECN 0xc0 /* ECE and CWR: any SYN or SYN-ACK may carry them (RFC 3168, 6.1.1) */

#define TM_PROTO_HOPOPTS 0
#define TM_PROTO_ICMP 1
#define TM_PROTO_TCP 6
#define TM_PROTO_UDP 17
#define TM_PROTO_ROUTING 43
#define TM_PROTO_FRAGMENT 44
#define TM_PROTO_AH 51
#define TM_PROTO_ICMPV6 58
#define TM_PROTO_DSTOPTS 60
#define TM_PROTO_SCTP 132

#define TM_ECHO_REPLY 0
#define TM_ECHO_REQUEST 8
#define TM_ECHO_REQUEST6 128
#define TM_ECHO_REPLY6 129

#define TM_EXTENSIONS_MAX                                                                                              \
	8 /* extension headers followed; RFC 8200 names each at most once, destination options twice */

#define TM_HEADERS_MAX 0x3fff /* bytes of headers that are followed; also used as a mask */
