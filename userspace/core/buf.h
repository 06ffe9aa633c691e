/* SPDX-License-Identifier: GPL-3.0-or-later */
/* core/buf.h - growing byte buffer with a hard cap and a sticky error.
 *
 * Appends after a failure are no-ops; check buf->err once at the end. Zero-initialised with
 * HF_BUF_INIT(cap). Bytes are live in [start, end); consuming moves `start`, so a buffer also serves
 * as a byte queue. Caller storage; one thread. */
#pragma once
#include "core/span.h"
#include <stdarg.h>

struct hf_buf {
	uint8_t *mem;
	size_t start, end, size; /* live bytes are mem[start..end) */
	size_t cap;		 /* hard bound on end - start; 0 = HF_BUF_CAP_DEFAULT */
	int err;		 /* first error: -ENOMEM or HF_ELIMIT */
};
#define HF_BUF_CAP_DEFAULT ((size_t)1 << 20)
#define HF_BUF_INIT(cap_) ((struct hf_buf){ .cap = (cap_) })

void hf_buf_fini(struct hf_buf *b);			/* frees, leaves an empty usable buffer */
void hf_buf_wipe(struct hf_buf *b);			/* explicit_bzero, then fini: for secrets */
void hf_buf_reset(struct hf_buf *b);			/* len 0, err 0, memory kept */
void hf_buf_shrink(struct hf_buf *b);			/* frees the memory if the buffer is empty */
/* Room for n more bytes; returns where to write (commit with hf_buf_grow), NULL and sticky err on failure. */
uint8_t *hf_buf_reserve(struct hf_buf *b, size_t n);
void hf_buf_grow(struct hf_buf *b, size_t n);
void hf_buf_put(struct hf_buf *b, const void *p, size_t n);
void hf_buf_put_span(struct hf_buf *b, struct hf_span s);
void hf_buf_puts(struct hf_buf *b, const char *s);
void hf_buf_putc(struct hf_buf *b, char c);
void hf_buf_u8(struct hf_buf *b, uint8_t v);
void hf_buf_be16(struct hf_buf *b, uint16_t v);
void hf_buf_be32(struct hf_buf *b, uint32_t v);
void hf_buf_le32(struct hf_buf *b, uint32_t v);
void hf_buf_le64(struct hf_buf *b, uint64_t v);
void hf_buf_printf(struct hf_buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void hf_buf_consume(struct hf_buf *b, size_t n);	/* drops n bytes from the front */
static inline size_t hf_buf_len(const struct hf_buf *b) { return b->end - b->start; }
static inline struct hf_span hf_buf_span(const struct hf_buf *b)
{
	return hf_span(b->mem ? b->mem + b->start : NULL, b->end - b->start);
}
/* NUL-terminated view (the NUL is not counted); "" when empty or failed. Borrowed until the next call. */
const char *hf_buf_cstr(struct hf_buf *b);

/* Reading cursor with a sticky error (HF_EPROTO on running past the end). */
struct hf_cur {
	struct hf_span in;
	int err;
};
static inline struct hf_cur hf_cur(struct hf_span in) { return (struct hf_cur){ .in = in }; }
uint8_t hf_cur_u8(struct hf_cur *c);
uint16_t hf_cur_be16(struct hf_cur *c);
uint32_t hf_cur_be32(struct hf_cur *c);
uint64_t hf_cur_be64(struct hf_cur *c);
uint32_t hf_cur_le32(struct hf_cur *c);
uint64_t hf_cur_le64(struct hf_cur *c);
struct hf_span hf_cur_take(struct hf_cur *c, size_t n);
