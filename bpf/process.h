/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * What is noted of processes (process.bpf.c), as the daemon reads it (trafficmond/datapath/processes_seen.py).
 */
#ifndef TM_PROCESS_H
#define TM_PROCESS_H

#include <linux/types.h>

/* bound: sockets whose process is known (`flows.processes`) | the least recent is evicted and counted */
#define TM_PROCESS_SOCKETS 32768
/* bound: endpoints of flows whose process is known (`flows.processes`) | the oldest is evicted and counted */
#define TM_PROCESS_ENDS 32768
/* bound: listening ports whose process is known (`flows.processes`) | the oldest is evicted and counted */
#define TM_PROCESS_WAITING 8192

/*
 * Where a process is found: of a connection that it opens both ends; of datagrams and of what waits the local end
 * alone, its address zero where that is every one. IPv4 addresses v4-mapped, ports in the order of this host.
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

/* What the programs have counted, on each CPU. */
struct tm_process_counts {
	__u64 noted; /* ends */
	__u64 lost;  /* notes that the kernel had no room for */
};

#endif
