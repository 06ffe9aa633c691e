/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What waits on disk: per child the blocks of sequence numbers that hold records of it, read back as there is room. */
#include "core/log.h"
#include "core/util.h"
#include "store/format.h"
#include "upstream/pump/pump_int.h"
#include <errno.h>
#include <holdfast/err.h>
#include <stdlib.h>

enum {
	LARGEST = HF_MSG_MAX_SIZE + 1024,	/* what one message may cost */
	SHARE_MIN = 512 * 1024,			/* what each child may hold, however many there are */
	READ_PAUSE_MS = 100, READ_PAUSE_MAX_MS = 5000,
};

/* --- block lists ------------------------------------------------------------------------------------------ */

int hf_backlog_add(struct hf_pump_child *c, uint64_t block)
{
	unsigned i = c->n_blocks;

	while (i > 0 && c->blocks[i - 1] > block)
		i--;
	if (i > 0 && c->blocks[i - 1] == block)
		return 0;
	if (c->n_blocks == c->cap_blocks) {
		unsigned cap = c->cap_blocks ? c->cap_blocks * 2 : 4;
		uint64_t *blocks = realloc(c->blocks, cap * sizeof *blocks);

		if (!blocks)
			return -ENOMEM;
		c->blocks = blocks;
		c->cap_blocks = cap;
	}
	memmove(&c->blocks[i + 1], &c->blocks[i], (c->n_blocks - i) * sizeof c->blocks[0]);
	c->blocks[i] = block;
	c->n_blocks++;
	return 0;
}

static void drop_first_block(struct hf_pump_child *c)
{
	c->n_blocks--;
	memmove(&c->blocks[0], &c->blocks[1], c->n_blocks * sizeof c->blocks[0]);
	if (c->n_blocks == 0) {
		free(c->blocks);
		c->blocks = NULL;
		c->cap_blocks = 0;
	}
}

/* --- room ------------------------------------------------------------------------------------------------- */

static bool is_room(const struct hf_pump *p)
{
	return p->held + LARGEST <= HF_PUMP_BYTES;
}

/* What one child may hold: half of the budget when it is alone, less the more there are. */
static bool has_share_left(const struct hf_pump *p, const struct hf_pump_child *c)
{
	return c->held < hf_max((size_t)HF_PUMP_BYTES / 2 / (p->n_sendable ? p->n_sendable : 1), (size_t)SHARE_MIN);
}

static enum hf_refill starve(struct hf_pump *p, struct hf_pump_child *c)
{
	hf_list_del(&c->node);
	if (c->has_room)	/* it was its turn: it stays the first */
		hf_list_add_head(&p->starved, &c->node);
	else
		hf_list_add_tail(&p->starved, &c->node);
	c->is_starved = true;
	hf_backlog_pass_on(p, c);
	return HF_REFILL_WAITS;
}

void hf_backlog_pass_on(struct hf_pump *p, struct hf_pump_child *c)
{
	if (p->granted == c)
		p->granted = NULL;
	c->has_room = false;
}

void hf_backlog_wake_starved(struct hf_pump *p)
{
	while (!p->granted && !hf_list_empty(&p->starved) && is_room(p) && !hf_timer_active(p->read_pause)) {
		struct hf_pump_child *c = hf_container_of(p->starved.next, struct hf_pump_child, node);

		hf_list_del(&c->node);
		c->is_starved = false;
		c->has_room = true;
		p->granted = c;
		hf_pump_schedule(p, c);
		if (!hf_list_linked(&c->node))	/* its window is full, or its session takes nothing: later, then */
			hf_backlog_pass_on(p, c);
	}
}

/* --- reading ---------------------------------------------------------------------------------------------- */

static int push_ready(struct hf_pump *p, struct hf_pump_child *c, uint64_t seq, uint64_t expiry_ms, struct hf_msg *msg)
{
	const struct hf_pump_entry e = { .seq = seq, .expiry_ms = expiry_ms, .msg = msg, .dup = seq < c->dup_until };
	int r = hf_ring_push(&c->ready, &e);

	if (r != 0)
		return r;
	c->next_read = seq + 1;
	c->held += hf_flight_cost(msg);
	p->held += hf_flight_cost(msg);
	return 0;
}

/* May this child take part in the read in progress? What lies before the place where it begins must be no child's. */
static bool takes_part(const struct hf_pump *p, const struct hf_pump_child *c)
{
	return c->sendable && !(c->wait_resolved && c->n_resolving) && c->n_blocks && c->blocks[0] == p->reading.block &&
	       (c->next_read >= p->reading.from || p->reading.from == p->reading.block * HF_STORE_BLOCK);
}

static bool read_wants(void *arg, uint32_t id, uint64_t seq)
{
	struct hf_pump *p = arg;
	struct hf_pump_child *c = id < p->cap_ids ? p->by_id[id] : NULL;

	if (!c || !takes_part(p, c) || c->skipped || seq < c->next_read)
		return false;
	/* No room for this one: none of the later ones either, for the order of the child. */
	c->skipped = !is_room(p) || !has_share_left(p, c);
	return !c->skipped;
}

