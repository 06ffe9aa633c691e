/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Readers of the spool: short read transactions, any thread but the writer. */
#include "core/clock.h"
#include "core/log.h"
#include "core/util.h"
#include "store/store_int.h"
#include <errno.h>
#include <holdfast/err.h>

#define READ_BYTES (1u << 20)
#define READ_MS 20

static int read_parts(struct hf_txn *txn, struct hf_span key, struct hf_buf *out)
{
	uint8_t part_key[HF_KEY_LEN + 2];
	struct hf_span value;

	memcpy(part_key, key.ptr, HF_KEY_LEN);
	for (uint16_t part = 0;; part++) {
		part_key[HF_KEY_LEN] = (uint8_t)(part >> 8);
		part_key[HF_KEY_LEN + 1] = (uint8_t)part;
		int r = hf_txn_get(txn, HF_T_BODY, hf_span(part_key, sizeof part_key), &value);

		if (r == HF_ENOTFOUND)
			return out->err;
		if (r != 0)
			return r;
		hf_buf_put_span(out, value);
	}
}

/* Copies one record out. HF_ECORRUPT: skip it. */
static int copy_record(struct hf_store *s, struct hf_txn *txn, struct hf_span key, const struct hf_header *h,
		       struct hf_span data, struct hf_msg **ret_msg)
{
	hf_autobuf struct hf_buf parts = HF_BUF_INIT(2 * HF_MSG_MAX_SIZE);
	const char *name = hf_store_child_name(s, h->child);
	int r;

	if (h->parted) {
		r = read_parts(txn, key, &parts);
		if (r != 0)
			return r;
		data = hf_buf_span(&parts);
	}
	if (!name || h->props_len > data.len)
		return HF_ECORRUPT;
	*ret_msg = hf_msg_create(hf_span_str(name), hf_span(data.ptr, h->props_len), hf_span_skip(data, h->props_len),
				 h->msg_flags);
	return *ret_msg ? 0 : -ENOMEM;
}

int hf_store_read(struct hf_store *s, uint8_t cls, uint64_t from, uint64_t to, unsigned max,
		  const struct hf_store_reader *reader, uint64_t *ret_next)
{
	uint64_t deadline = hf_clock_mono_ms() + READ_MS, seq, next = to;
	struct hf_span key, value, rest;
	uint8_t from_key[HF_KEY_LEN], c;
	struct hf_cursor *cur;
	struct hf_txn *txn;
	size_t bytes = 0;
	uint32_t target;
	unsigned n = 0, scanned = 0;
	int r = hf_txn_begin(s->spool, false, &txn);

	if (r != 0)
		return r;
	r = hf_cursor_open(txn, HF_T_QUEUE, &cur);
	if (r != 0)
		goto out;
	hf_key_put(from_key, HF_TARGET_UPSTREAM, cls, from);
	for (r = hf_cursor_seek(cur, hf_span(from_key, sizeof from_key), &key, &value); r == 0;
	     r = hf_cursor_next(cur, &key, &value)) {
		struct hf_record rec = { 0 };
		struct hf_header h;

		if (!hf_key_get(key, &target, &c, &seq) || target != HF_TARGET_UPSTREAM || c != cls || seq >= to)
			break;
		if (n == max || bytes > READ_BYTES || ((++scanned & 63) == 0 && hf_clock_mono_ms() > deadline)) {
			next = seq;
			break;
		}
		if (hf_header_get(value, &h, &rest) != 0 ||
		    (reader->want && !reader->want(reader->arg, h.child, seq)))
			continue;
		r = copy_record(s, txn, key, &h, rest, &rec.msg);
		if (r == HF_ECORRUPT) {
			static struct hf_log_limit limit;

			hf_log_limited(&limit, HF_LOG_ERR, "store.corrupt", "record %llu cannot be read",
				       (unsigned long long)seq);
			continue;
		}
		if (r != 0)
			break;
		rec.seq = seq;
		rec.expiry_ms = h.expiry_ms;
		rec.accepted_ms = h.accepted_ms;
		rec.child = h.child;
		rec.cls = cls;
		bytes += (size_t)rec.msg->props_len + rec.msg->body_len;
		n++;
		reader->fn(reader->arg, &rec);
	}
	hf_cursor_close(&cur);
out:
	hf_txn_abort(&txn);
	if (r != 0 && r != HF_ENOTFOUND)
		return r;
	*ret_next = next;
	return 0;
}


