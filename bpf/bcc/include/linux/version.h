/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
#define LINUX_VERSION_CODE 0x050a00 /* the oldest kernel that is supported */
#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + (c))
