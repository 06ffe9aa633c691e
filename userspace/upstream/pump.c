/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Every stored record passes through here once per life of the daemon: it is either in a child's ready list, in
 * flight, or still counted in the child's block list. A child's ready records are all older than those of its
 * blocks, so order holds; next_read says up to where the child's records have been taken from disk. */
#include "upstream/pump.h"
#include "core/log.h"
#include "core/map.h"
#include "core/util.h"
#include "loop/loop.h"
#include "store/format.h"
#include <errno.h>
#include <holdfast/err.h>

#define READY_BYTES (8u << 20)
#define QUANTUM (16u << 10)
#define ENTRY_COST 128
#define RESOLVE_MAX 2048
#define CLOSES_ALONE 3
#define CLOSES_REFUSE 5

struct entry {
	uint64_t seq, expiry_ms, sent_ms;
	struct hf_msg *msg;
	bool dup;
};
struct ring {
	struct entry *e;
	unsigned head, n, cap;	/* cap is a power of two */
};
struct child {
	struct hf_list active;
	uint32_t id;
	bool sendable, wanted, blocked;
	struct ring ready;
	struct entry flight[HF_PUMP_WINDOW];
	unsigned n_flight;
	struct { uint64_t no; uint32_t n; } *blocks;
	unsigned n_blocks, cap_blocks;
	uint64_t next_read;
	int64_t deficit;
	unsigned closes;
};
struct batch {
	struct hf_store_resolve req;
	struct hf_pump *pump;
	struct batch *next;
	struct hf_resolved items[RESOLVE_MAX];
};
struct hf_pump {
	struct hf_loop *loop;
	struct hf_store *store;
	struct hf_inbox *inbox;
	const struct hf_pump_ops *ops;
	void *arg;
	struct hf_task run_task, flush_task;
	struct hf_timer *retry;
	struct hf_map *by_name;
	struct child **by_id;
	uint32_t cap_ids;
	struct hf_list active;
	size_t ready_bytes;
	uint64_t backlog_end;
	struct batch *filling, *idle, *failed;
	unsigned n_outstanding;
	bool closing;
	struct hf_pump_stats stats;
	/* a block read in progress */
	uint64_t reading;
	bool read_full;
};

static struct entry *at(const struct ring *r, unsigned i)
{
	return &r->e[(r->head + i) & (r->cap - 1)];
}

static int ring_room(struct ring *r)
{
	struct entry *e;
	unsigned cap;

	if (r->n < r->cap)
		return 0;
	cap = r->cap ? r->cap * 2 : 16;
	e = malloc(cap * sizeof *e);
	if (!e)
		return -ENOMEM;
	for (unsigned i = 0; i < r->n; i++)
		e[i] = *at(r, i);
	free(r->e);
	*r = (struct ring){ .e = e, .n = r->n, .cap = cap };
	return 0;
}

static size_t cost(const struct hf_msg *m)
{
	return (size_t)m->props_len + m->body_len + m->from_len + ENTRY_COST;
}

static void ring_pop(struct ring *r)
{
	r->head = (r->head + 1) & (r->cap - 1);
	if (--r->n == 0) {	/* an idle child gives its memory back */
		free(r->e);
		*r = (struct ring){ 0 };
	}
}

static bool has_work(const struct child *c)
{
	return c->ready.n || c->n_blocks;
}

static unsigned window(const struct child *c)
{
	return c->closes >= CLOSES_ALONE ? 1 : HF_PUMP_WINDOW;
}

static void schedule(struct hf_pump *p, struct child *c)
{
	if (!has_work(c) || p->closing)
		return;
	if (!c->sendable) {
		if (!c->wanted) {
			c->wanted = true;
			p->ops->want_session(p->arg, c->id, hf_store_child_name(p->store, c->id));
		}
		return;
	}
	if (c->blocked || c->n_flight >= window(c))
		return;
	if (!hf_list_linked(&c->active))
		hf_list_add_tail(&p->active, &c->active);
	hf_task_at_turn_end(p->loop, &p->run_task);
}

static struct child *get_child(struct hf_pump *p, uint32_t id)
{
	const char *name;
	struct child *c;

