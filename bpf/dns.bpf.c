/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * Records DNS questions that are sent, and passes their answers to the daemon, for names (flows.dns_names). Two small
 * programs separate from the data path: loaded and attached only if the setting is on. They let every packet pass and
 * examine only UDP from and to port 53. An answer counts if it has the number, ports and addresses of a question that
 * was sent within seconds, and only the first one: other packets cost a look-up.
 */
#ifndef TM_BCC
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
char _license[] SEC("license") = "Dual MIT/GPL";
#endif
#include "dialect.h"
#include "dns.h"
#include "ends.h"

#define TM_DNS_PATIENCE_NS 10000000000ull

/* The key of a question; IPv4 addresses v4-mapped. */
struct tm_dns_key {
	__u8 client[16];
	__u8 server[16];
	__be16 port;
	__be16 number;
	__u32 pad;
};

struct tm_dns_question {
	__u64 at_ns;
	__u32 bytes;
	__u32 pad;
	__u8 asked[TM_DNS_ASKED + 4];
};

TM_MAP(tm_dns_questions, "lru_hash", LRU_HASH, struct tm_dns_key, struct tm_dns_question, TM_DNS_QUESTIONS, 0)
TM_MAP(tm_dns_asking, "percpu_array", PERCPU_ARRAY, __u32, struct tm_dns_question, 1, 0)
TM_MAP(tm_dns_record, "percpu_array", PERCPU_ARRAY, __u32, struct tm_dns_record, 1, 0)
TM_MAP(tm_dns_counts, "percpu_array", PERCPU_ARRAY, __u32, struct tm_dns_counts, 1, 0)
TM_RING(tm_dns_ring, TM_DNS_RING)

struct tm_dns_packet {
	struct tm_dns_key key;
	__u32 at;    /* of the message, from the IP header on */
	__u32 bytes; /* of the message */
	__u16 flags;
};

/* UDP header and message header. */
struct tm_dns_heads {
	__be16 sport, dport, length, sum;
	__be16 number, flags, questions, answers, authorities, additional;
};

/* Whether a length is within bounds. If the compiler combined the comparisons, the verifier would learn nothing. */
#define tm_hidden(x) __asm__ __volatile__("" : "+r"(x))
#define TM_WITHIN(length, least, most)                                                                                 \
	({                                                                                                             \
		int within_ = 0;                                                                                       \
		tm_hidden(length);                                                                                     \
		if (length <= (most)) {                                                                                \
			tm_hidden(length);                                                                             \
			within_ = length >= (least);                                                                   \
		}                                                                                                      \
		within_;                                                                                               \
	})

/* Whether the packet is a DNS message with one question: an incoming answer, or an outgoing question. */
static __always_inline int tm_dns_read(struct __sk_buff *skb, struct tm_dns_packet *p, int answer)
{
	struct tm_dns_heads heads;
	__u8 *src = answer ? p->key.server : p->key.client, *dst = answer ? p->key.client : p->key.server;
	__u32 length;

	if (!tm_ends_read(skb, TM_PROTO_UDP, src, dst, &p->at) || TM_LOAD(skb, p->at, &heads, sizeof(heads)))
		return 0;
	if ((answer ? heads.sport : heads.dport) != tm_htons(TM_DNS_PORT))
		return 0;
	p->flags = tm_htons(heads.flags);
	length = tm_htons(heads.length);
	if (heads.questions != tm_htons(1) || p->flags & TM_DNS_OPERATION ||
	    (p->flags & TM_DNS_RESPONSE ? !answer : answer) || length < 8 + TM_DNS_LEAST)
		return 0;
	p->key.port = answer ? heads.dport : heads.sport;
	p->key.number = heads.number;
	p->at += 8;
	p->bytes = length - 8;
	return 1;
}

TM_PROG("tc")
int tm_dns_question(struct __sk_buff *skb)
{
	struct tm_dns_packet p = {};
	struct tm_dns_question *q;
	__u32 zero = 0;
	__u64 bytes;

	if (!tm_dns_read(skb, &p, 0))
		return TM_NEXT;
	q = bpf_map_lookup_elem(TM_REF(tm_dns_asking), &zero);
	if (!q)
		return TM_NEXT;
	bytes = p.bytes - TM_DNS_HEADER;
	if (bytes > TM_DNS_ASKED)
		bytes = TM_DNS_ASKED;
	if (!TM_WITHIN(bytes, TM_DNS_LEAST - TM_DNS_HEADER, TM_DNS_ASKED) ||
	    TM_LOAD(skb, p.at + TM_DNS_HEADER, q->asked, bytes))
		return TM_NEXT;
	q->at_ns = bpf_ktime_get_ns();
	q->bytes = bytes;
	bpf_map_update_elem(TM_REF(tm_dns_questions), &p.key, q, BPF_ANY);
	return TM_NEXT;
}

TM_PROG("tc")
int tm_dns_answer(struct __sk_buff *skb)
{
	struct tm_dns_packet p = {};
	struct tm_dns_question *q;
	struct tm_dns_record *r;
	struct tm_dns_counts *counts;
	__u32 zero = 0;
	__u64 bytes, now;

	if (!tm_dns_read(skb, &p, 1))
		return TM_NEXT;
	r = bpf_map_lookup_elem(TM_REF(tm_dns_record), &zero);
	counts = bpf_map_lookup_elem(TM_REF(tm_dns_counts), &zero);
	q = bpf_map_lookup_elem(TM_REF(tm_dns_questions), &p.key);
	if (!r || !counts)
		return TM_NEXT;
	now = bpf_ktime_get_ns();
	counts->answers++;
	if (!q || now - q->at_ns > TM_DNS_PATIENCE_NS) {
		counts->unasked++;
		return TM_NEXT;
	}
	r->at_ns = now;
	r->asked_bytes = q->bytes;
	__builtin_memcpy(r->asked, q->asked, TM_DNS_ASKED);
	bpf_map_delete_elem(TM_REF(tm_dns_questions), &p.key);
	bytes = p.bytes;
	if (bytes > TM_DNS_MESSAGE)
		bytes = TM_DNS_MESSAGE;
	if (!TM_WITHIN(bytes, TM_DNS_LEAST, TM_DNS_MESSAGE) || TM_LOAD(skb, p.at, r->message, bytes))
		return TM_NEXT;
	r->bytes = bytes;
	if (bpf_ringbuf_output(TM_REF(tm_dns_ring), r, __builtin_offsetof(struct tm_dns_record, message) + bytes,
			       BPF_RB_NO_WAKEUP))
		counts->lost++;
	return TM_NEXT;
}
