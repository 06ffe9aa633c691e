/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Blocks that wait for their blob: in memory by blob name, written through.
 *
 * Table "block", key: the file's number, big-endian. Value: written ms, size le64 each, length of name le32, name, block id. */
#include "core/clock.h"
#include "core/log.h"
#include "core/util.h"
#include "hub/blob/blob_int.h"
#include "hub/metrics.h"

#include <errno.h>
#include <holdfast/err.h>

#define WAIT_MS (2 * 3600 * 1000)
#define MAX_WAITING 50000	/* blocks of all blobs */
#define NAMES_A_STEP 16

struct block {
	uint64_t file, size;
	size_t id_len;
	uint8_t id[HUB_BLOCK_ID_MAX];
};
struct hub_waiting {
	struct hf_list node;
	int64_t last_ms;
	struct block *blocks;
	size_t n, cap;
	char name[];
};

static struct hf_span id_of(const struct block *b)
{
	return hf_span(b->id, b->id_len);
}

static struct hub_waiting *waiting_of(struct hub_model *m, const char *name)
{
	return hf_map_get(m->blobs->waiting, hf_span_str(name));
}

static void forget(struct hub_model *m, struct hub_waiting *w)
{
	hf_map_remove(m->blobs->waiting, hf_span_str(w->name));
	hf_list_del(&w->node);
	m->blobs->n_waiting_blocks -= w->n;
	free(w->blocks);
	free(w);
}

void hub_blocks_fini(struct hub_model *m)
{
	while (!hf_list_empty(&m->blobs->waiting_order))
		forget(m, hf_container_of(m->blobs->waiting_order.next, struct hub_waiting, node));
	hf_map_destroy(&m->blobs->waiting);
}

static struct hub_waiting *waiting_new(struct hub_model *m, const char *name)
{
	struct hub_waiting *w = calloc(1, sizeof *w + strlen(name) + 1);

	if (!w)
		return NULL;
	memcpy(w->name, name, strlen(name));
	if (hf_map_put(m->blobs->waiting, hf_span_str(name), w) != 0) {
		free(w);
		return NULL;
	}
	hf_list_add_tail(&m->blobs->waiting_order, &w->node);
	return w;
}

static int delete_record(struct hub_model *m, uint64_t file)
{
	struct hf_txn *txn;
	uint8_t key[8];
	int r = hub_state_txn(m, &txn);

	hub_seq_key(file, key);
	if (r == 0)
		r = hf_txn_del(txn, HUB_T_BLOCK, hf_span(key, 8));
	return r == HF_ENOTFOUND ? 0 : r;
}

/* --- taking ------------------------------------------------------------------------------------------------- */

static struct block *find(struct hub_waiting *w, struct hf_span id)
{
	for (size_t i = 0; w && i < w->n; i++)
		if (hf_span_eq(id_of(&w->blocks[i]), id))
			return &w->blocks[i];
	return NULL;
}

/* In memory; *ret_old: the file it replaces, 0 = none. */
static int add(struct hub_model *m, const char *name, const struct block *block, int64_t when_ms, struct block *ret_old)
{
	struct hub_waiting *w = waiting_of(m, name);
	struct block *same;

	if (!w && !(w = waiting_new(m, name)))
		return -ENOMEM;
	*ret_old = (struct block){ 0 };
	same = find(w, id_of(block));
	if (!same && w->n == w->cap) {
		size_t cap = w->cap ? 2 * w->cap : 8;
		struct block *blocks = realloc(w->blocks, cap * sizeof *blocks);

		if (!blocks) {
			if (w->n == 0)
				forget(m, w);
			return -ENOMEM;
		}
		w->blocks = blocks;
		w->cap = cap;
	}
	if (same) {
		*ret_old = *same;
		*same = *block;
	} else {
		w->blocks[w->n++] = *block;
		m->blobs->n_waiting_blocks++;
	}
	w->last_ms = when_ms;
	hf_list_del(&w->node);
	hf_list_add_tail(&m->blobs->waiting_order, &w->node);
	hub_model_tick(m);
	return 0;
}