	if (id < p->cap_ids && p->by_id[id])
		return p->by_id[id];
	name = hf_store_child_name(p->store, id);
	if (!name)
		return NULL;
	if (id >= p->cap_ids) {
		uint32_t cap = hf_max(p->cap_ids * 2, id + 64);
		struct child **by_id = realloc(p->by_id, cap * sizeof *by_id);

		if (!by_id)
			return NULL;
		memset(by_id + p->cap_ids, 0, (cap - p->cap_ids) * sizeof *by_id);
		p->by_id = by_id;
		p->cap_ids = cap;
	}
	c = calloc(1, sizeof *c);
	if (!c || hf_map_put(p->by_name, hf_span_str(name), c) != 0) {
		free(c);
		return NULL;
	}
	hf_list_init(&c->active);
	c->id = id;
	p->by_id[id] = c;
	return c;
}

/* --- what the store removes ------------------------------------------------------------------------------ */
static void on_resolved(struct hf_store_resolve *req)
{
	struct batch *b = hf_container_of(req, struct batch, req);
	struct hf_pump *p = b->pump;

	p->n_outstanding--;
	if (req->err && !p->closing) {	/* the store is down: the records must still leave it, try again */
		b->next = p->failed;
		p->failed = b;
		if (!hf_timer_active(p->retry))
			hf_timer_start(p->retry, 1000, 0);
		return;
	}
	if (p->idle || p->closing) {
		free(b);
		return;
	}
	b->next = NULL;
	p->idle = b;
}

static void post(struct hf_pump *p, struct batch *b)
{
	p->n_outstanding++;
	hf_store_resolve(p->store, &b->req);
}

static void on_retry(void *arg)
{
	struct hf_pump *p = arg;

	while (p->failed) {
		struct batch *b = p->failed;

		p->failed = b->next;
		post(p, b);
	}
}

static void flush(void *arg)
{
	struct hf_pump *p = arg;
	struct batch *b = p->filling;

	p->filling = NULL;
	if (b && b->req.n)
		post(p, b);
}

static void resolve(struct hf_pump *p, const struct child *c, uint64_t seq, enum hf_outcome outcome)
{
	struct batch *b = p->filling;

	if (!b) {
		b = p->idle ? p->idle : malloc(sizeof *b);
		p->idle = NULL;
		if (!b) {
			hf_log(HF_LOG_ERR, "pump.memory", "a delivered record stays stored: it will be sent again after a restart");
			return;
		}
		memset(&b->req, 0, sizeof b->req);
		b->req.reply_to = p->inbox;
		b->req.done = on_resolved;
		b->req.items = b->items;
		b->pump = p;
		p->filling = b;
	}
	b->items[b->req.n++] = (struct hf_resolved){ .seq = seq, .child = c->id, .cls = HF_CLASS_DEFAULT,
						     .outcome = (uint8_t)outcome };
	if (b->req.n == RESOLVE_MAX)
		flush(p);
	else
		hf_task_at_turn_end(p->loop, &p->flush_task);
}

/* --- filling ready lists ---------------------------------------------------------------------------------- */
static int push_ready(struct hf_pump *p, struct child *c, uint64_t seq, uint64_t expiry_ms, struct hf_msg *msg)
{
	if (ring_room(&c->ready) != 0)
		return -ENOMEM;
	*at(&c->ready, c->ready.n) = (struct entry){ .seq = seq, .expiry_ms = expiry_ms, .msg = msg };
	c->ready.n++;
	c->next_read = seq + 1;
	p->ready_bytes += cost(msg);
	return 0;
}

static int count_block(struct child *c, uint64_t no, uint32_t n)
{
	if (c->n_blocks && c->blocks[c->n_blocks - 1].no >= no) {
		c->blocks[c->n_blocks - 1].n += n;
		return 0;
	}
	if (c->n_blocks == c->cap_blocks) {
		unsigned cap = c->cap_blocks ? c->cap_blocks * 2 : 4;
		void *blocks = realloc(c->blocks, cap * sizeof *c->blocks);

		if (!blocks)
			return -ENOMEM;
		c->blocks = blocks;
		c->cap_blocks = cap;
	}
	c->blocks[c->n_blocks].no = no;
	c->blocks[c->n_blocks++].n = n;
	return 0;
}

static bool read_wants(void *arg, uint32_t id, uint64_t seq)
{
	struct hf_pump *p = arg;
	const struct child *c = id < p->cap_ids ? p->by_id[id] : NULL;

	return !p->read_full && c && c->n_blocks && c->blocks[0].no == p->reading && seq >= c->next_read;
}

