/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/buf.h"
#include <errno.h>
#include <holdfast/err.h>
#include <stdio.h>
#include <stdlib.h>

void hf_buf_fini(struct hf_buf *b)
{
	free(b->mem);
	*b = HF_BUF_INIT(b->cap);
}

void hf_buf_wipe(struct hf_buf *b)
{
	if (b->mem)
		explicit_bzero(b->mem, b->size);
	hf_buf_fini(b);
}

void hf_buf_reset(struct hf_buf *b)
{
	b->start = b->end = 0;
	b->err = 0;
}

void hf_buf_shrink(struct hf_buf *b)
{
	if (b->start == b->end && !b->err)
		hf_buf_fini(b);
}

/* Moves the live bytes to the front or to a larger block, so that n more fit. */
static int make_room(struct hf_buf *b, size_t n)
{
	size_t len = b->end - b->start, cap = b->cap ? b->cap : HF_BUF_CAP_DEFAULT, size;
	uint8_t *mem;

	if (n > cap || len > cap - n)
		return HF_ELIMIT;
	if (b->size - len >= n && b->start >= len) {
		if (len)
			memcpy(b->mem, b->mem + b->start, len);
		b->start = 0;
		b->end = len;
		return 0;
	}
	size = b->size ? b->size : 64;
	while (size < len + n)
		size *= 2;
	mem = malloc(size);
	if (!mem)
		return -ENOMEM;
	if (len)
		memcpy(mem, b->mem + b->start, len);
	free(b->mem);
	b->mem = mem;
	b->size = size;
	b->start = 0;
	b->end = len;
	return 0;
}

uint8_t *hf_buf_reserve(struct hf_buf *b, size_t n)
{
	if (b->err)
		return NULL;
	size_t cap = b->cap ? b->cap : HF_BUF_CAP_DEFAULT;
	if (b->size - b->end < n || b->end - b->start + n > cap) {
		b->err = make_room(b, n);
		if (b->err)
			return NULL;
	}
	return b->mem + b->end;
}

void hf_buf_grow(struct hf_buf *b, size_t n)
{
	b->end += n;
}

void hf_buf_put(struct hf_buf *b, const void *p, size_t n)
{
	uint8_t *to = n ? hf_buf_reserve(b, n) : NULL;

	if (to) {
		memcpy(to, p, n);
		b->end += n;
	}
}

void hf_buf_put_span(struct hf_buf *b, struct hf_span s)
{
	hf_buf_put(b, s.ptr, s.len);
}

void hf_buf_puts(struct hf_buf *b, const char *s)
{
	hf_buf_put(b, s, strlen(s));
}

void hf_buf_putc(struct hf_buf *b, char c)
{
	hf_buf_put(b, &c, 1);
}

void hf_buf_u8(struct hf_buf *b, uint8_t v)
{
	hf_buf_put(b, &v, 1);
}

static void put_be(struct hf_buf *b, uint64_t v, unsigned n)
{
	uint8_t bytes[8];

	for (unsigned i = 0; i < n; i++)
		bytes[i] = (uint8_t)(v >> (8 * (n - 1 - i)));
	hf_buf_put(b, bytes, n);
}

static void put_le(struct hf_buf *b, uint64_t v, unsigned n)
{
	uint8_t bytes[8];

	for (unsigned i = 0; i < n; i++)
		bytes[i] = (uint8_t)(v >> (8 * i));
	hf_buf_put(b, bytes, n);
}

void hf_buf_be16(struct hf_buf *b, uint16_t v) { put_be(b, v, 2); }
void hf_buf_be32(struct hf_buf *b, uint32_t v) { put_be(b, v, 4); }
void hf_buf_le32(struct hf_buf *b, uint32_t v) { put_le(b, v, 4); }
void hf_buf_le64(struct hf_buf *b, uint64_t v) { put_le(b, v, 8); }

void hf_buf_printf(struct hf_buf *b, const char *fmt, ...)
{
	va_list ap, again;
	int n;

	if (b->err)
		return;
	va_start(ap, fmt);
	va_copy(again, ap);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n >= 0) {
		uint8_t *to = hf_buf_reserve(b, (size_t)n + 1);

		if (to) {
			vsnprintf((char *)to, (size_t)n + 1, fmt, again);
			b->end += (size_t)n;
		}
	}
	va_end(again);
}

void hf_buf_consume(struct hf_buf *b, size_t n)
{
	size_t len = b->end - b->start;

	b->start += n < len ? n : len;
	if (b->start == b->end)
		b->start = b->end = 0;
}

const char *hf_buf_cstr(struct hf_buf *b)
{
	uint8_t *to;

	if (b->err)
		return "";
	to = hf_buf_reserve(b, 1);
	if (!to) {
		b->err = 0;	/* the bytes are whole, only this view failed */
		return "";
	}
	*to = 0;
	return (const char *)b->mem + b->start;
}

struct hf_span hf_cur_take(struct hf_cur *c, size_t n)
{
	struct hf_span out;

	if (c->err || n > c->in.len) {
		c->err = c->err ? c->err : HF_EPROTO;
		return hf_span(NULL, 0);
	}
	out = hf_span(c->in.ptr, n);
	c->in = hf_span_skip(c->in, n);
	return out;
}

static uint64_t take_be(struct hf_cur *c, unsigned n)
{
	struct hf_span s = hf_cur_take(c, n);
	uint64_t v = 0;

	for (size_t i = 0; i < s.len; i++)
		v = v << 8 | s.ptr[i];
	return v;
}

static uint64_t take_le(struct hf_cur *c, unsigned n)
{
	struct hf_span s = hf_cur_take(c, n);
	uint64_t v = 0;

	for (size_t i = 0; i < s.len; i++)
		v |= (uint64_t)s.ptr[i] << (8 * i);
	return v;
}

uint8_t hf_cur_u8(struct hf_cur *c) { return (uint8_t)take_be(c, 1); }
uint16_t hf_cur_be16(struct hf_cur *c) { return (uint16_t)take_be(c, 2); }
uint32_t hf_cur_be32(struct hf_cur *c) { return (uint32_t)take_be(c, 4); }
uint64_t hf_cur_be64(struct hf_cur *c) { return take_be(c, 8); }
uint32_t hf_cur_le32(struct hf_cur *c) { return (uint32_t)take_le(c, 4); }
uint64_t hf_cur_le64(struct hf_cur *c) { return take_le(c, 8); }
