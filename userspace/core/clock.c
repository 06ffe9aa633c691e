/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/clock.h"
#include "core/util.h"
#include <pthread.h>
#include <sys/timex.h>
#include <time.h>

enum { BOOT_ID_LEN = 36 };

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

bool hf_clock_wall_is_disciplined(void)
{
	struct timex t = { 0 };

	if (is_fake)
		return fake_now.is_disciplined;
	return adjtimex(&t) != TIME_ERROR && !(t.status & STA_UNSYNC);
}

static char boot_id[BOOT_ID_LEN + 1];

static void read_boot_id(void)
{
	hf_autobuf struct hf_buf b = HF_BUF_INIT(16384);

	if (hf_read_file("/proc/sys/kernel/random/boot_id", 64, &b) == 0 && hf_buf_len(&b) >= BOOT_ID_LEN)
		memcpy(boot_id, hf_buf_span(&b).ptr, BOOT_ID_LEN);
}

const char *hf_clock_boot_id(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, read_boot_id);
	return boot_id;
}

void hf_clock_fake(const struct hf_clock_fake *fake)
{
	is_fake = fake != NULL;
	if (fake)
		fake_now = *fake;
}
