/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/clock.h"
#include <stdbool.h>
#include <time.h>

static struct hf_clock_fake fake_now;	/* unit tests only */
static bool is_fake;

static uint64_t read_ns(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t hf_clock_mono_ns(void)
{
	return is_fake ? fake_now.mono_ms * 1000000u : read_ns(CLOCK_MONOTONIC);
}

uint64_t hf_clock_mono_ms(void)
{
	return hf_clock_mono_ns() / 1000000u;
}

uint64_t hf_clock_boot_ms(void)
{
	return is_fake ? fake_now.boot_ms : read_ns(CLOCK_BOOTTIME) / 1000000u;
}

int64_t hf_clock_wall_ms(void)
{
	return is_fake ? fake_now.wall_ms : (int64_t)(read_ns(CLOCK_REALTIME) / 1000000u);
}

int64_t hf_clock_wall_s(void)
{
	return hf_clock_wall_ms() / 1000;
}

void hf_clock_fake(const struct hf_clock_fake *fake)
{
	is_fake = fake != NULL;
	if (fake)
		fake_now = *fake;
}
