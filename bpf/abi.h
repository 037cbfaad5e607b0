/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * Every structure that both the kernel side and the user side read. This is the only definition: trafficmond/abi.py is
 * generated from it (make abi), a test compares the two, and the loader compares the layout in the object's BTF again
 * before it uses a map.
 *
 * Byte order: addresses and ports are in network order, as on the wire; everything else is in host order.
 */
#pragma once

#include <linux/types.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "trafficmon is written for little-endian machines: its programs and its daemon share memory in that order"
#endif

enum tm_action {
	TM_ALLOW = 0,	/* passes, not logged */
	TM_MONITOR = 1, /* passes, logged */
	TM_DROP = 2,	/* dropped, logged */
	TM_LIMIT = 3,	/* only in a record: passes while the source's bucket has tokens, then dropped */
};

/* Why a packet got its action; also the order of precedence, the strongest last (except established and limit). */
enum tm_reason {
	TM_BY_DEFAULT = 0,
	TM_BY_LIST = 1,
	TM_BY_RULE = 2,
	TM_BY_BAN = 3,
	TM_BY_ALLOWLIST = 4,
	TM_BY_GUARD = 5,
	TM_BY_ESTABLISHED = 6, /* a reply to a connection that this host opened, under a default of drop */
	TM_BY_LIMIT = 7,       /* dropped because its source is over the rule's rate */
};

/*
 * A verdict word, in leaves of the verdict table and in flow keys: bits 0-23 rule id, 24-27 tm_reason, 28-29
 * tm_action, 30-31 zero. In a flow key, bit 30 (TM_SHADOWED) means that a rule in shadow would have decided;
 * such a rule only reports what it would have done. Bits 0-23 are then the number of a pair: the rule in shadow
 * and the rule that decided (trafficmond/policy/ids.py). A pair has a block of TM_PAIR_BLOCK numbers, two for
 * each place in the chain of records. An odd number: the packet would have passed even if the rule were not in
 * shadow.
 */
#define TM_SHADOWED 0x40000000u
#define TM_PAIR_BLOCK 64u
#define TM_RULE_MASK 0xffffffu
#define TM_REASON_SHIFT 24
#define TM_REASON_MASK 0xfu
#define TM_ACTION_SHIFT 28
#define TM_ACTION_MASK 0x3u

/* ---- the verdict table: one array of pages, swapped whole (docs/decisions/0004) ---- */

#define TM_PAGE_WORDS 1024u
#define TM_PAGE_UNITS 128u
#define TM_SMALL_PAGES 512u	   /* 2 MiB: some ten thousand prefixes */
#define TM_LARGE_PAGES 6144u	   /* 24 MiB: the Internet's whole routing table */
#define TM_TABLE_MAGIC 0x33544d54u /* "TMT3" */

/* What a rule needs beyond its verdict word: an end, a rate, and what applies after the end. */
struct tm_record {
	__u64 expires;	     /* jiffies64; 0: never */
	__u32 verdict;	     /* verdict word; action TM_LIMIT uses rate and burst. With `shadow`: its pair's number */
	__u32 parent;	     /* leaf (verdict word or TM_LEAF_RECORD index) of the enclosing prefix */
	__u32 rate_per_s;    /* token bucket: packets a second for each source */
	__u32 burst_packets; /* token bucket: depth */
	__u32 shadow;	     /* TM_SHADOWED and the word of a rule in shadow; the record below decides. Or 0 */
	__u32 pad;
};

/* The same 4 KiB as words, as bytes, as keys of chunks and as records (one unit each). */
struct tm_page {
	union {
		__u32 w[TM_PAGE_WORDS];
		__u8 byte[4 * TM_PAGE_WORDS];
		__u64 key[TM_PAGE_WORDS / 2];
		struct tm_record record[TM_PAGE_UNITS];
	};
};

/* Word offsets in page 0. A unit is 8 words (32 bytes); roots and records are given as units. */
enum tm_table_header {
	TM_HDR_MAGIC = 0,
	TM_HDR_GENERATION = 1,
	TM_HDR_ROOT = 2,    /* four words: IPv4 ingress, IPv6 ingress, IPv4 egress, IPv6 egress */
	TM_HDR_RECORDS = 6, /* first tm_record, in units */
	TM_HDR_RECORD_COUNT = 7,
	TM_HDR_CLASSES = 8,	/* classes of services, TM_WHAT_BYTES bytes, in units; 0: no rule has services */
	TM_HDR_CLASS_COUNT = 9, /* leaves in a row */
	TM_HDR_PALETTE = 256,	/* TM_PALETTE_MAX leaves, those of the rules with the most prefixes */
};
#define TM_PALETTE_MAX 256u

