/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Records, names and ledger inside a write transaction. Working copies become valid with the commit only. */
#include "core/log.h"
#include "core/util.h"
#include "store/store_int.h"
#include <errno.h>
#include <holdfast/err.h>

static struct hf_span meta_key(const char *name)
{
	return hf_span_str(name);
}

static struct hf_child *new_child(struct hf_store *s, uint32_t id, struct hf_span name)
{
	struct hf_child *c = calloc(1, sizeof *c);

	if (id / HF_NAME_CHUNK >= HF_NAME_CHUNKS)
		goto fail;
	if (id >= s->cap_ids) {
		uint32_t cap = hf_max(s->cap_ids * 2, id + 64);
		struct hf_child **by_id = realloc(s->by_id, cap * sizeof *by_id);

		if (!by_id)
			goto fail;
		memset(by_id + s->cap_ids, 0, (cap - s->cap_ids) * sizeof *by_id);
		s->by_id = by_id;
		s->cap_ids = cap;
	}
	if (!c || !(c->name = hf_span_dup(name)) || hf_map_put(s->children, name, c) != 0)
		goto fail;
	c->id = id;
	s->by_id[id] = c;
	if (id >= s->n_ids)
		s->n_ids = id + 1;
	/* published for readers on other threads: the slot is written before anybody can learn the id */
	char **chunk = atomic_load(&s->name_chunks[id / HF_NAME_CHUNK]);
	if (!chunk) {
		chunk = calloc(HF_NAME_CHUNK, sizeof *chunk);
		if (!chunk) {
			hf_map_remove(s->children, name);
			s->by_id[id] = NULL;
			goto fail;
		}
		atomic_store_explicit(&s->name_chunks[id / HF_NAME_CHUNK], chunk, memory_order_release);
	}
	__atomic_store_n(&chunk[id % HF_NAME_CHUNK], c->name, __ATOMIC_RELEASE);
	return c;
fail:
	if (c)
		free(c->name);
	free(c);
	return NULL;
}

const char *hf_store_child_name(struct hf_store *s, uint32_t child)
{
	char **chunk = child / HF_NAME_CHUNK < HF_NAME_CHUNKS
			       ? atomic_load_explicit(&s->name_chunks[child / HF_NAME_CHUNK], memory_order_acquire)
			       : NULL;

	return chunk ? __atomic_load_n(&chunk[child % HF_NAME_CHUNK], __ATOMIC_ACQUIRE) : NULL;
}

struct hf_child *hf_spool_child(struct hf_store *s, struct hf_span name)
{
	struct hf_child *c = hf_map_get(s->children, name);

	if (c)
		return c;
	c = new_child(s, s->n_ids, name);
	if (c)
		c->is_new = true;	/* its names row goes with the first commit that uses it */
	return c;
}

static void touch(struct hf_store *s, struct hf_child *c)
{
	if (c->dirty)
		return;
	c->dirty = true;
	c->next_dirty = s->dirty;
	s->dirty = c;
}

static int put_parts(struct hf_txn *txn, const uint8_t key[HF_KEY_LEN], const struct hf_msg *m)
{
	struct hf_span rest = hf_span(m->data + m->from_len, (size_t)m->props_len + m->body_len);
	uint8_t part_key[HF_KEY_LEN + 2];

	memcpy(part_key, key, HF_KEY_LEN);
	for (uint16_t part = 0; rest.len; part++) {
		size_t n = hf_min(rest.len, (size_t)HF_PART_LEN);

		part_key[HF_KEY_LEN] = (uint8_t)(part >> 8);
		part_key[HF_KEY_LEN + 1] = (uint8_t)part;
		hf_txn_append(txn, HF_T_BODY, hf_span(part_key, sizeof part_key), hf_span(rest.ptr, n));
		rest = hf_span_skip(rest, n);
	}
	return hf_txn_error(txn);
}

