/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Children and their turns; what the store tells; the watchdog. How it all fits together: pump_int.h. */
#include "core/log.h"
#include "core/util.h"
#include "upstream/pump/pump_int.h"
#include "upstream/upstream.h"
#include <errno.h>
#include <holdfast/err.h>
#include <stdlib.h>

enum {
	QUANTUM = 16 * 1024,
	TURN_CHILDREN = 4096, TURN_READS = 2,	/* then the loop breathes */
	RETRY_MS = 1000,
};

/* --- turns ------------------------------------------------------------------------------------------------ */

static bool has_work(const struct hf_pump_child *c)
{
	return c->ready.n || c->n_blocks;
}

void hf_pump_retry_later(struct hf_pump *p)
{
	if (!hf_timer_active(p->retry) && !p->closing)
		hf_timer_start(p->retry, RETRY_MS, 0);
}

void hf_pump_schedule(struct hf_pump *p, struct hf_pump_child *c)
{
	if (!has_work(c) || p->closing)
		return;
	if (!c->sendable) {
		if (c->wanted)
			return;
		c->wanted = true;
		if (p->ops->want_session(p->arg, c->id, hf_store_child_name(p->store, c->id)) != 0) {
			c->wanted = false;
			hf_pump_retry_later(p);
		}
		return;
	}
	if (c->blocked || c->n_flight >= hf_pump_window(c))
		return;
	if (c->is_starved && c->ready.n) {	/* another child's read found some for it, too */
		hf_list_del(&c->node);
		c->is_starved = false;
	}
	if (!hf_list_linked(&c->node))
		hf_list_add_tail(&p->active, &c->node);
	hf_task_at_turn_end(p->loop, &p->run_task);
}

static void send_quantum(struct hf_pump *p, struct hf_pump_child *c, uint64_t now_ms)
{
	c->deficit = hf_min(c->deficit + QUANTUM, (int64_t)QUANTUM * 32);
	while (c->ready.n && c->n_flight < hf_pump_window(c) && c->deficit > 0 && hf_flight_send_head(p, c, now_ms))
		;
	if (!has_work(c))
		c->deficit = 0;
}

static void run(void *arg)
{
	struct hf_pump *p = arg;
	unsigned reads = 0;

	hf_backlog_wake_starved(p);
	for (unsigned n = 0; n < TURN_CHILDREN && !hf_list_empty(&p->active); n++) {
		struct hf_pump_child *c = hf_container_of(p->active.next, struct hf_pump_child, node);

		if (c->ready.n == 0 && c->n_blocks && reads++ == TURN_READS)
			break;
		hf_list_del(&c->node);
		if (!c->blocked && (c->ready.n || !c->n_blocks || hf_backlog_refill(p, c) == HF_REFILL_DONE)) {
			send_quantum(p, c, hf_store_now_ms(p->store));
			hf_pump_schedule(p, c);
		}
		hf_backlog_pass_on(p, c);	/* read or not, it had its turn */
		hf_backlog_wake_starved(p);
	}
	hf_backlog_wake_starved(p);
	if (!hf_list_empty(&p->active))
		hf_task_next_turn(p->loop, &p->run_task);
}

static void on_retry(void *arg)
{
	struct hf_pump *p = arg;

	hf_outcome_retry(p);
	if (p->must_scan)
		hf_backlog_scan(p);
	for (uint32_t i = 0; i < p->cap_ids; i++) {
		struct hf_pump_child *c = p->by_id[i];

		if (!c)
			continue;
		hf_flight_retry(p, c);
		c->blocked = false;	/* one whose connection is full finds out again */
		hf_pump_schedule(p, c);
	}
}

/* --- children --------------------------------------------------------------------------------------------- */

static int grow_ids(struct hf_pump *p, uint32_t id)
{
	uint32_t cap = hf_max(p->cap_ids * 2, id + 64);
	struct hf_pump_child **by_id = realloc(p->by_id, cap * sizeof(struct hf_pump_child *));

	if (!by_id)
		return -ENOMEM;
	memset(by_id + p->cap_ids, 0, (cap - p->cap_ids) * sizeof(struct hf_pump_child *));
	p->by_id = by_id;
	p->cap_ids = cap;
	return 0;
}

struct hf_pump_child *hf_pump_get(struct hf_pump *p, uint32_t id)
{
	struct hf_pump_child *c;
	const char *name;

	if (id < p->cap_ids && p->by_id[id])
		return p->by_id[id];
	name = hf_store_child_name(p->store, id);
	if (!name || (id >= p->cap_ids && grow_ids(p, id) != 0))
		return NULL;
	c = calloc(1, sizeof *c);
	if (!c || hf_map_put(p->by_name, hf_span_str(name), c) != 0) {
		free(c);
		return NULL;
	}
	hf_list_init(&c->node);
	c->id = id;
	p->by_id[id] = c;
	return c;
}

static struct hf_pump_child *known(const struct hf_pump *p, uint32_t id)
{
	return id < p->cap_ids ? p->by_id[id] : NULL;
}

static void free_child(struct hf_pump_child *c)
{
	while (c->ready.n) {
		hf_msg_unref(&hf_ring_at(&c->ready, 0)->msg);
		hf_ring_pop(&c->ready);
	}
	for (unsigned i = 0; i < c->n_flight; i++)
		hf_msg_unref(&c->flight[i].msg);
	free(c->blocks);
	free(c);
}

/* --- from the store --------------------------------------------------------------------------------------- */

