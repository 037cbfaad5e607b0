/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* Empty: see linux/kconfig.h. */
