/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Sending, answers, and what happens to unanswered messages when a session ends. */
#include "core/log.h"
#include "core/util.h"
#include "store/format.h"
#include "upstream/pump/pump_int.h"
#include <holdfast/err.h>

enum {
	ENTRY_COST = 128,	/* beside the bytes of a message */
	CLOSES_ALONE = 3, CLOSES_REFUSE = 5,
};

size_t hf_flight_cost(const struct hf_msg *m)
{
	return (size_t)m->props_len + m->body_len + m->from_len + ENTRY_COST;
}

unsigned hf_pump_window(const struct hf_pump_child *c)
{
	return c->closes >= CLOSES_ALONE ? 1 : HF_PUMP_WINDOW;
}

void hf_flight_release(struct hf_pump *p, struct hf_pump_child *c, struct hf_msg **msg)
{
	size_t n = hf_flight_cost(*msg);

	c->held -= n;
	p->held -= n;
	hf_msg_unref(msg);
	if (!hf_list_empty(&p->starved))
		hf_task_at_turn_end(p->loop, &p->run_task);
}

/* --- sending ---------------------------------------------------------------------------------------------- */

/* The head of the ready list goes, unsent. False: the store cannot be told now. */
static bool drop_head(struct hf_pump *p, struct hf_pump_child *c, enum hf_outcome outcome)
{
	struct hf_pump_entry e = *hf_ring_at(&c->ready, 0);

	if (hf_outcome_add(p, c, e.seq, outcome) != 0) {
		c->blocked = true;
		return false;
	}
	hf_ring_pop(&c->ready);
	hf_flight_release(p, c, &e.msg);
	return true;
}

static bool not_sent(struct hf_pump *p, struct hf_pump_child *c, uint64_t seq, int err)
{
	static struct hf_log_limit limit;

	if (err == HF_ELIMIT) {
		p->stats.unsendable++;
		hf_log_limited(&limit, HF_LOG_ERR, "pump.unsendable", "%s: record %llu cannot be sent: given up",
			       hf_store_child_name(p->store, c->id), (unsigned long long)seq);
		return drop_head(p, c, HF_REFUSED_BY_HUB);
	}
	c->blocked = true;
	if (err != HF_EFULL)
		hf_pump_retry_later(p);
	return false;
}

bool hf_flight_send_head(struct hf_pump *p, struct hf_pump_child *c, uint64_t now_ms)
{
	struct hf_pump_entry e = *hf_ring_at(&c->ready, 0);
	int r;

	if (e.expiry_ms && e.expiry_ms <= now_ms)
		return drop_head(p, c, HF_EXPIRED);
	r = p->ops->send(p->arg, c->id, e.seq, e.msg, e.dup);
	if (r != 0)
		return not_sent(p, c, e.seq, r);
	p->stats.sent++;
	p->stats.resent += e.dup;
	p->stats.in_flight++;
	c->deficit -= (int64_t)hf_flight_cost(e.msg);
	p->progress_ms = e.sent_ms = hf_loop_now_ms(p->loop);
	c->flight[c->n_flight++] = e;
	hf_ring_pop(&c->ready);
	return true;
}

/* --- answers ---------------------------------------------------------------------------------------------- */

static void leave_flight(struct hf_pump *p, struct hf_pump_child *c, unsigned i)
{
	hf_flight_release(p, c, &c->flight[i].msg);
	c->n_flight--;
	memmove(&c->flight[i], &c->flight[i + 1], (c->n_flight - i) * sizeof c->flight[0]);
	p->stats.in_flight--;
}

void hf_flight_retry(struct hf_pump *p, struct hf_pump_child *c)
{
	for (unsigned i = 0; i < c->n_flight;) {
		if (c->flight[i].answered && hf_outcome_add(p, c, c->flight[i].seq, HF_DELIVERED) == 0)
			leave_flight(p, c, i);
		else
			i++;
	}
}