static void remove_gone(struct hf_pump *p, struct hf_pump_child *c, uint64_t seq)
{
	for (unsigned i = 0; i < c->ready.n && hf_ring_at(&c->ready, i)->seq <= seq; i++) {
		struct hf_msg *msg = hf_ring_at(&c->ready, i)->msg;

		if (hf_ring_at(&c->ready, i)->seq != seq)
			continue;
		hf_ring_remove(&c->ready, i);
		hf_flight_release(p, c, &msg);
		return;
	}
}

static void on_item(struct hf_pump *p, struct hf_notice_item *it)
{
	struct hf_pump_child *c = hf_pump_get(p, it->child);

	if (!c) {
		p->must_scan = true;
		hf_pump_retry_later(p);
	} else if (it->gone) {
		remove_gone(p, c, it->seq);
	} else if (it->seq >= p->backlog_end && it->seq >= c->next_read) {
		hf_backlog_take(p, c, it->seq, it->expiry_ms, &it->msg);
		hf_pump_schedule(p, c);
	}	/* else a scan, or a read that overtook this notice, has seen it already */
}

static void on_notice(struct hf_mail *mail)
{
	struct hf_store_notice *n = hf_container_of(mail, struct hf_store_notice, mail);
	struct hf_pump *p = n->arg;

	for (unsigned i = 0; i < n->n; i++)
		on_item(p, &n->items[i]);
	hf_store_notice_free(n);
}

/* --- watchdog --------------------------------------------------------------------------------------------- */

static bool has_sendable_work(const struct hf_pump *p)
{
	for (uint32_t i = 0; i < p->cap_ids; i++) {
		const struct hf_pump_child *c = p->by_id[i];

		if (c && c->sendable && (has_work(c) || c->n_flight))
			return true;
	}
	return false;
}

uint64_t hf_pump_watch(struct hf_pump *p)
{
	uint64_t now = hf_loop_now_ms(p->loop);

	if (hf_store_take_lost_notice(p->store)) {
		p->must_scan = true;
		hf_pump_retry_later(p);
	}
	if (!has_sendable_work(p))
		p->progress_ms = now;
	p->stats.stalled_ms = now - p->progress_ms;
	if (p->stats.stalled_ms < HF_STALLED_ALARM_MS) {
		if (p->alarmed)
			hf_log(HF_LOG_NOTICE, "pump.resumed", "messages leave again");
		p->alarmed = false;
	} else if (!p->alarmed) {
		p->alarmed = true;
		hf_log(HF_LOG_ERR, "pump.stalled", "no message left for %u s although children with a session have some: "
		       "%llu in flight, %zu bytes held", HF_STALLED_ALARM_MS / 1000, (unsigned long long)p->stats.in_flight, p->held);
	}
	return p->stats.stalled_ms;
}

/* --- life ------------------------------------------------------------------------------------------------- */

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
	p->progress_ms = hf_loop_now_ms(loop);
	hf_list_init(&p->active);
	hf_list_init(&p->starved);
	hf_task_init(&p->run_task, run, p);
	hf_task_init(&p->flush_task, hf_outcome_flush, p);
	r = hf_map_create(&p->by_name);
	if (r == 0)
		r = hf_timer_create(loop, on_retry, p, &p->retry);
	if (r == 0)
		r = hf_timer_create(loop, hf_backlog_on_pause_end, p, &p->read_pause);
	if (r == 0)
		r = hf_outcome_init(p);
	if (r == 0) {
		hf_store_set_pump(store, inbox, on_notice, p);
		r = hf_backlog_scan(p);
	}
	if (r != 0) {
		hf_pump_destroy(&p);
		return r;
	}
	for (uint32_t i = 0; i < p->cap_ids; i++)
		if (p->by_id[i])
			hf_pump_schedule(p, p->by_id[i]);
	*ret_pump = p;
	return 0;
}

void hf_pump_stop(struct hf_pump *p)
{
	hf_task_cancel(&p->run_task);
	hf_task_cancel(&p->flush_task);
	hf_timer_stop(p->retry);
	hf_timer_stop(p->read_pause);
	hf_outcome_flush(p);
	hf_outcome_retry(p);
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
	hf_timer_destroy(&p->read_pause);
	for (uint32_t i = 0; i < p->cap_ids; i++)
		if (p->by_id[i])
			free_child(p->by_id[i]);
	free(p->by_id);
	hf_outcome_fini(p);
	hf_map_destroy(&p->by_name);
	free(p);
	*pump = NULL;
}

/* --- questions -------------------------------------------------------------------------------------------- */

uint32_t hf_pump_child(struct hf_pump *p, struct hf_span ident)
{
	const struct hf_pump_child *c = hf_map_get(p->by_name, ident);

	return c ? c->id : 0;
}

void hf_pump_kick(struct hf_pump *p, uint32_t id)
{
	struct hf_pump_child *c = known(p, id);

	if (!c)
		return;
	c->blocked = false;
	hf_pump_schedule(p, c);
}

bool hf_pump_wants_session(const struct hf_pump *p, uint32_t id)
{
	const struct hf_pump_child *c = known(p, id);

	return c && (has_work(c) || c->n_flight);
}

uint64_t hf_pump_oldest_unanswered_ms(const struct hf_pump *p, uint32_t id)
{
	const struct hf_pump_child *c = known(p, id);

	return c && c->n_flight ? hf_loop_now_ms(p->loop) - c->flight[0].sent_ms + 1 : 0;
}

void hf_pump_stats(const struct hf_pump *p, struct hf_pump_stats *ret)
{
	*ret = p->stats;
	ret->held_bytes = p->held;
}
