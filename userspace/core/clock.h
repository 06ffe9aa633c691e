/* SPDX-License-Identifier: GPL-3.0-or-later */
/* core/clock.h - the only way to read time. Tests replace the sources with hf_clock_fake(). Any thread. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

uint64_t hf_clock_mono_ms(void);	/* CLOCK_MONOTONIC: intervals, time-outs */
uint64_t hf_clock_mono_ns(void);
uint64_t hf_clock_boot_ms(void);	/* CLOCK_BOOTTIME: counts suspended time; store time */
int64_t hf_clock_wall_s(void);		/* CLOCK_REALTIME seconds: tokens, certificates only */
int64_t hf_clock_wall_ms(void);
bool hf_clock_wall_is_disciplined(void);	/* the kernel says that something (NTP, PTP) keeps the wall clock right */
const char *hf_clock_boot_id(void);	/* 36 characters, constant while the machine runs; "" when unknown */
/* Fixes all clocks to the given values until called with NULL. Unit tests only. */
struct hf_clock_fake {
	uint64_t mono_ms, boot_ms;
	int64_t wall_ms;
	bool is_disciplined;
};
void hf_clock_fake(const struct hf_clock_fake *fake);
