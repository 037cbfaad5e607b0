/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * What is read of DNS on the wire: answers over UDP to questions that were sent. Used by the programs in the kernel
 * (dns.bpf.c) and by the reader of answers in the daemon (host_dns.h); the daemon's Python code has no copy.
 */
#pragma once

#include <linux/types.h>

#define TM_DNS_PORT 53
#define TM_DNS_HEADER 12    /* RFC 1035 section 4.1.1 */
#define TM_DNS_ASKED 260    /* of a question: room for a name of 255 octets, type and class */
#define TM_DNS_MESSAGE 2048 /* of an answer; of a longer one only this much is read */
#define TM_DNS_LEAST 17	    /* header, the root's name, type and class */

#define TM_DNS_RESPONSE 0x8000 /* of the second word: QR, operation, TC, rcode */
#define TM_DNS_OPERATION 0x7800
#define TM_DNS_ERROR 0x000f

/* bound: DNS questions that wait for an answer (`flows.dns_names`) | the oldest is evicted and counted */
#define TM_DNS_QUESTIONS 4096
/* bound: bytes of unread DNS answers (`flows.dns_names`) | further answers are lost and counted */
#define TM_DNS_RING 1048576

/* One answer in the ring: the question as it was sent, after the message header, and the answer. */
struct tm_dns_record {
	__u64 at_ns; /* CLOCK_MONOTONIC */
	__u32 asked_bytes;
	__u32 bytes;
	__u8 asked[TM_DNS_ASKED];
	__u8 message[TM_DNS_MESSAGE];
} __attribute__((aligned(8)));

/* Counters of the programs, on each CPU. */
struct tm_dns_counts {
	__u64 answers;
	__u64 unasked; /* nobody here asked, or the question was answered already, or is too old */
	__u64 lost;    /* the ring was full */
};