static int backlog_blocks(struct hf_txn *txn,
			  void (*fn)(void *arg, uint32_t child, uint8_t cls, uint64_t block, uint32_t n, uint64_t bytes),
			  void *arg)
{
	struct hf_span key, value;
	struct hf_cursor *cur;
	int r = hf_cursor_open(txn, HF_T_BLOCKS, &cur);

	if (r != 0)
		return r;
	for (r = hf_cursor_seek(cur, hf_span(NULL, 0), &key, &value); r == 0; r = hf_cursor_next(cur, &key, &value)) {
		struct hf_cur c = hf_cur(value);
		uint32_t target;
		uint8_t cls;
		uint64_t no;

		if (!hf_key_get(key, &target, &cls, &no))
			continue;
		hf_cur_le64(&c);
		while (c.in.len && !c.err) {
			uint32_t child = hf_cur_le32(&c), n = hf_cur_le32(&c), bytes = hf_cur_le32(&c);

			if (!c.err)
				fn(arg, child, cls, no, n, bytes);
		}
	}
	hf_cursor_close(&cur);
	return r == HF_ENOTFOUND ? 0 : r;
}

static int backlog_tail(struct hf_txn *txn, uint64_t next_seq,
			void (*fn)(void *arg, uint32_t child, uint8_t cls, uint64_t block, uint32_t n, uint64_t bytes),
			void *arg)
{
	uint64_t block = next_seq / HF_STORE_BLOCK, seq;
	uint8_t from[HF_KEY_LEN], cls;
	struct hf_span key, value, rest;
	struct hf_cursor *cur;
	struct hf_header h;
	uint32_t target;
	int r = hf_cursor_open(txn, HF_T_QUEUE, &cur);

	if (r != 0)
		return r;
	hf_key_put(from, HF_TARGET_UPSTREAM, HF_CLASS_DEFAULT, block * HF_STORE_BLOCK);
	for (r = hf_cursor_seek(cur, hf_span(from, sizeof from), &key, &value); r == 0;
	     r = hf_cursor_next(cur, &key, &value))
		if (hf_key_get(key, &target, &cls, &seq) && hf_header_get(value, &h, &rest) == 0)
			fn(arg, h.child, cls, seq / HF_STORE_BLOCK, 1, rest.len);
	hf_cursor_close(&cur);
	return r == HF_ENOTFOUND ? 0 : r;
}

int hf_store_backlog(struct hf_store *s,
		     void (*fn)(void *arg, uint32_t child, uint8_t cls, uint64_t block, uint32_t n, uint64_t bytes), void *arg,
		     uint64_t *ret_end)
{
	struct hf_txn *txn;
	struct hf_span v;
	uint64_t end = 1;
	int r = hf_txn_begin(s->spool, false, &txn);

	if (r != 0)
		return r;
	if (hf_txn_get(txn, HF_T_META, hf_span_str("next_seq"), &v) == 0) {
		struct hf_cur c = hf_cur(v);

		end = hf_cur_le64(&c);
	}
	r = backlog_blocks(txn, fn, arg);
	if (r == 0)
		r = backlog_tail(txn, end, fn, arg);
	hf_txn_abort(&txn);
	if (r == 0)
		*ret_end = end;
	return r;
}

int hf_store_ledger(struct hf_store *s, void (*fn)(void *arg, const char *child, const struct hf_ledger *row), void *arg)
{
	struct hf_span key, value;
	struct hf_cursor *cur;
	struct hf_txn *txn;
	int r = hf_txn_begin(s->spool, false, &txn);

	if (r != 0)
		return r;
	r = hf_cursor_open(txn, HF_T_LEDGER, &cur);
	if (r != 0) {
		hf_txn_abort(&txn);
		return r;
	}
	for (r = hf_cursor_seek(cur, hf_span(NULL, 0), &key, &value); r == 0; r = hf_cursor_next(cur, &key, &value)) {
		struct hf_cur k = hf_cur(key);
		const char *name = hf_store_child_name(s, hf_cur_be32(&k));
		struct hf_ledger l;

		if (name && hf_ledger_get(value, &l) == 0)
			fn(arg, name, &l);
	}
	hf_cursor_close(&cur);
	hf_txn_abort(&txn);
	return r == HF_ENOTFOUND ? 0 : r;
}