static void note_block(struct hf_store *s, struct hf_child *c, size_t bytes, uint64_t expiry_ms)
{
	if (!c->in_block) {
		c->in_block = true;
		c->next_in_block = s->block_children;
		s->block_children = c;
		c->block_n = c->block_bytes = 0;
	}
	c->block_n++;
	c->block_bytes += (uint32_t)bytes;
	if (expiry_ms && (!s->block_min_expiry_ms || expiry_ms < s->block_min_expiry_ms))
		s->block_min_expiry_ms = expiry_ms;
}

int hf_spool_append(struct hf_store *s, struct hf_txn *txn, struct hf_op *op)
{
	const struct hf_msg *m = op->msg;
	size_t data_len = (size_t)m->props_len + m->body_len;
	int64_t ttl_s = atomic_load_explicit(&s->ttl_s, memory_order_relaxed);
	struct hf_child *c = hf_spool_child(s, hf_msg_from(m));
	struct hf_header h = { .msg_flags = m->flags, .props_len = m->props_len, .accepted_ms = hf_store_now_ms(s) };
	uint8_t key[HF_KEY_LEN];
	void *at = NULL;
	int r;

	if (!c)
		return -ENOMEM;
	h.parted = HF_HEADER_LEN + data_len > HF_INLINE_MAX;
	h.child = c->id;
	h.expiry_ms = ttl_s > 0 ? h.accepted_ms + (uint64_t)ttl_s * 1000 : 0;
	hf_key_put(key, HF_TARGET_UPSTREAM, HF_CLASS_DEFAULT, s->next_seq);
	r = hf_txn_reserve(txn, HF_T_QUEUE, hf_span(key, sizeof key), HF_HEADER_LEN + (h.parted ? 0 : data_len), true, &at);
	if (r != 0)
		return r;
	hf_header_put(at, &h);
	if (!h.parted)
		memcpy((uint8_t *)at + HF_HEADER_LEN, m->data + m->from_len, data_len);
	else if ((r = put_parts(txn, key, m)) != 0)
		return r;
	touch(s, c);
	if (c->now.pending == 0)
		c->now.oldest_seq = s->next_seq;
	c->now.accepted++;
	c->now.pending++;
	c->now.pending_bytes += data_len;
	note_block(s, c, data_len, h.expiry_ms);
	op->seq = s->next_seq++;
	op->expiry_ms = h.expiry_ms;
	op->child = c;
	if (s->next_seq % HF_STORE_BLOCK == 0)
		r = hf_block_seal(s, txn);
	return r;
}

/* Length of props + body, deleting the parts on the way. */
static size_t delete_parts(struct hf_txn *txn, const uint8_t key[HF_KEY_LEN])
{
	uint8_t part_key[HF_KEY_LEN + 2];
	struct hf_span value;
	size_t total = 0;

	memcpy(part_key, key, HF_KEY_LEN);
	for (uint16_t part = 0;; part++) {
		part_key[HF_KEY_LEN] = (uint8_t)(part >> 8);
		part_key[HF_KEY_LEN + 1] = (uint8_t)part;
		if (hf_txn_get(txn, HF_T_BODY, hf_span(part_key, sizeof part_key), &value) != 0)
			return total;
		total += value.len;
		hf_txn_del(txn, HF_T_BODY, hf_span(part_key, sizeof part_key));
	}
}

static void note_gone(struct hf_store *s, uint32_t child, uint8_t cls, uint64_t seq)
{
	if (s->n_gone == s->cap_gone) {
		unsigned cap = s->cap_gone ? s->cap_gone * 2 : 256;
		struct hf_notice_item *gone = realloc(s->gone, cap * sizeof *gone);

		if (!gone)
			return;	/* the pump finds out when it reads or resolves the record */
		s->gone = gone;
		s->cap_gone = cap;
	}
	s->gone[s->n_gone++] = (struct hf_notice_item){ .seq = seq, .child = child, .cls = cls, .gone = 1 };
}

