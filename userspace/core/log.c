/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/log.h"
#include "core/clock.h"
#include "core/util.h"
#include <errno.h>
#include <holdfast/err.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>

static const char *const names[HF_LOG__COUNT] = { "err", "warn", "notice", "info", "debug" };
static const int priorities[HF_LOG__COUNT] = { 3, 4, 5, 6, 7 };	/* syslog */
static atomic_int max_level = HF_LOG_NOTICE;

static __attribute__((format(printf, 4, 0))) void write_line(enum hf_log_level level, const char *event,
							      uint64_t suppressed, const char *fmt, va_list ap)
{
	char line[1200], stamp[32];
	int n, saved = errno;

	if (getenv("JOURNAL_STREAM")) {
		n = snprintf(line, sizeof line, "<%d>%s: ", priorities[level], event);
	} else {
		hf_iso8601(hf_clock_wall_ms(), stamp);
		n = snprintf(line, sizeof line, "%s %-6s %s: ", stamp, names[level], event);
	}
	n += vsnprintf(line + n, sizeof line - (size_t)n, fmt, ap);
	n = hf_min(n, (int)sizeof line - 64);
	if (suppressed)
		n += snprintf(line + n, 48, " (%llu more like it)", (unsigned long long)suppressed);
	for (int i = 0; i < n; i++)	/* peers choose parts of the text: one event stays one line */
		if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
			line[i] = '?';
	line[n++] = '\n';
	if (write(STDERR_FILENO, line, (size_t)n) < 0)
		errno = 0;	/* nowhere left to say it */
	errno = saved;
}

void hf_log(enum hf_log_level level, const char *event, const char *fmt, ...)
{
	va_list ap;

	if ((int)level > atomic_load_explicit(&max_level, memory_order_relaxed))
		return;
	va_start(ap, fmt);
	write_line(level, event, 0, fmt, ap);
	va_end(ap);
}

void hf_log_limited(struct hf_log_limit *limit, enum hf_log_level level, const char *event, const char *fmt, ...)
{
	uint64_t now = hf_clock_mono_ms(), next = __atomic_load_n(&limit->next_ms, __ATOMIC_RELAXED);
	va_list ap;

	if ((int)level > atomic_load_explicit(&max_level, memory_order_relaxed))
		return;
	if (now < next || !__atomic_compare_exchange_n(&limit->next_ms, &next, now + 1000, false, __ATOMIC_RELAXED,
						       __ATOMIC_RELAXED)) {
		__atomic_fetch_add(&limit->suppressed, 1, __ATOMIC_RELAXED);
		return;
	}
	va_start(ap, fmt);
	write_line(level, event, __atomic_exchange_n(&limit->suppressed, 0, __ATOMIC_RELAXED), fmt, ap);
	va_end(ap);
}

void hf_log_set_level(enum hf_log_level level)
{
	atomic_store(&max_level, (int)level);
}

enum hf_log_level hf_log_level(void)
{
	return (enum hf_log_level)atomic_load(&max_level);
}

const char *hf_log_level_name(enum hf_log_level level)
{
	return (unsigned)level < HF_LOG__COUNT ? names[level] : "unknown";
}

int hf_log_level_parse(const char *name, enum hf_log_level *ret_level)
{
	for (int i = 0; i < HF_LOG__COUNT; i++)
		if (strcmp(name, names[i]) == 0) {
			*ret_level = (enum hf_log_level)i;
			return 0;
		}
	return HF_EINVALID;
}
