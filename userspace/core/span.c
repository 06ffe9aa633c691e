/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/span.h"
#include <stdlib.h>

static uint8_t lower(uint8_t c)
{
	return c >= 'A' && c <= 'Z' ? (uint8_t)(c + 32) : c;
}

bool hf_span_starts(struct hf_span a, const char *prefix)
{
	size_t n = strlen(prefix);

	return a.len >= n && memcmp(a.ptr, prefix, n) == 0;
}

bool hf_span_ieq(struct hf_span a, struct hf_span b)
{
	if (a.len != b.len)
		return false;
	for (size_t i = 0; i < a.len; i++)
		if (lower(a.ptr[i]) != lower(b.ptr[i]))
			return false;
	return true;
}

char *hf_span_dup(struct hf_span a)
{
	char *s = malloc(a.len + 1);

	if (!s)
		return NULL;
	if (a.len)
		memcpy(s, a.ptr, a.len);
	s[a.len] = 0;
	return s;
}

bool hf_span_cut(struct hf_span *rest, char sep, struct hf_span *ret_head)
{
	const uint8_t *at = rest->len ? memchr(rest->ptr, sep, rest->len) : NULL;

	if (!at) {
		*ret_head = *rest;
		*rest = hf_span(NULL, 0);
		return false;
	}
	size_t n = (size_t)(at - rest->ptr);
	struct hf_span head = hf_span(rest->ptr, n);

	*rest = hf_span(at + 1, rest->len - n - 1);
	*ret_head = head;
	return true;
}
