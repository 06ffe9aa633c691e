/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Blocks of 8 192 sequence numbers: sealing, expiry sweep, eviction of the oldest. */
#include "core/util.h"
#include "store/store_int.h"
#include <errno.h>
#include <holdfast/err.h>

/* value: u64 min expiry, then per child u32 id, u32 count, u32 bytes. Counts are upper bounds: removals do not
 * rewrite the row, the row goes when the block is empty. */
int hf_block_seal(struct hf_store *s, struct hf_txn *txn)
{
	uint64_t no = (s->next_seq - 1) / HF_STORE_BLOCK;
	hf_autobuf struct hf_buf b = HF_BUF_INIT(HF_STORE_BLOCK * 12 + 64);
	uint8_t key[HF_KEY_LEN];
	int r;

	hf_key_put(key, HF_TARGET_UPSTREAM, HF_CLASS_DEFAULT, no);
	hf_buf_le64(&b, s->block_min_expiry_ms);
	for (struct hf_child *c = s->block_children; c; c = c->next_in_block) {
		hf_buf_le32(&b, c->id);
		hf_buf_le32(&b, c->block_n);
		hf_buf_le32(&b, c->block_bytes);
	}
	r = b.err ? b.err : hf_txn_put(txn, HF_T_BLOCKS, hf_span(key, sizeof key), hf_buf_span(&b));
	if (r != 0)
		return r;
	if (s->n_blocks == s->cap_blocks) {
		unsigned cap = s->cap_blocks ? s->cap_blocks * 2 : 64;
		struct hf_block *blocks = realloc(s->blocks, cap * sizeof *blocks);

		if (!blocks)
			return -ENOMEM;
		s->blocks = blocks;
		s->cap_blocks = cap;
	}
	s->blocks[s->n_blocks++] = (struct hf_block){ no, s->block_min_expiry_ms };
	while (s->block_children) {
		struct hf_child *c = s->block_children;

		s->block_children = c->next_in_block;
		c->in_block = false;
	}
	s->block_min_expiry_ms = 0;
	return 0;
}

bool hf_expire_due(const struct hf_store *s, uint64_t now_ms)
{
	if (s->block_min_expiry_ms && s->block_min_expiry_ms <= now_ms)
		return true;
	for (unsigned i = 0; i < s->n_blocks; i++)
		if (s->blocks[i].min_expiry_ms && s->blocks[i].min_expiry_ms <= now_ms)
			return true;
	return false;
}

/* Removes what has expired in one block. *left: removals still allowed; *ret_min: the next expiry in it. */
static int sweep_block(struct hf_store *s, struct hf_txn *txn, uint64_t no, uint64_t now_ms, unsigned *left,
		       uint64_t *ret_min, bool *ret_empty)
{
	uint64_t due[512], min = 0, seq;
	uint8_t from[HF_KEY_LEN], cls;
	struct hf_span key, value, rest;
	struct hf_cursor *cur;
	struct hf_header h;
	uint32_t target;
	unsigned n = 0;
	bool empty = true;
	int r = hf_cursor_open(txn, HF_T_QUEUE, &cur);

	if (r != 0)
		return r;
	hf_key_put(from, HF_TARGET_UPSTREAM, HF_CLASS_DEFAULT, no * HF_STORE_BLOCK);
	for (r = hf_cursor_seek(cur, hf_span(from, sizeof from), &key, &value); r == 0;
	     r = hf_cursor_next(cur, &key, &value)) {
		if (!hf_key_get(key, &target, &cls, &seq) || seq / HF_STORE_BLOCK != no)
			break;
		if (hf_header_get(value, &h, &rest) != 0) {	/* a damaged record: it does not expire */
			empty = false;
			continue;
		}
		if (h.expiry_ms && h.expiry_ms <= now_ms) {
			if (n == HF_ARRAY_LEN(due) || n == *left) {
				min = h.expiry_ms;	/* more to do next time */
				empty = false;
				break;
			}
			due[n++] = seq;
			continue;
		}
		empty = false;
		if (h.expiry_ms && (!min || h.expiry_ms < min))
			min = h.expiry_ms;
	}
	hf_cursor_close(&cur);
	if (r != 0 && r != HF_ENOTFOUND)
		return r;
	for (unsigned i = 0; i < n; i++) {
		r = hf_spool_remove(s, txn, HF_CLASS_DEFAULT, due[i], HF_EXPIRED, false, true);
		if (r != 0)
			return r;
	}
	*left -= n;
	*ret_min = min;
	*ret_empty = empty;
	return 0;
}

