/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * Records about processes (process.bpf.c), as the daemon reads them (trafficmond/datapath/processes_seen.py).
 */
#pragma once

#include <linux/types.h>

/* bound: sockets whose process is known (`flows.processes`) | the least recent is evicted and counted */
#define TM_PROCESS_SOCKETS 32768
/* bound: endpoints of flows whose process is known (`flows.processes`) | the oldest is evicted and counted */
#define TM_PROCESS_ENDS 32768
/* bound: listening ports whose process is known (`flows.processes`) | the oldest is evicted and counted */
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