static void on_read(void *arg, struct hf_record *rec)
{
	struct hf_pump *p = arg;

	if (p->read_full || push_ready(p, p->by_id[rec->child], rec->seq, rec->expiry_ms, rec->msg) != 0) {
		p->read_full = true;	/* the rest of the block is read later */
		hf_msg_unref(&rec->msg);
		return;
	}
	p->stats.read_back++;
	/* twice the bound at most: one read is 1 MiB, and a child with an empty list must always get something */
	p->read_full = p->ready_bytes > READY_BYTES + (1u << 20);
}

static void drop_first_block(struct child *c)
{
	c->n_blocks--;
	memmove(&c->blocks[0], &c->blocks[1], c->n_blocks * sizeof c->blocks[0]);
	if (c->n_blocks == 0) {
		free(c->blocks);
		c->blocks = NULL;
		c->cap_blocks = 0;
	}
}

/* Reads on in the block that c needs first, for every child whose turn is in that block. */
static void fill(struct hf_pump *p, struct child *c)
{
	uint64_t no = c->blocks[0].no, from = no * HF_STORE_BLOCK, to = from + HF_STORE_BLOCK, next;
	const struct hf_store_reader reader = { .want = read_wants, .fn = on_read, .arg = p };
	int r;

	p->reading = no;
	p->read_full = false;
	r = hf_store_read(p->store, HF_CLASS_DEFAULT, from, to, HF_STORE_BLOCK,
			  &reader, &next);
	if (r != 0) {
		static struct hf_log_limit limit;

		hf_log_limited(&limit, HF_LOG_ERR, "pump.read", "block %llu: %s", (unsigned long long)no, hf_strerror(r));
		return;
	}
	for (uint32_t i = 0; i < p->cap_ids; i++) {
		struct child *o = p->by_id[i];

		if (!o || !o->n_blocks || o->blocks[0].no != no)
			continue;
		if (next >= to && !p->read_full)
			drop_first_block(o);
		if (o->ready.n)
			schedule(p, o);
	}
}

/* --- sending ------------------------------------------------------------------------------------------------ */
static bool send_head(struct hf_pump *p, struct child *c, uint64_t now_ms)
{
	struct entry e = *at(&c->ready, 0);

	if (e.expiry_ms && e.expiry_ms <= now_ms) {
		resolve(p, c, e.seq, HF_EXPIRED);
		p->ready_bytes -= cost(e.msg);
		hf_msg_unref(&e.msg);
		ring_pop(&c->ready);
		return true;
	}
	if (p->ops->send(p->arg, c->id, e.seq, e.msg, e.dup) != 0) {
		c->blocked = true;
		return false;
	}
	p->stats.sent++;
	p->stats.resent += e.dup;
	p->stats.in_flight++;
	c->deficit -= (int64_t)cost(e.msg);
	p->ready_bytes -= cost(e.msg);
	e.sent_ms = hf_loop_now_ms(p->loop);
	c->flight[c->n_flight++] = e;
	ring_pop(&c->ready);
	return true;
}

static void run(void *arg)
{
	struct hf_pump *p = arg;
	uint64_t now_ms = hf_store_now_ms(p->store);
	unsigned fills = 0, n = 0;

	while (!hf_list_empty(&p->active) && n++ < 4096) {
		struct child *c = hf_container_of(p->active.next, struct child, active);

		hf_list_del(&c->active);
		if (!c->sendable || c->blocked)
			continue;
		if (c->ready.n == 0 && c->n_blocks) {
			if (fills++ == 2 || p->ready_bytes > 2 * READY_BYTES) {	/* let the loop breathe */
				hf_list_add_head(&p->active, &c->active);
				break;
			}
			fill(p, c);
			now_ms = hf_store_now_ms(p->store);
		}
		c->deficit = hf_min(c->deficit + QUANTUM, (int64_t)QUANTUM * 32);
		while (c->ready.n && c->n_flight < window(c) && c->deficit > 0 && send_head(p, c, now_ms))
			;
		if (has_work(c) && !c->blocked && c->n_flight < window(c) && !hf_list_linked(&c->active))
			hf_list_add_tail(&p->active, &c->active);
		if (!has_work(c))
			c->deficit = 0;
	}
	if (!hf_list_empty(&p->active))
		hf_task_next_turn(p->loop, &p->run_task);
}