static void on_read(void *arg, struct hf_record *rec)
{
	struct hf_pump *p = arg;
	struct hf_pump_child *c = p->by_id[rec->child];

	if (c->skipped || push_ready(p, c, rec->seq, rec->expiry_ms, rec->msg) != 0) {
		c->skipped = true;
		hf_msg_unref(&rec->msg);
		hf_pump_retry_later(p);
		return;
	}
	p->stats.read_back++;
}

static void pause_reading(struct hf_pump *p, uint64_t block, int err)
{
	static struct hf_log_limit limit;

	p->stats.read_errors++;
	hf_log_limited(&limit, HF_LOG_ERR, "pump.read", "block %llu: %s; tried again", (unsigned long long)block,
		       hf_strerror(err));
	p->read_pause_ms = p->read_pause_ms ? hf_min(p->read_pause_ms * 2, (uint32_t)READ_PAUSE_MAX_MS) : READ_PAUSE_MS;
	hf_timer_start(p->read_pause, p->read_pause_ms, 0);
}

void hf_backlog_on_pause_end(void *arg)
{
	hf_backlog_wake_starved(arg);
}

/* The read came as far as `next`: each child that took part knows more now. */
static void note_read(struct hf_pump *p, uint64_t next, bool is_block_done)
{
	for (uint32_t i = 0; i < p->cap_ids; i++) {
		struct hf_pump_child *c = p->by_id[i];

		if (!c || !takes_part(p, c))
			continue;
		c->wait_resolved = false;
		if (c->skipped)
			c->skipped = false;	/* the rest of the block is still to come */
		else if (is_block_done)
			drop_first_block(c);
		else
			c->next_read = hf_max(c->next_read, next);
		if (c != p->reading.child && c->ready.n)
			hf_pump_schedule(p, c);
	}
}

enum hf_refill hf_backlog_refill(struct hf_pump *p, struct hf_pump_child *c)
{
	const struct hf_store_reader reader = { .want = read_wants, .fn = on_read, .arg = p };
	uint64_t start = c->blocks[0] * HF_STORE_BLOCK, to = start + HF_STORE_BLOCK, next = to;
	int r;

	if (c->wait_resolved && c->n_resolving)
		return HF_REFILL_WAITS;		/* outcome.c goes on with it */
	if (!has_share_left(p, c))
		return HF_REFILL_WAITS;		/* what it has in flight comes back first */
	if (!is_room(p) || hf_timer_active(p->read_pause) || (!c->has_room && !hf_list_empty(&p->starved)))
		return starve(p, c);
	c->wait_resolved = false;
	p->reading.block = c->blocks[0];
	p->reading.from = hf_max(start, c->next_read);
	p->reading.child = c;
	r = p->reading.from < to ? hf_store_read(p->store, HF_CLASS_DEFAULT, p->reading.from, to, HF_STORE_BLOCK, &reader, &next)
				 : 0;
	if (r != 0) {
		/* What came before the error is taken; nobody knows more than that. */
		for (uint32_t i = 0; i < p->cap_ids; i++)
			if (p->by_id[i])
				p->by_id[i]->skipped = false;
		pause_reading(p, c->blocks[0], r);
		return c->ready.n ? HF_REFILL_DONE : starve(p, c);
	}
	p->read_pause_ms = 0;
	hf_backlog_pass_on(p, c);
	note_read(p, next, next >= to);
	return HF_REFILL_DONE;
}

void hf_backlog_take(struct hf_pump *p, struct hf_pump_child *c, uint64_t seq, uint64_t expiry_ms, struct hf_msg **msg)
{
	bool may_hold = c->sendable && c->n_blocks == 0 && hf_list_empty(&p->starved) && is_room(p) && has_share_left(p, c);

	if (may_hold && *msg && push_ready(p, c, seq, expiry_ms, *msg) == 0) {
		*msg = NULL;
	} else if (hf_backlog_add(c, seq / HF_STORE_BLOCK) != 0) {
		p->must_scan = true;
		hf_pump_retry_later(p);
	}
}

/* --- finding it all --------------------------------------------------------------------------------------- */

struct scan {
	struct hf_pump *pump;
	int err;
};

static void on_backlog(void *arg, uint32_t id, uint8_t cls, uint64_t block, uint32_t n, uint64_t bytes)
{
	struct scan *s = arg;
	struct hf_pump_child *c = hf_pump_get(s->pump, id);

	(void)cls;
	(void)n;
	(void)bytes;
	if (!c)
		s->err = -ENOMEM;
	else if ((block + 1) * HF_STORE_BLOCK > c->next_read && hf_backlog_add(c, block) != 0)
		s->err = -ENOMEM;
}

int hf_backlog_scan(struct hf_pump *p)
{
	struct scan s = { .pump = p };
	int r = hf_store_backlog(p->store, on_backlog, &s, &p->backlog_end);

	p->must_scan = r != 0 || s.err != 0;
	if (p->must_scan)
		hf_pump_retry_later(p);
	return r;
}
