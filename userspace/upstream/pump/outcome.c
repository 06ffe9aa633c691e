/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Records that leave the queue: collected over a turn, told to the store, kept until the store confirms. */
#include "core/util.h"
#include "store/format.h"
#include "upstream/pump/pump_int.h"
#include <errno.h>
#include <stdlib.h>

#define BATCH_MAX 2048

struct hf_pump_batch {
	struct hf_store_resolve req;
	struct hf_pump *pump;
	struct hf_pump_batch *next;
	struct hf_resolved items[BATCH_MAX];
};

static void confirmed(struct hf_pump *p, const struct hf_resolved *item)
{
	struct hf_pump_child *c = p->by_id[item->child];

	if (--c->n_resolving == 0 && c->wait_resolved)
		hf_pump_schedule(p, c);
}

static void on_resolved(struct hf_store_resolve *req)
{
	struct hf_pump_batch *b = hf_container_of(req, struct hf_pump_batch, req);
	struct hf_pump *p = b->pump;

	p->n_outstanding--;
	if (req->err && !p->closing) {	/* the store is down: the records must still leave it, try again */
		b->next = p->failed;
		p->failed = b;
		hf_pump_retry_later(p);
		return;
	}
	for (unsigned i = 0; i < req->n; i++)
		confirmed(p, &req->items[i]);
	if (p->spare || p->closing)
		free(b);
	else
		p->spare = b;
}

static void post(struct hf_pump *p, struct hf_pump_batch *b)
{
	p->n_outstanding++;
	hf_store_resolve(p->store, &b->req);
}

void hf_outcome_retry(struct hf_pump *p)
{
	while (p->failed) {
		struct hf_pump_batch *b = p->failed;

		p->failed = b->next;
		post(p, b);
	}
}

void hf_outcome_flush(void *arg)
{
	struct hf_pump *p = arg;
	struct hf_pump_batch *b = hf_take(p->filling);

	if (b)
		post(p, b);
}

int hf_outcome_init(struct hf_pump *p)
{
	p->spare = malloc(sizeof *p->spare);
	return p->spare ? 0 : -ENOMEM;
}

void hf_outcome_fini(struct hf_pump *p)
{
	while (p->failed) {
		struct hf_pump_batch *b = p->failed;

		p->failed = b->next;
		free(b);
	}
	free(p->filling);
	free(p->spare);
}

static struct hf_pump_batch *begin_batch(struct hf_pump *p)
{
	struct hf_pump_batch *b = p->spare ? hf_take(p->spare) : malloc(sizeof *b);

	if (!b)
		return NULL;
	memset(&b->req, 0, sizeof b->req);
	b->req.reply_to = p->inbox;
	b->req.done = on_resolved;
	b->req.items = b->items;
	b->pump = p;
	return b;
}

int hf_outcome_add(struct hf_pump *p, struct hf_pump_child *c, uint64_t seq, enum hf_outcome outcome)
{
	struct hf_pump_batch *b = p->filling ? p->filling : begin_batch(p);

	if (!b) {
		hf_pump_retry_later(p);
		return -ENOMEM;
	}
	p->filling = b;
	b->items[b->req.n++] = (struct hf_resolved){ .seq = seq, .child = c->id, .cls = HF_CLASS_DEFAULT,
						     .outcome = (uint8_t)outcome };
	c->n_resolving++;
	p->progress_ms = hf_loop_now_ms(p->loop);
	if (b->req.n == BATCH_MAX)
		hf_outcome_flush(p);
	else
		hf_task_at_turn_end(p->loop, &p->flush_task);
	return 0;
}
