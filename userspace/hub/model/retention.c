/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Which events go, oldest first: those over the size budget, before new ones are taken, and those over the age, by the
 * clock. Sequence numbers go on after them; each partition knows where it begins now. */
#include "core/clock.h"
#include "core/log.h"
#include "core/util.h"
#include "hub/metrics.h"
#include "hub/model/model_int.h"

#include <errno.h>
#include <holdfast/err.h>

#define SIZE_SLICE ((size_t)8 << 20)
#define AGE_SLICE 2000		/* events that one look drops */
#define SOON_MS 10		/* until the next look, when there are more */

/* Drops the oldest event if it is from before that time; *ret_stop: it is not. */
static int drop_oldest(struct hub_model *m, int64_t before, size_t *freed, bool *ret_stop)
{
	struct hub_event e;
	struct hf_span value;
	uint8_t key[8];
	int r;

	hub_seq_key(m->first_seq, key);
	r = hf_txn_get(m->event_txn, HUB_T_EVENT, hf_span(key, 8), &value);
	if (r == 0)
		r = hub_event_parse(m->first_seq, value, &e);
	*ret_stop = r == 0 && e.enqueued_ms >= before;
	if (r == 0 && !*ret_stop) {
		m->partitions[e.partition].first = e.partition_seq + 1;
		*freed += value.len + 32;
		r = hf_txn_del(m->event_txn, HUB_T_EVENT, hf_span(key, 8));
	}
	if ((r == 0 && !*ret_stop) || r == HF_ENOTFOUND)
		m->first_seq++;
	return r == HF_ENOTFOUND ? 0 : r;
}

static void dropped(uint64_t n, const char *why)
{
	hf_metric_add(HUB_M_EVENTS_DROPPED, (int64_t)n);
	hf_log(HF_LOG_DEBUG, "hub.retention", "dropped the %llu oldest events: %s", (unsigned long long)n, why);
}

/* Over three quarters are used: pages come back only two commits later, so there must be room meanwhile. */
int hub_retain_size(struct hub_model *m)
{
	struct hf_db_usage u;
	size_t want, freed = 0;
	uint64_t first = m->first_seq;
	bool stop = false;
	int r = hf_db_usage(m->event_txn, &u);

	if (r != 0 || u.used_pages < u.map_pages / 4 * 3)
		return r;
	want = hf_min(m->max_event_bytes / 16, SIZE_SLICE);
	while (r == 0 && freed < want && m->first_seq < m->next_seq)
		r = drop_oldest(m, INT64_MAX, &freed, &stop);
	dropped(m->first_seq - first, "size");
	return r;
}

static bool take_time(void *arg, const struct hub_event *e)
{
	*(int64_t *)arg = e->enqueued_ms;
	return false;
}

static bool oldest_is_due(struct hub_model *m, int64_t before)
{
	int64_t at = INT64_MAX;

	return hub_event_scan(m, m->first_seq, take_time, &at) == 0 && at < before;
}

/* *ret_more: there are more of them than one look may drop. */
static int drop_aged(struct hub_model *m, int64_t before, bool *ret_more)
{
	uint64_t first = m->first_seq;
	bool stop = false;
	size_t freed = 0;
	int r = hub_event_txn(m);

	while (r == 0 && !stop && m->first_seq < m->committed_end && m->first_seq - first < AGE_SLICE)
		r = drop_oldest(m, before, &freed, &stop);
	*ret_more = !stop && m->first_seq < m->committed_end;
	dropped(m->first_seq - first, "age");
	return r;
}

static void on_look(void *arg)
{
	struct hub_model *m = arg;
	int64_t before = hf_clock_wall_ms() - m->max_age_ms;
	bool more = oldest_is_due(m, before);

	if (more && drop_aged(m, before, &more) != 0)
		more = false;	/* the commit of this turn fails and is logged; next time again */
	hf_timer_start(m->retention, more ? SOON_MS : (uint64_t)hf_max(m->max_age_ms / 20, (int64_t)1000), 0);
}

int hub_retention_start(struct hub_model *m)
{
	int r = m->max_age_ms ? hf_timer_create(m->loop, on_look, m, &m->retention) : 0;

	if (m->retention)
		hf_timer_start(m->retention, SOON_MS, 0);
	return r;
}