/* --- from the store ------------------------------------------------------------------------------------------- */
static void remove_gone(struct hf_pump *p, struct child *c, uint64_t seq)
{
	for (unsigned i = 0; i < c->ready.n; i++) {
		struct entry *e = at(&c->ready, i);

		if (e->seq > seq)
			return;
		if (e->seq != seq)
			continue;
		p->ready_bytes -= cost(e->msg);
		hf_msg_unref(&e->msg);
		for (; i > 0; i--)	/* it is nearly always the first */
			*at(&c->ready, i) = *at(&c->ready, i - 1);
		ring_pop(&c->ready);
		return;
	}
}

static void on_item(struct hf_pump *p, struct hf_notice_item *it)
{
	struct child *c = get_child(p, it->child);

	if (!c) {
		hf_msg_unref(&it->msg);
		return;
	}
	if (it->gone) {
		remove_gone(p, c, it->seq);
		return;
	}
	/* seen already: by the scan at start or by a read that overtook this notice */
	if (it->seq < p->backlog_end || it->seq < c->next_read) {
		hf_msg_unref(&it->msg);
		return;
	}
	if (c->n_blocks == 0 && p->ready_bytes < READY_BYTES &&
	    push_ready(p, c, it->seq, it->expiry_ms, it->msg) == 0) {
		it->msg = NULL;
	} else {
		hf_msg_unref(&it->msg);
		if (count_block(c, it->seq / HF_STORE_BLOCK, 1) != 0)
			hf_log(HF_LOG_ERR, "pump.memory", "record %llu waits for a restart", (unsigned long long)it->seq);
	}
	schedule(p, c);
}

static void on_notice(struct hf_mail *mail)
{
	struct hf_store_notice *n = hf_container_of(mail, struct hf_store_notice, mail);
	struct hf_pump *p = n->arg;

	for (unsigned i = 0; i < n->n; i++)
		on_item(p, &n->items[i]);
	free(n);
}

static void on_backlog(void *arg, uint32_t id, uint8_t cls, uint64_t block, uint32_t n, uint64_t bytes)
{
	struct child *c = get_child(arg, id);

	(void)cls;
	(void)bytes;
	if (!c || count_block(c, block, n) != 0)
		hf_log(HF_LOG_ERR, "pump.memory", "part of the backlog waits for a restart");
}

/* --- life --------------------------------------------------------------------------------------------------- */
int hf_pump_create(struct hf_loop *loop, struct hf_store *store, struct hf_inbox *inbox, const struct hf_pump_ops *ops,
		   void *arg, struct hf_pump **ret_pump)
{
	struct hf_pump *p = calloc(1, sizeof *p);
	int r;

	if (!p)
		return -ENOMEM;
	p->loop = loop;
	p->store = store;
	p->inbox = inbox;
	p->ops = ops;
	p->arg = arg;
	hf_list_init(&p->active);
	hf_task_init(&p->run_task, run, p);
	hf_task_init(&p->flush_task, flush, p);
	r = hf_map_create(&p->by_name);
	if (r == 0)
		r = hf_timer_create(loop, on_retry, p, &p->retry);
	if (r == 0) {
		hf_store_set_pump(store, inbox, on_notice, p);
		r = hf_store_backlog(store, on_backlog, p, &p->backlog_end);
	}
	if (r != 0) {
		hf_pump_destroy(&p);
		return r;
	}
	for (uint32_t i = 0; i < p->cap_ids; i++)
		if (p->by_id[i])
			schedule(p, p->by_id[i]);
	*ret_pump = p;
	return 0;
}

static void free_child(struct child *c)
{
	for (unsigned i = 0; i < c->ready.n; i++)
		hf_msg_unref(&at(&c->ready, i)->msg);
	for (unsigned i = 0; i < c->n_flight; i++)
		hf_msg_unref(&c->flight[i].msg);
	free(c->ready.e);
	free(c->blocks);
	free(c);
}

void hf_pump_stop(struct hf_pump *p)
{
	hf_task_cancel(&p->run_task);
	hf_task_cancel(&p->flush_task);
	flush(p);
	on_retry(p);
	p->closing = true;
}

bool hf_pump_idle(const struct hf_pump *p)
{
	return p->n_outstanding == 0;
}

