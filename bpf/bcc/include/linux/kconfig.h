/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* bcc includes this before anything else. */
#undef __KERNEL__
#define CONFIG_BPF_SYSCALL 1
#define __LINUX_BPF_H__ /* bcc brings its own copy of linux/bpf.h */
#include <linux/types.h>
#define NULL ((void *)0)
#define offsetof(t, m) __builtin_offsetof(t, m)
typedef __SIZE_TYPE__ size_t;
typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __s8 s8;
typedef __s16 s16;
typedef __s32 s32;
typedef __s64 s64;
typedef unsigned long uintptr_t;
typedef _Bool bool;
enum { false, true };
#define PAGE_SIZE 4096
