/* The walk of bpf/table.h over a table in memory: what is compiled here is what judges packets in the kernel. */
#include <string.h>

#define TM_MAPS_H
#include "parse.h"

#undef __always_inline
#define __always_inline inline __attribute__((always_inline))
#define TM_SUBFN static __attribute__((unused))
#define TM_REF(m) ((void *)#m)

struct limit {
	__u32 rate_per_s;
	__u32 burst_packets;
};

static struct tm_packet packet;
static struct tm_shadow shadow;
static const struct tm_page *pages;
static __u32 page_count;

/* The table's pages by number; every other map is the CPU's packet, where the walk finds a service and leaves a rate.
 */
static void *bpf_map_lookup_elem(void *map, const __u32 *key)
{
	if (map != pages)
		return strcmp(map, "tm_shadow") ? (void *)&packet : &shadow;
	return *key < page_count ? (void *)&pages[*key] : 0;
}

#include "table.h"

/* Verdict word, rate and burst of `count` addresses and services at `now`; `which` is the root: 2 * egress + is IPv6.
 */
void judge(const struct tm_page *table, __u32 size, __u32 which, const __u64 *hi, const __u64 *lo, const __u32 *what,
	   __u64 now, __u32 count, __u32 *verdict, struct limit *limit)
{
	pages = table;
	page_count = size;
	for (__u32 i = 0; i < count; i++) {
		__u32 leaf;

		packet = (struct tm_packet){.what = what[i]};
		leaf = tm_walk((void *)table, which, hi[i], 0, TM_STEPS_SMALL, 1, what[i]); /* as tm_decide_small() */
		if (leaf & TM_LEAF_RECORD)
			leaf = tm_walk((void *)table, which, hi[i], lo[i], TM_STEPS, 0, what[i]);
		verdict[i] = tm_settle((void *)table, leaf, now);
		limit[i] = (struct limit){packet.rate_per_s, packet.burst_packets};
	}
}
