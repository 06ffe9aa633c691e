/* SPDX-License-Identifier: GPL-3.0-or-later */
/* gw/subs.c - filter sets (iothub-protocol 1.12, edgehub-behaviour 2.3.3 and 2.8). */
#include "gw/subs.h"
#include "mqtt/mqtt_codec.h"
#include <errno.h>
#include <holdfast/err.h>
#include <stdlib.h>

enum { VERSION = 1, HEAD = 2, ENTRY_HEAD = 3, LEN_MAX = 16 * 1024 };

static struct hf_subs *subs_new(struct hf_span data)
{
	struct hf_subs *s = malloc(sizeof *s + data.len);

	if (!s)
		return NULL;
	s->len = (uint32_t)data.len;
	memcpy(s->data, data.ptr, data.len);
	return s;
}

struct hf_subs *hf_subs_dup(const struct hf_subs *s)
{
	return s ? subs_new(hf_span(s->data, s->len)) : NULL;
}

bool hf_subs_equal(const struct hf_subs *a, const struct hf_subs *b)
{
	if (!a || !b)
		return a == b;
	return hf_span_eq(hf_span(a->data, a->len), hf_span(b->data, b->len));
}

bool hf_subs_next(const struct hf_subs *s, size_t *pos, struct hf_span *ret_filter, uint8_t *ret_qos)
{
	size_t at = *pos ? *pos : HEAD, n;

	if (!s || s->len < at + ENTRY_HEAD)
		return false;
	n = s->data[at + 1] | (size_t)s->data[at + 2] << 8;
	if (s->len - at - ENTRY_HEAD < n)
		return false;
	*ret_qos = s->data[at];
	*ret_filter = hf_span(s->data + at + ENTRY_HEAD, n);
	*pos = at + ENTRY_HEAD + n;
	return true;
}

struct hf_subs *hf_subs_parse(struct hf_span stored)
{
	struct hf_subs *s;
	struct hf_span filter;
	size_t pos = 0;
	unsigned n = 0;
	uint8_t qos;
	bool ok = true;

	if (stored.len < HEAD || stored.len > LEN_MAX || stored.ptr[0] != VERSION || stored.ptr[1] > HF_SUBS_MAX)
		return NULL;
	s = subs_new(stored);
	if (!s)
		return NULL;
	while (hf_subs_next(s, &pos, &filter, &qos)) {
		ok = ok && qos <= 1 && hf_mqtt_filter_ok(filter);
		n++;
	}
	if (!ok || n != s->data[1] || (pos ? pos : HEAD) != s->len) {
		free(s);
		return NULL;
	}
	return s;
}

static void put_entry(struct hf_buf *b, struct hf_span filter, uint8_t qos)
{
	hf_buf_u8(b, qos);
	hf_buf_u8(b, (uint8_t)filter.len);
	hf_buf_u8(b, (uint8_t)(filter.len >> 8));
	hf_buf_put_span(b, filter);
}

int hf_subs_with(const struct hf_subs *base, struct hf_span filter, int qos, struct hf_subs **ret_subs)
{
	struct hf_buf b = HF_BUF_INIT(LEN_MAX);
	struct hf_span f;
	struct hf_subs *s = NULL;
	size_t pos = 0;
	uint8_t q, n = 0;
	bool placed = false;
	int err;

	hf_buf_u8(&b, VERSION);
	hf_buf_u8(&b, 0);
	while (hf_subs_next(base, &pos, &f, &q)) {
		if (hf_span_eq(f, filter)) {
			if (qos < 0 || placed)
				continue;
			q = (uint8_t)qos;	/* keeps its place, so an equal set is an equal block */
			placed = true;
		}
		put_entry(&b, f, q);
		n++;
	}
	if (qos >= 0 && !placed) {
		put_entry(&b, filter, (uint8_t)qos);
		n++;
	}
	err = b.err == HF_ELIMIT || n > HF_SUBS_MAX ? HF_EFULL : b.err;
	if (!err) {
		b.mem[b.start + 1] = n;
		s = subs_new(hf_buf_span(&b));
		err = s ? 0 : -ENOMEM;
	}
	hf_buf_fini(&b);
	if (!err)
		*ret_subs = s;
	return err;
}

int hf_subs_match(const struct hf_subs *s, struct hf_span topic)
{
	struct hf_span f;
	size_t pos = 0;
	uint8_t q;
	int best = -1;

	while (hf_subs_next(s, &pos, &f, &q))
		if (q > best && hf_mqtt_match(f, topic))
			best = q;
	return best;
}