static int store(struct hub_model *m, const char *name, const struct block *block, int64_t when_ms)
{
	hf_autobuf struct hf_buf b = HF_BUF_INIT(4096);
	struct hf_txn *txn;
	uint8_t key[8];
	int r;

	hf_buf_le64(&b, (uint64_t)when_ms);
	hf_buf_le64(&b, block->size);
	hf_buf_le32(&b, (uint32_t)strlen(name));
	hf_buf_puts(&b, name);
	hf_buf_put_span(&b, id_of(block));
	hub_seq_key(block->file, key);
	r = b.err ? b.err : hub_state_txn(m, &txn);
	return r == 0 ? hf_txn_put(txn, HUB_T_BLOCK, hf_span(key, 8), hf_buf_span(&b)) : r;
}

int hub_block_put(struct hub_model *m, const char *name, struct hf_span block_id, struct hub_file *f)
{
	struct block block = { .file = f->id, .size = f->size, .id_len = block_id.len }, old;
	const struct hub_waiting *w = waiting_of(m, name);
	int64_t now = hf_clock_wall_ms();
	struct hub_removal *removal;
	int r = 0;

	if (f->fd < 0 || block_id.len == 0 || block_id.len > sizeof block.id)
		r = HF_EINVALID;
	else if (m->blobs->n_waiting_blocks >= MAX_WAITING || (w && w->n >= HUB_BLOB_MAX_BLOCKS))
		r = HF_EFULL;
	if (r == 0) {
		memcpy(block.id, block_id.ptr, block_id.len);
		r = store(m, name, &block, now);
	}
	if (r == 0)
		r = add(m, name, &block, now, &old);
	if (r != 0) {
		hub_file_discard(m, f);
		return r;
	}
	close(f->fd);
	f->fd = -1;
	if (old.file) {
		removal = hub_removal_new(m);
		hub_removal_add(removal, old.file, old.size, true);
		hub_removal_start(removal);
		r = delete_record(m, old.file);
	}
	return r;
}

/* --- a blob of blocks --------------------------------------------------------------------------------------- */

void hub_blocks_drop(struct hub_model *m, const char *name, struct hub_removal *removal)
{
	struct hub_waiting *w = waiting_of(m, name);

	if (!w)
		return;
	for (size_t i = 0; i < w->n; i++) {
		if (delete_record(m, w->blocks[i].file) != 0)
			hf_log(HF_LOG_ERR, "hub.blob.block", "a block of %.200s stays", name);
		hub_removal_add(removal, w->blocks[i].file, w->blocks[i].size, true);
	}
	forget(m, w);
}

/* What a list of blocks may name, by id. */
struct blocks { struct hub_blob_record old; struct hf_map *waiting, *committed; };

static int blocks_index(struct hub_model *m, const char *name, struct blocks *b)
{
	struct hub_waiting *w = waiting_of(m, name);
	int r = hub_blob_load_record(m, name, &b->old);

	if (r == HF_ENOTFOUND)
		r = 0;
	if (r == 0 && (hf_map_create(&b->waiting) != 0 || hf_map_create(&b->committed) != 0))
		r = -ENOMEM;
	for (size_t i = 0; r == 0 && w && i < w->n; i++)
		r = hf_map_put(b->waiting, id_of(&w->blocks[i]), &w->blocks[i]);
	for (unsigned i = 0; r == 0 && i < b->old.blob.n_parts; i++)
		if (b->old.parts[i].id.len)
			r = hf_map_put(b->committed, b->old.parts[i].id, &b->old.parts[i]);
	return r;
}

