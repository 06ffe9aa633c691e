/* SPDX-License-Identifier: GPL-3.0-or-later */
/* core/util.h - scope cleanup, ownership moves, small constant-time and text helpers. Any thread. */
#pragma once
#include "core/buf.h"
#include "core/span.h"
#include <assert.h>
#include <stdlib.h>
#include <unistd.h>

static inline void hf_free_ptr(void *pp)
{
	void *p;
	memcpy(&p, pp, sizeof p);
	free(p);
}
static inline void hf_close_ptr(const int *fd)
{
	if (*fd >= 0)
		close(*fd);
}
#define hf_autofree __attribute__((cleanup(hf_free_ptr)))
#define hf_autoclose __attribute__((cleanup(hf_close_ptr)))
#define hf_autobuf __attribute__((cleanup(hf_buf_fini)))
#define hf_take(p) (__extension__({ __typeof__(p) hf_taken_ = (p); (p) = NULL; hf_taken_; }))
#define HF_ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define hf_min(a, b) ((a) < (b) ? (a) : (b))
#define hf_max(a, b) ((a) > (b) ? (a) : (b))

/* Base64, RFC 4648 section 4. Appends to out; decode refuses anything but canonical text (HF_EINVALID). */
void hf_b64_encode(struct hf_span in, struct hf_buf *out);
int hf_b64_decode(struct hf_span in, struct hf_buf *out);
/* Percent-encoding, RFC 3986: all but unreserved is escaped (upper-case hex). Decode leaves '+' alone and
 * refuses a broken escape with HF_EINVALID. */
void hf_uri_encode(struct hf_span in, struct hf_buf *out);
int hf_uri_decode(struct hf_span in, struct hf_buf *out);
void hf_hex_encode(struct hf_span in, struct hf_buf *out);	/* lower case */
/* Well-formed UTF-8 without U+0000 (MQTT 1.5.3). */
bool hf_utf8_ok(struct hf_span in);
void hf_utf8_repair(char *text);	/* '?' for each byte of characters that were cut */
/* Constant time in the content, for equal lengths. */
bool hf_ct_eq(struct hf_span a, struct hf_span b);
/* Kernel randomness; aborts only if getrandom is impossible. */
void hf_random(void *p, size_t n);
uint64_t hf_random_u64(void);
uint64_t hf_hash64(const void *p, size_t n);	/* seeded SipHash-like: safe for tables a peer can fill */
/* Decimal text to integer, whole span, within [min,max]; HF_EINVALID. */
int hf_parse_i64(struct hf_span in, int64_t min, int64_t max, int64_t *ret_v);
/* ISO 8601 UTC with milliseconds, "2026-01-31T10:00:00.123Z"; out holds at least 32 bytes. */
void hf_iso8601(int64_t wall_ms, char out[32]);
/* The other way: a date with time, fraction (cut to ms) and zone are optional, no zone is UTC. HF_EINVALID. */
int hf_iso8601_parse(struct hf_span in, int64_t *ret_ms);
/* How many characters must be put in, left out or changed to make b of a; for "did you mean". UINT32_MAX when b has over
 * 128 bytes. */
unsigned hf_edit_distance(const char *a, const char *b);
/* Reads a whole regular file of at most cap bytes into out (appends). -errno, HF_ELIMIT. Blocks. */
int hf_read_file(const char *path, size_t cap, struct hf_buf *out);
/* Makes dir with mode 0700 unless it is there and takes the lock DIR/lock until *ret_fd is closed. -EBUSY when another
 * process has it, -errno. */
int hf_lock_dir(const char *dir, int *ret_fd);