void hf_pump_destroy(struct hf_pump **pump)
{
	struct hf_pump *p = *pump;

	if (!p)
		return;
	hf_timer_destroy(&p->retry);
	for (uint32_t i = 0; i < p->cap_ids; i++)
		if (p->by_id[i])
			free_child(p->by_id[i]);
	free(p->by_id);
	free(p->filling);
	free(p->idle);
	hf_map_destroy(&p->by_name);
	free(p);
	*pump = NULL;
}

uint32_t hf_pump_child(struct hf_pump *p, struct hf_span ident)
{
	const struct child *c = hf_map_get(p->by_name, ident);

	return c ? c->id : 0;
}

static struct child *known(const struct hf_pump *p, uint32_t id)
{
	return id < p->cap_ids ? p->by_id[id] : NULL;
}

void hf_pump_session_up(struct hf_pump *p, uint32_t id)
{
	struct child *c = known(p, id);

	if (!c)
		return;
	c->sendable = true;
	c->wanted = c->blocked = false;
	schedule(p, c);
}

void hf_pump_session_lost(struct hf_pump *p, uint32_t id)
{
	struct child *c = known(p, id);

	if (!c)
		return;
	c->sendable = c->wanted = c->blocked = false;
	if (hf_list_linked(&c->active))
		hf_list_del(&c->active);
	while (c->n_flight) {	/* back to the head, in order, before anything new */
		struct entry e = c->flight[--c->n_flight];

		p->stats.in_flight--;
		if (ring_room(&c->ready) != 0) {
			hf_log(HF_LOG_ERR, "pump.memory", "record %llu waits for a restart", (unsigned long long)e.seq);
			hf_msg_unref(&e.msg);
			continue;
		}
		e.dup = true;
		p->ready_bytes += cost(e.msg);
		c->ready.head = (c->ready.head + c->ready.cap - 1) & (c->ready.cap - 1);
		c->ready.n++;
		*at(&c->ready, 0) = e;
	}
	schedule(p, c);
}

void hf_pump_acked(struct hf_pump *p, uint32_t id, uint64_t seq)
{
	struct child *c = known(p, id);
	unsigned i = 0;

	while (c && i < c->n_flight && c->flight[i].seq != seq)
		i++;
	if (!c || i == c->n_flight)
		return;
	resolve(p, c, seq, HF_DELIVERED);
	hf_msg_unref(&c->flight[i].msg);
	c->n_flight--;
	memmove(&c->flight[i], &c->flight[i + 1], (c->n_flight - i) * sizeof c->flight[0]);
	p->stats.in_flight--;
	c->closes = 0;
	schedule(p, c);
}

void hf_pump_closed_by_hub(struct hf_pump *p, uint32_t id)
{
	struct child *c = known(p, id);
	struct entry e;

	if (!c || c->n_flight == 0 || ++c->closes < CLOSES_REFUSE)
		return;
	e = c->flight[0];
	hf_log(HF_LOG_ERR, "pump.refused", "%s: the hub closed %u times on record %llu: given up",
	       hf_store_child_name(p->store, id), CLOSES_REFUSE, (unsigned long long)e.seq);
	resolve(p, c, e.seq, HF_REFUSED_BY_HUB);
	hf_msg_unref(&e.msg);
	c->n_flight--;
	memmove(&c->flight[0], &c->flight[1], c->n_flight * sizeof c->flight[0]);
	p->stats.in_flight--;
	c->closes = 0;
}

void hf_pump_kick(struct hf_pump *p, uint32_t id)
{
	struct child *c = known(p, id);

	if (!c)
		return;
	c->blocked = false;
	schedule(p, c);
}

bool hf_pump_wants_session(const struct hf_pump *p, uint32_t id)
{
	const struct child *c = known(p, id);

	return c && (has_work(c) || c->n_flight);
}

uint64_t hf_pump_oldest_unanswered_ms(const struct hf_pump *p, uint32_t id)
{
	const struct child *c = known(p, id);

	return c && c->n_flight ? hf_loop_now_ms(p->loop) - c->flight[0].sent_ms + 1 : 0;
}

void hf_pump_stats(const struct hf_pump *p, struct hf_pump_stats *ret)
{
	*ret = p->stats;
	ret->ready_bytes = p->ready_bytes;
}