int hf_spool_remove(struct hf_store *s, struct hf_txn *txn, uint8_t cls, uint64_t seq, enum hf_outcome outcome, bool evicted,
		    bool tell_pump)
{
	uint8_t key[HF_KEY_LEN];
	struct hf_span value, rest;
	struct hf_header h;
	struct hf_child *c;
	size_t data_len;
	int r;

	hf_key_put(key, HF_TARGET_UPSTREAM, cls, seq);
	r = hf_txn_get(txn, HF_T_QUEUE, hf_span(key, sizeof key), &value);
	if (r == HF_ENOTFOUND)
		return 0;
	if (r != 0)
		return r;
	r = hf_header_get(value, &h, &rest);
	c = r == 0 && h.child < s->n_ids ? s->by_id[h.child] : NULL;
	data_len = rest.len;
	if (!c) {
		static struct hf_log_limit limit;

		hf_log_limited(&limit, HF_LOG_ERR, "store.corrupt", "record %llu is damaged: removed",
			       (unsigned long long)seq);
		return hf_txn_del(txn, HF_T_QUEUE, hf_span(key, sizeof key));
	}
	r = hf_txn_del(txn, HF_T_QUEUE, hf_span(key, sizeof key));
	if (r != 0)
		return r;
	if (h.parted)
		data_len = delete_parts(txn, key);
	touch(s, c);
	c->now.pending--;
	c->now.pending_bytes -= hf_min(c->now.pending_bytes, (uint64_t)data_len);
	if (evicted)
		c->now.evicted++;
	else if (outcome == HF_DELIVERED)
		c->now.delivered++;
	else if (outcome == HF_EXPIRED)
		c->now.expired++;
	else if (outcome == HF_REFUSED_BY_HUB)
		c->now.refused++;
	else
		c->now.purged++;
	if (tell_pump)
		note_gone(s, c->id, cls, seq);
	return hf_txn_error(txn);
}

static int put_child(struct hf_txn *txn, const struct hf_child *c, struct hf_buf *b)
{
	uint8_t key[8];

	hf_put_be32(key, c->id);
	hf_put_be32(key + 4, HF_TARGET_UPSTREAM);
	if (c->is_new) {
		hf_buf_reset(b);
		hf_buf_u8(b, 1);	/* kind: child */
		hf_buf_puts(b, c->name);
		hf_txn_put(txn, HF_T_NAMES, hf_span(key, 4), hf_buf_span(b));
	}
	hf_buf_reset(b);
	hf_ledger_put(b, &c->now);
	return b->err ? b->err : hf_txn_put(txn, HF_T_LEDGER, hf_span(key, sizeof key), hf_buf_span(b));
}

int hf_spool_finish(struct hf_store *s, struct hf_txn *txn)
{
	hf_autobuf struct hf_buf b = HF_BUF_INIT(4096);
	uint8_t seq[8];

	for (struct hf_child *c = s->dirty; c; c = c->next_dirty)
		put_child(txn, c, &b);
	hf_put_le64(seq, s->next_seq);
	hf_txn_put(txn, HF_T_META, meta_key("next_seq"), hf_span(seq, sizeof seq));
	hf_buf_reset(&b);
	hf_stime_save(s, &b);
	hf_txn_put(txn, HF_T_META, meta_key("time"), hf_buf_span(&b));
	return b.err ? b.err : hf_txn_error(txn);
}

static void add_totals(struct hf_store *s, const struct hf_ledger *from, const struct hf_ledger *to)
{
	s->g.accepted += to->accepted - from->accepted;
	s->g.delivered += to->delivered - from->delivered;
	s->g.expired += to->expired - from->expired;
	s->g.evicted += to->evicted - from->evicted;
	s->g.refused += to->refused - from->refused;
	s->g.purged += to->purged - from->purged;
	s->g.pending += to->pending - from->pending;
	s->g.pending_bytes += to->pending_bytes - from->pending_bytes;
}

void hf_spool_committed(struct hf_store *s)
{
	while (s->dirty) {
		struct hf_child *c = s->dirty;

		s->dirty = c->next_dirty;
		c->dirty = c->is_new = false;
		add_totals(s, &c->committed, &c->now);
		c->committed = c->now;
	}
	s->committed_seq = s->next_seq;
	s->gone_committed = s->n_gone;
	s->g.next_seq = s->next_seq;
}

