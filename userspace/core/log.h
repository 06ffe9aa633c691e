/* SPDX-License-Identifier: GPL-3.0-or-later */
/* core/log.h - one call = one event: level, event name ("upstream.connect.fail"), message.
 *
 * Goes to stderr, one line: "<syslog-priority>" prefix when stderr is a journal stream, else a time
 * stamp. Any thread; never blocks on anything but the write itself. Never pass payloads, keys, tokens. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

enum hf_log_level { HF_LOG_ERR, HF_LOG_WARN, HF_LOG_NOTICE, HF_LOG_INFO, HF_LOG_DEBUG, HF_LOG__COUNT };

void hf_log(enum hf_log_level level, const char *event, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void hf_log_set_level(enum hf_log_level level);
enum hf_log_level hf_log_level(void);
int hf_log_level_parse(const char *name, enum hf_log_level *ret_level);	/* HF_EINVALID */
const char *hf_log_level_name(enum hf_log_level level);

/* Rate-limited logging by key: at most one line a second per static site; the next line that passes
 * says how many were suppressed. Use for everything that a peer can trigger. */
struct hf_log_limit {
	uint64_t next_ms;	/* atomic access inside */
	uint64_t suppressed;
};
void hf_log_limited(struct hf_log_limit *limit, enum hf_log_level level, const char *event,
		    const char *fmt, ...) __attribute__((format(printf, 4, 5)));