static void drop_block(struct hf_store *s, struct hf_txn *txn, unsigned i)
{
	uint8_t key[HF_KEY_LEN];

	hf_key_put(key, HF_TARGET_UPSTREAM, HF_CLASS_DEFAULT, s->blocks[i].no);
	hf_txn_del(txn, HF_T_BLOCKS, hf_span(key, sizeof key));
	s->n_blocks--;
	memmove(&s->blocks[i], &s->blocks[i + 1], (s->n_blocks - i) * sizeof s->blocks[0]);
}

/* Rows of blocks in front of the oldest record are done with. */
int hf_blocks_trim(struct hf_store *s, struct hf_txn *txn)
{
	uint64_t first = UINT64_MAX, seq;
	uint8_t from[HF_KEY_LEN], cls;
	struct hf_cursor *cur;
	struct hf_span key;
	uint32_t target;
	int r;

	if (s->n_blocks == 0)
		return 0;
	hf_key_put(from, HF_TARGET_UPSTREAM, HF_CLASS_DEFAULT, 0);
	r = hf_cursor_open(txn, HF_T_QUEUE, &cur);
	if (r != 0)
		return r;
	r = hf_cursor_seek(cur, hf_span(from, sizeof from), &key, NULL);
	if (r == 0 && hf_key_get(key, &target, &cls, &seq))
		first = seq / HF_STORE_BLOCK;
	hf_cursor_close(&cur);
	while (s->n_blocks && s->blocks[0].no < first)
		drop_block(s, txn, 0);
	return r == HF_ENOTFOUND ? 0 : r;
}

int hf_expire_run(struct hf_store *s, struct hf_txn *txn, uint64_t now_ms, unsigned max)
{
	uint64_t min;
	bool empty;
	int r;

	for (unsigned i = 0; i < s->n_blocks && max;) {
		if (!s->blocks[i].min_expiry_ms || s->blocks[i].min_expiry_ms > now_ms) {
			i++;
			continue;
		}
		r = sweep_block(s, txn, s->blocks[i].no, now_ms, &max, &min, &empty);
		if (r != 0)
			return r;
		if (empty) {
			drop_block(s, txn, i);
		} else {
			s->blocks[i].min_expiry_ms = min;
			i++;
		}
	}
	if (max && s->block_min_expiry_ms && s->block_min_expiry_ms <= now_ms) {
		r = sweep_block(s, txn, s->next_seq / HF_STORE_BLOCK, now_ms, &max, &min, &empty);
		if (r != 0)
			return r;
		s->block_min_expiry_ms = min;
	}
	return 0;
}

int hf_evict_oldest(struct hf_store *s, struct hf_txn *txn, size_t bytes)
{
	uint8_t from[HF_KEY_LEN], cls;
	size_t freed = 0;

	hf_key_put(from, HF_TARGET_UPSTREAM, HF_CLASS_DEFAULT, 0);
	for (unsigned n = 0; freed < bytes && n < 1024; n++) {
		struct hf_span key, value;
		struct hf_cursor *cur;
		uint32_t target;
		uint64_t seq;
		int r = hf_cursor_open(txn, HF_T_QUEUE, &cur);

		if (r != 0)
			return r;
		r = hf_cursor_seek(cur, hf_span(from, sizeof from), &key, &value);
		bool found = r == 0 && hf_key_get(key, &target, &cls, &seq);
		freed += found ? value.len + 64 : 0;
		hf_cursor_close(&cur);
		if (!found)
			return r == HF_ENOTFOUND ? 0 : r;
		r = hf_spool_remove(s, txn, cls, seq, HF_PURGED, true, true);
		if (r != 0)
			return r;
	}
	return 0;
}