static bool resolve(const struct blocks *b, const struct hub_block_ref *ref, struct hub_part *ret_part)
{
	const struct block *w = ref->from == HUB_BLOCK_COMMITTED ? NULL : hf_map_get(b->waiting, ref->id);
	const struct hub_part *old = ref->from == HUB_BLOCK_UNCOMMITTED ? NULL : hf_map_get(b->committed, ref->id);

	if (w)
		*ret_part = (struct hub_part){ .file = w->file, .size = w->size, .id = ref->id };
	else if (old)
		*ret_part = (struct hub_part){ .file = old->file, .size = old->size, .id = ref->id };
	return w || old;
}

int hub_blob_commit(struct hub_model *m, const char *name, const char *type, const struct hub_block_ref *refs, size_t n,
		    struct hub_blob *ret_blob)
{
	struct hub_part *parts = n ? calloc(n, sizeof *parts) : NULL;
	struct hub_removal *removal = hub_removal_new(m);
	struct blocks b = { 0 };
	uint64_t size = 0;
	int r = n && !parts ? -ENOMEM : n > HUB_BLOB_MAX_BLOCKS ? HF_ELIMIT : blocks_index(m, name, &b);

	for (size_t i = 0; r == 0 && i < n; i++) {
		r = resolve(&b, &refs[i], &parts[i]) ? 0 : HF_ENOTFOUND;
		size += parts[i].size;
	}
	if (r == 0 && size > m->blobs->max_blob)
		r = HF_ELIMIT;
	if (r == 0) {
		hub_removal_keep(removal, parts, n);
		r = hub_blob_store(m, name, type, parts, n, removal, ret_blob);
	}
	if (r == 0) {
		hub_blocks_drop(m, name, removal);
		hub_removal_start(hf_take(removal));
	}
	hub_removal_free(removal);
	hub_blob_record_fini(&b.old);
	hf_map_destroy(&b.waiting);
	hf_map_destroy(&b.committed);
	free(parts);
	return r;
}

/* --- time, start -------------------------------------------------------------------------------------------- */

bool hub_blocks_step(struct hub_model *m)
{
	int64_t now = hf_clock_wall_ms();

	for (unsigned i = 0; i < NAMES_A_STEP && !hf_list_empty(&m->blobs->waiting_order); i++) {
		struct hub_waiting *w = hf_container_of(m->blobs->waiting_order.next, struct hub_waiting, node);
		struct hub_removal *removal;

		if (w->last_ms + WAIT_MS > now)
			break;
		hf_metric_add(HUB_M_BLOCKS_EXPIRED, (int64_t)w->n);
		removal = hub_removal_new(m);
		hub_blocks_drop(m, w->name, removal);
		hub_removal_start(removal);
	}
	return !hf_list_empty(&m->blobs->waiting_order);
}

static int load_one(void *arg, struct hf_span key, struct hf_span value)
{
	struct hub_model *m = arg;
	struct hf_cur c = hf_cur(value);
	struct block block = { .file = hub_key_seq(key) }, old;
	int64_t when_ms = (int64_t)hf_cur_le64(&c);
	hf_autofree char *name = NULL;
	struct hf_span text;

	block.size = hf_cur_le64(&c);
	text = hf_cur_take(&c, hf_cur_le32(&c));
	block.id_len = c.in.len;
	if (c.err || text.len > HUB_BLOB_NAME_MAX || block.id_len > sizeof block.id)
		return HF_ECORRUPT;
	memcpy(block.id, c.in.ptr, block.id_len);
	name = hf_span_dup(text);
	return name ? add(m, name, &block, when_ms, &old) : -ENOMEM;
}

int hub_blocks_load(struct hub_model *m, int (*keep)(void *arg, uint64_t file, uint64_t size), void *arg)
{
	int r = hf_db_each(m->state, HUB_T_BLOCK, load_one, m);

	for (struct hf_list *pos = m->blobs->waiting_order.next; pos != &m->blobs->waiting_order; pos = pos->next) {
		const struct hub_waiting *w = hf_container_of(pos, struct hub_waiting, node);

		for (size_t i = 0; r == 0 && i < w->n; i++)
			r = keep(arg, w->blocks[i].file, w->blocks[i].size);
	}
	return r;
}