/*
 * Every service has a place in the classes: a TCP or UDP port, an ICMP or ICMPv6 type, another protocol, and for each
 * protocol the later fragments of its packets, which have no ports. The byte at that place is the class. Services that
 * the same rules name share a class; class 0 has those that no rule names. The port is the packet's destination: for
 * incoming packets a port of this host, for outgoing ones a port of the other host.
 */
#define TM_WHAT_TCP 0x0u
#define TM_WHAT_UDP 0x10000u
#define TM_WHAT_ICMP 0x20000u
#define TM_WHAT_ICMPV6 0x20100u
#define TM_WHAT_OTHER 0x20200u
#define TM_WHAT_FRAGMENT 0x20300u
#define TM_WHAT_BYTES 0x20400u
#define TM_CLASSES_MAX 256u

/*
 * An entry of a root, block or chunk. Bit 31 clear: a leaf. A leaf with TM_LEAF_RECORD has the index of a tm_record
 * (bits 0-23), any other leaf is a verdict word. Bit 31 set: a pointer to a unit (bits 0-27).
 */
#define TM_ENTRY_POINTER 0x80000000u
#define TM_ENTRY_CHUNK 0x40000000u   /* pointer: a sorted chunk; without it or TM_ENTRY_BYTES: a block of words */
#define TM_ENTRY_CROSS 0x20000000u   /* pointer: the walk continues in the low half of the address */
#define TM_ENTRY_BYTES 0x10000000u   /* pointer: a block of 256 bytes, each the index of its leaf in the palette */
#define TM_ENTRY_SERVICE 0x50000000u /* both, pointer: a row of leaves, one for each class of services */
#define TM_ENTRY_UNIT 0x0fffffffu
#define TM_LEAF_RECORD 0x40000000u
#define TM_LEAF_INDEX 0xffffffu
#define TM_ROOT_BITS 16
#define TM_CHUNK_MAX 32u /* boundaries in a chunk */

/* ---- the ledger ---- */

#define TM_INGRESS 0
#define TM_EGRESS 1

/* A unidirectional flow: the key of the ledger. IPv4 addresses are v4-mapped (::ffff:a.b.c.d). */
struct tm_key {
	__u8 src[16];
	__u8 dst[16];
	__be16 sport; /* ICMP, ICMPv6: the type */
	__be16 dport; /* ICMP, ICMPv6: the code */
	__u8 proto;
	__u8 scope; /* TM_SCOPE_* */
	__u16 vlan; /* outermost VLAN id except 0, host order; 0: none */
	__u32 ifindex;
	__u32 verdict; /* verdict word: a change of rules starts a new record, so sums by rule are exact */
} __attribute__((aligned(8)));

#define TM_SCOPE_EGRESS 0x01 /* direction */
#define TM_SCOPE_IPV6 0x02

/* Bits of tm_flow.bits, an OR over the record's packets unless stated otherwise. */
#define TM_BIT_FRAGMENT 0x01	  /* a later fragment: no ports */
#define TM_BIT_FIRST_PAYLOAD 0x02 /* the record's first packet had payload */
/*
 * TCP, in a record that began with the responder's SYN-ACK: its first packet with payload acknowledged no more than
 * that SYN-ACK, so the server sent before it received anything (as in FTP, SSH, SMTP, MySQL; not HTTP and TLS). Set
 * once, while payload_packets is still 0: first_flags has SYN|ACK and ack_seq == first_ack.
 */
#define TM_BIT_SPOKE_FIRST 0x08
#define TM_BIT_MORE_FRAGMENTS 0x10 /* a fragment that is not the last */

#define TM_OWNER_KERNEL 1		      /* the root of the cgroups: sockets of the kernel itself */
#define TM_OWNER_FORWARDED 0xffffffffffffffff /* no socket of this host */