void hf_pump_acked(struct hf_pump *p, uint32_t id, uint64_t seq)
{
	struct hf_pump_child *c = id < p->cap_ids ? p->by_id[id] : NULL;
	unsigned i = 0;

	while (c && i < c->n_flight && c->flight[i].seq != seq)
		i++;
	if (!c || i == c->n_flight || c->flight[i].answered)
		return;
	if (seq == c->suspect)
		c->suspect = c->closes = 0;
	if (hf_outcome_add(p, c, seq, HF_DELIVERED) == 0)
		leave_flight(p, c, i);
	else
		c->flight[i].answered = true;
	hf_pump_schedule(p, c);
}

/* --- the session is gone ---------------------------------------------------------------------------------- */

static void back_to_disk(struct hf_pump *p, struct hf_pump_child *c, struct hf_pump_entry *e)
{
	if (hf_backlog_add(c, e->seq / HF_STORE_BLOCK) != 0) {
		p->must_scan = true;
		hf_pump_retry_later(p);
	}
	hf_flight_release(p, c, &e->msg);
}

/* A child without a session holds no memory: its records are read again when it has one. Those that were resolved, but
 * not yet removed, must not be read with them. */
void hf_flight_give_back(struct hf_pump *p, struct hf_pump_child *c)
{
	if (c->n_flight) {
		c->next_read = c->flight[0].seq;
		c->dup_until = hf_max(c->dup_until, c->flight[c->n_flight - 1].seq + 1);
	} else if (c->ready.n) {
		c->next_read = hf_ring_at(&c->ready, 0)->seq;
	}
	c->wait_resolved = true;
	for (unsigned i = 0; i < c->n_flight; i++)
		back_to_disk(p, c, &c->flight[i]);
	p->stats.in_flight -= c->n_flight;
	c->n_flight = 0;
	while (c->ready.n) {
		back_to_disk(p, c, hf_ring_at(&c->ready, 0));
		hf_ring_pop(&c->ready);
	}
	c->deficit = 0;
}

void hf_pump_closed_by_hub(struct hf_pump *p, uint32_t id, unsigned link)
{
	struct hf_pump_child *c = id < p->cap_ids ? p->by_id[id] : NULL;

	if (!c || c->n_flight == 0)
		return;
	if (c->suspect != c->flight[0].seq)
		c->closes = 0;
	c->suspect = c->flight[0].seq;
	c->closed_on = link;
}

/* The close before was the hub's will if the uplink has been there ever since. */
static void judge_close(struct hf_pump *p, struct hf_pump_child *c, unsigned link)
{
	unsigned closed_on = c->closed_on;

	c->closed_on = 0;
	if (closed_on != link || ++c->closes < CLOSES_REFUSE)
		return;
	if (hf_outcome_add(p, c, c->suspect, HF_REFUSED_BY_HUB) != 0) {
		c->closes--;
		return;
	}
	hf_log(HF_LOG_ERR, "pump.refused", "%s: the hub ended the session %u times on record %llu: given up",
	       hf_store_child_name(p->store, c->id), CLOSES_REFUSE, (unsigned long long)c->suspect);
	c->wait_resolved = true;	/* it must not be read again */
	c->suspect = c->closes = 0;
}

void hf_pump_session_up(struct hf_pump *p, uint32_t id, unsigned link)
{
	struct hf_pump_child *c = id < p->cap_ids ? p->by_id[id] : NULL;

	if (!c)
		return;
	p->n_sendable += !c->sendable;
	c->sendable = true;
	c->wanted = c->blocked = false;
	judge_close(p, c, link);
	hf_pump_schedule(p, c);
}

void hf_pump_session_lost(struct hf_pump *p, uint32_t id)
{
	struct hf_pump_child *c = id < p->cap_ids ? p->by_id[id] : NULL;

	if (!c)
		return;
	p->n_sendable -= c->sendable;
	c->sendable = c->wanted = c->blocked = c->is_starved = false;
	hf_list_del(&c->node);
	hf_backlog_pass_on(p, c);
	hf_flight_give_back(p, c);
	hf_pump_schedule(p, c);
}