static int load_names(struct hf_store *s, struct hf_txn *txn)
{
	struct hf_span key, value;
	struct hf_cursor *cur;
	int r = hf_cursor_open(txn, HF_T_NAMES, &cur);

	if (r != 0)
		return r;
	for (r = hf_cursor_seek(cur, hf_span(NULL, 0), &key, &value); r == 0; r = hf_cursor_next(cur, &key, &value)) {
		struct hf_cur k = hf_cur(key);
		uint32_t id = hf_cur_be32(&k);

		if (k.err || id <= HF_TARGET_UPSTREAM || value.len < 2)
			continue;
		if (!new_child(s, id, hf_span_skip(value, 1))) {
			r = -ENOMEM;
			break;
		}
	}
	hf_cursor_close(&cur);
	return r == HF_ENOTFOUND ? 0 : r;
}

static int load_ledger(struct hf_store *s, struct hf_txn *txn)
{
	static const struct hf_ledger zero;
	struct hf_span key, value;
	struct hf_cursor *cur;
	int r = hf_cursor_open(txn, HF_T_LEDGER, &cur);

	if (r != 0)
		return r;
	for (r = hf_cursor_seek(cur, hf_span(NULL, 0), &key, &value); r == 0; r = hf_cursor_next(cur, &key, &value)) {
		struct hf_cur k = hf_cur(key);
		uint32_t id = hf_cur_be32(&k);
		struct hf_child *c = id < s->n_ids ? s->by_id[id] : NULL;

		if (!c || hf_ledger_get(value, &c->committed) != 0) {
			hf_log(HF_LOG_ERR, "store.corrupt", "ledger row of child %u cannot be read", id);
			continue;
		}
		c->now = c->committed;
		add_totals(s, &zero, &c->now);
	}
	hf_cursor_close(&cur);
	return r == HF_ENOTFOUND ? 0 : r;
}

static int load_meta(struct hf_store *s, struct hf_txn *txn)
{
	struct hf_span v;
	int r = hf_txn_get(txn, HF_T_META, meta_key("format"), &v);

	if (r == HF_ENOTFOUND) {
		uint8_t format = HF_STORE_FORMAT;

		hf_txn_put(txn, HF_T_META, meta_key("format"), hf_span(&format, 1));
	} else if (r == 0 && (v.len != 1 || v.ptr[0] != HF_STORE_FORMAT)) {
		hf_log(HF_LOG_ERR, "store.format", "the spool has format %u, this program knows %u", v.len ? v.ptr[0] : 0,
		       HF_STORE_FORMAT);
		return HF_ECORRUPT;
	}
	s->next_seq = 1;
	if (hf_txn_get(txn, HF_T_META, meta_key("next_seq"), &v) == 0) {
		struct hf_cur c = hf_cur(v);

		s->next_seq = hf_cur_le64(&c);
	}
	s->committed_seq = s->next_seq;
	s->g.next_seq = s->next_seq;
	hf_stime_load(s, hf_txn_get(txn, HF_T_META, meta_key("time"), &v) == 0 ? v : hf_span(NULL, 0));
	return hf_txn_error(txn);
}

static int add_block(struct hf_store *s, uint64_t no, uint64_t min_expiry_ms)
{
	if (s->n_blocks == s->cap_blocks) {
		unsigned cap = s->cap_blocks ? s->cap_blocks * 2 : 64;
		struct hf_block *blocks = realloc(s->blocks, cap * sizeof *blocks);

		if (!blocks)
			return -ENOMEM;
		s->blocks = blocks;
		s->cap_blocks = cap;
	}
	s->blocks[s->n_blocks++] = (struct hf_block){ no, min_expiry_ms };
	return 0;
}