/* One slot of the flow cache and one record of the eviction ring: 128 bytes, two cache lines. */
struct tm_flow {
	struct tm_key key;
	__u64 packets;	     /* since the slot was taken; a GSO packet counts as its segments */
	__u64 bytes;	     /* on the wire from the Ethernet header, without FCS */
	__u64 first;	     /* jiffies64 */
	__u64 last;	     /* jiffies64 */
	__u64 payload_bytes; /* beyond the transport header */
	__u32 sequence;	  /* even: stable; odd: being replaced; grows by 2 with each new owner of the slot; 0: free */
	__u32 slot;	  /* in a ring record: the slot it was evicted from */
	__u16 first_len;  /* wire length of the record's first packet, capped at 65535 */
	__u16 last_len;	  /* ... and of its last */
	__u8 tcp_flags;	  /* OR over all packets */
	__u8 first_flags; /* TCP flags of the first packet */
	__u8 bits;	  /* TM_BIT_* */
	__u8 ttl;	  /* TTL or hop limit of the first packet */
	__u32 payload_packets; /* packets with payload */
	__be32 first_ack;      /* TCP acknowledgement number of the first packet, of a SYN its sequence number */
	__u64 inner; /* part of the record's identity: key in tm_inners of what the tunnel carries; 0: none, unread */
	__u64 owner; /* of what goes out: the cgroup of the socket that sent the record's first packet, or TM_OWNER_*;
			0: of what comes in, or unread (no room is left for the socket's cookie: it would take the place
			of `inner`, in an object of its own) */
};

/* The two ways of a set are adjacent, so one map look-up finds both. */
struct tm_set {
	struct tm_flow way[2];
};

/* What the reader has taken of a slot. Userspace only; pinned, so that a new daemon goes on where the old one was. */
struct tm_taken {
	__u64 packets;
	__u64 bytes;
	__u64 payload_bytes;
	__u32 payload_packets;
	__u32 sequence;
};

struct tm_count {
	__u64 packets;
	__u64 bytes;
};

/* The eviction ring of one CPU: only the kernel moves head, only the reader moves tail; both only grow. */
struct tm_ring {
	__u64 head;
	__u64 pad0[7];
	__u64 tail;
	/* Of records that went to `unattributed`: what the reader had taken before they were evicted, so that they
	 * are not counted twice. The reader's own. */
	struct tm_count recovered;
	__u64 pad1[5];
};

/* What a packet in a tunnel carries. */
enum tm_tunnel {
	TM_NO_TUNNEL = 0,
	TM_IPIP = 1, /* IPv4 or IPv6 directly after an IP header (RFC 2003, 4213, 2473) */
	TM_GRE = 2,
	TM_ERSPAN = 3,
	TM_VXLAN = 4,
	TM_GENEVE = 5,
};

/*
 * The first packet of a conversation inside a tunnel, in tm_inners under a keyed hash that is the same for both
 * directions. It has the layout of tm_key, because it takes that place while the packet is read.
 */
struct tm_inner {
	__u8 src[16];
	__u8 dst[16];
	__be16 sport;
	__be16 dport;
	__u8 proto;
	__u8 scope; /* TM_SCOPE_IPV6, TM_SCOPE_NUMBERED */
	__u16 vlan;
	__u32 number; /* VNI, GRE key or ERSPAN session, host order */
	__u32 tunnel; /* enum tm_tunnel */
} __attribute__((aligned(8)));

#define TM_SCOPE_NUMBERED 0x04 /* the tunnel has a number */

/* ---- totals ---- */

/* Why a packet could not be read; index of tm_totals.malformed_by. */
enum tm_malformed {
	TM_OK = 0,
	TM_SHORT_ETHERNET = 1,
	TM_SHORT_VLAN = 2,    /* VLAN tag or MPLS label beyond the end */
	TM_SHORT_IP = 3,      /* IPv4 or IPv6 header beyond the end */
	TM_BAD_IP_HEADER = 4, /* version or ihl is invalid */
	TM_BAD_IP_LENGTH = 5, /* total length is less than the headers, or beyond the frame */
	TM_SHORT_EXTENSION = 6,
	TM_SHORT_TRANSPORT = 7,
	TM_BAD_TRANSPORT = 8,	/* TCP data offset or UDP length is invalid */
	TM_DEEP_EXTENSIONS = 9, /* more IPv6 extension headers than are followed */
	TM_UNPARSED_LINK = 10,	/* more VLAN tags or MPLS labels than are followed */
	TM_MALFORMED_MAX = 11,
};

/*
 * Exact totals of one CPU, interface and direction. Invariant, in packets and in bytes: seen = in flows + unattributed
 * + not_ip + malformed, where in flows = (sum over the cache) + evicted.
 */
