/* SPDX-License-Identifier: GPL-3.0-or-later */
/* core/span.h - borrowed bytes: a pointer and a length. Never owns, never NUL-terminated by contract. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct hf_span {
	const uint8_t *ptr;
	size_t len;
};

static inline struct hf_span hf_span(const void *ptr, size_t len)
{
	return (struct hf_span){ .ptr = ptr, .len = len };
}

static inline struct hf_span hf_span_str(const char *s)
{
	return (struct hf_span){ .ptr = (const uint8_t *)s, .len = s ? strlen(s) : 0 };
}

static inline bool hf_span_eq(struct hf_span a, struct hf_span b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

static inline bool hf_span_is(struct hf_span a, const char *s)
{
	return hf_span_eq(a, hf_span_str(s));
}

/* The part from `from` on; empty when from is past the end. */
static inline struct hf_span hf_span_skip(struct hf_span a, size_t from)
{
	return from >= a.len ? hf_span(NULL, 0) : hf_span(a.ptr + from, a.len - from);
}

bool hf_span_starts(struct hf_span a, const char *prefix);
bool hf_span_ieq(struct hf_span a, struct hf_span b);		/* ASCII case-insensitive */
/* Heap copy with a NUL appended; NULL on ENOMEM. Caller frees. */
char *hf_span_dup(struct hf_span a);
/* Splits at the first `sep`: *ret_head gets what is before it, *rest what follows. Without `sep` the
 * whole goes to *ret_head, *rest becomes empty and false is returned. */
bool hf_span_cut(struct hf_span *rest, char sep, struct hf_span *ret_head);
