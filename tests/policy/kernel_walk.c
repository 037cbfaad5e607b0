/* bpf/table.h as it runs in the kernel, over a table in memory: what is compiled for the tests is what judges packets. */
#define TM_MAPS_H
#include "abi.h"

#undef __always_inline
#define __always_inline inline __attribute__((always_inline))
#define TM_SUBFN static
#define TM_REF(m) ((void *)&m)

struct tm_packet {
	__u32 rate_per_s;
	__u32 burst_packets;
};

static struct tm_packet tm_scratch;
static const struct tm_page *tm_table;
static __u32 pages;

static void *bpf_map_lookup_elem(void *map, const __u32 *key)
{
	if (map == &tm_scratch)
		return &tm_scratch;
	if (map == &tm_table)
		return (void *)tm_table;
	return *key < pages ? (void *)&tm_table[*key] : 0;
}

#include "table.h"

/* Verdict word, rate and burst of `count` addresses at `now`; `which` as in tm_decide. */
void judge(const struct tm_page *table, __u32 size, __u32 which, const __u64 *hi, const __u64 *lo, __u64 now,
	   __u32 count, __u32 *verdict, struct tm_packet *limit)
{
	tm_table = table;
	pages = size;
	for (__u32 i = 0; i < count; i++) {
		tm_scratch = (struct tm_packet){};
		verdict[i] = tm_decide(which, hi[i], lo[i], now);
		limit[i] = tm_scratch;
	}
}