struct tm_totals {
	struct tm_count seen;
	struct tm_count not_ip;
	struct tm_count malformed;
	struct tm_count unattributed; /* evicted while the ring was full */
	struct tm_count dropped;      /* of seen */
	struct tm_count evicted;      /* moved from the cache to the ring */
	__u64 malformed_by[TM_MALFORMED_MAX];
	__u64 pad[9];
};

#define TM_MAX_INTERFACES 64 /* slot 0: an interface that is not registered */
#define TM_IFINDEX_SLOTS 65536u

/* Interface slot by (ifindex modulo TM_IFINDEX_SLOTS), with a bit for devices whose frames begin with the IP header. */
#define TM_IFSLOT_MASK 0x3f
#define TM_IFSLOT_RAW_IP 0x80

struct tm_ifslots {
	__u8 slot[4096];
};

/* ---- settings that the programs read, and the clock ---- */

/* Known when the programs are loaded, so the verifier and the JIT treat them as literals. */
struct tm_constants {
	__u64 seed;	 /* of the flow hash; random, so that nobody can fill one set on purpose */
	__u32 set_mask;	 /* number of sets of one CPU, minus one; a power of two minus one */
	__u32 ring_mask; /* number of records in one CPU's ring, minus one; likewise */
	__u32 hz;	 /* jiffies in a second */
	__u32 turn;	 /* zero; kept for telling apart two loads of the programs at one hook, see tm_config.quiet */
};

/* Index of the maps of tables; tm_config has which ones are in force. */
enum tm_table_place {
	TM_CONFIRMED = 0,
	TM_TRIAL = 1, /* on probation, until tm_config.until */
};

#define TM_CFG_DROP_MALFORMED 0x01
#define TM_CFG_BANS 0x02	  /* the ban table is not empty */
#define TM_CFG_DROP_UNPARSED 0x08 /* incoming packets that cannot be judged, because no addresses could be read */
#define TM_CFG_ESTABLISHED 0x04	  /* learn from egress, pass replies under a default of drop */

struct tm_config {
	__u32 flags[2]; /* TM_CFG_*, by enum tm_table_place: they go with their tables */
	__u64 seed;	/* of the flow hash; kept for the next daemon, which must find the flows of this one */
	__u64 asked;	/* jiffies64 of the last question to many (TM_CONN_ASKED); the programs' own */
	__u64 until; /* jiffies64: before it the tables and flags on probation are in force, then the confirmed ones */
	__u32 quiet; /* zero; kept for the tm_constants.turn of a load that lets everything pass and counts nothing */
	__u32 pad;
	__u64 pad1[3];
};

/* Written by the clock program, run through BPF_PROG_TEST_RUN: relates jiffies to wall clock time. */
struct tm_clock {
	__u64 jiffies;
	__u64 monotonic_ns;
};

/* A ban: key and value of the LPM trie. Addresses as in tm_key, so an IPv4 /24 is a /120 here. */
struct tm_ban_key {
	__u32 prefixlen;
	__u8 addr[16];
};

struct tm_ban {
	__u64 expires; /* jiffies64; 0: never */
	__u32 verdict;
	__u8 family;   /* 4 or 6: the family of packets that it applies to; 0: both */
	__u8 services; /* the services that it applies to, as an index of tm_ban_services; 0: all */
	__u8 pad[2];
};

/* Sets of services for bans: a bit for each place in the classes (TM_WHAT_*). The first set is not used. */
struct tm_ban_set {
	__u8 bits[TM_WHAT_BYTES / 8];
};
#define TM_BAN_SETS 32u

/* The kinds of a struct tm_conn_key. */
enum tm_conn_kind {
	TM_CONN_PORTS = 0,
	TM_CONN_FRAGMENTS = 1, /* two hosts that use this protocol; no ports */
	TM_CONN_ASKED = 2,     /* a local port that sent a question to a group or to all; no remote address or port */
};

/* A connection that this host opened: key of the shared LRU map, as seen from the side of the reply. */
struct tm_conn_key {
	__u8 remote[16];
	__u8 local[16];
	__be16 remote_port;
	__be16 local_port;
	__u8 proto;
	__u8 kind; /* enum tm_conn_kind */
	__u8 pad[2];
};

/* A source's token bucket. */
struct tm_bucket_key {
	__u8 src[16];
	__u32 rule;
	__u32 pad;
};

struct tm_bucket {
	__u64 spent;	  /* tokens spent, of those that rate_per_s gave since jiffies 0; in 1/hz packet */
	__u32 rate_per_s; /* if a rule has got another rate, the bucket starts again */
	__u32 pad;
};