static int load_blocks(struct hf_store *s, struct hf_txn *txn)
{
	struct hf_span key, value;
	struct hf_cursor *cur;
	int r = hf_cursor_open(txn, HF_T_BLOCKS, &cur);

	if (r != 0)
		return r;
	for (r = hf_cursor_seek(cur, hf_span(NULL, 0), &key, &value); r == 0; r = hf_cursor_next(cur, &key, &value)) {
		struct hf_cur c = hf_cur(value);
		uint64_t no, min_expiry = hf_cur_le64(&c);
		uint32_t target;
		uint8_t cls;

		if (hf_key_get(key, &target, &cls, &no) && !c.err && (r = add_block(s, no, min_expiry)) != 0)
			break;
	}
	hf_cursor_close(&cur);
	return r == HF_ENOTFOUND ? 0 : r;
}

/* The unsealed block's share of each child, as note_block() would have counted it. */
static int scan_tail(struct hf_store *s, struct hf_txn *txn)
{
	uint8_t from[HF_KEY_LEN];
	struct hf_span key, value, rest;
	struct hf_cursor *cur;
	struct hf_header h;
	int r = hf_cursor_open(txn, HF_T_QUEUE, &cur);

	if (r != 0)
		return r;
	hf_key_put(from, HF_TARGET_UPSTREAM, HF_CLASS_DEFAULT, s->next_seq - s->next_seq % HF_STORE_BLOCK);
	for (r = hf_cursor_seek(cur, hf_span(from, sizeof from), &key, &value); r == 0;
	     r = hf_cursor_next(cur, &key, &value))
		if (hf_header_get(value, &h, &rest) == 0 && h.child < s->n_ids && s->by_id[h.child])
			note_block(s, s->by_id[h.child], rest.len, h.expiry_ms);
	hf_cursor_close(&cur);
	return r == HF_ENOTFOUND ? 0 : r;
}

static void forget_blocks(struct hf_store *s)
{
	while (s->block_children) {
		struct hf_child *c = s->block_children;

		s->block_children = c->next_in_block;
		c->in_block = false;
	}
	s->n_blocks = 0;
	s->block_min_expiry_ms = 0;
}

/* Names stay known in memory (is_new makes them written later); counts, numbers and blocks go back. */
void hf_spool_aborted(struct hf_store *s)
{
	struct hf_txn *txn;

	while (s->dirty) {
		struct hf_child *c = s->dirty;

		s->dirty = c->next_dirty;
		c->dirty = false;
		c->now = c->committed;
	}
	s->next_seq = s->committed_seq;
	s->n_gone = s->gone_committed;
	forget_blocks(s);
	if (hf_txn_begin(s->spool, false, &txn) != 0)
		return;
	if (load_blocks(s, txn) != 0 || scan_tail(s, txn) != 0)
		hf_log(HF_LOG_WARN, "store.blocks", "block summary could not be read again");
	hf_txn_abort(&txn);
}

int hf_spool_load(struct hf_store *s)
{
	struct hf_txn *txn;
	int r = hf_txn_begin(s->spool, true, &txn);

	if (r != 0)
		return r;
	s->n_ids = HF_TARGET_UPSTREAM + 1;
	r = load_meta(s, txn);
	if (r == 0)
		r = load_names(s, txn);
	if (r == 0)
		r = load_ledger(s, txn);
	if (r == 0)
		r = load_blocks(s, txn);
	if (r == 0)
		r = scan_tail(s, txn);
	if (r != 0) {
		hf_txn_abort(&txn);
		return r;
	}
	return hf_txn_commit(&txn);
}

void hf_spool_fini(struct hf_store *s)
{
	for (uint32_t i = 0; i < s->n_ids && i < s->cap_ids; i++)
		if (s->by_id[i]) {
			free(s->by_id[i]->name);
			free(s->by_id[i]);
		}
	for (unsigned i = 0; i < HF_NAME_CHUNKS; i++)
		free(atomic_exchange(&s->name_chunks[i], NULL));
	free(s->by_id);
	free(s->blocks);
	hf_map_destroy(&s->children);
	s->by_id = NULL;
	s->blocks = NULL;
	s->dirty = s->block_children = NULL;
	s->n_ids = s->cap_ids = s->n_blocks = s->cap_blocks = 0;
}
