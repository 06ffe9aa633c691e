/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Readers of events: one link per partition, as Event Hubs clients attach them (iothub-protocol 3.2).
 *
 * Readers that have something to do stand in a queue. Each gets a slice at a time, and a turn of the loop ends after a
 * bounded number of events, so that no backlog and no number of readers keeps others waiting. */
#include "core/log.h"
#include "core/util.h"
#include "hub/amqp/amqp_int.h"
#include "hub/amqp/amqp_props.h"
#include "hub/amqp/eh_position.h"

#include <errno.h>
#include <holdfast/err.h>
#include <stdio.h>

#define TURN_EVENTS 2048	/* events looked at in a turn */
#define SLICE_EVENTS 512	/* by one reader */
#define SENT_WEIGHT 16		/* sending one is as much work as looking at that many */
#define MAX_READERS 5		/* of a partition in one consumer group, unless there is an owner */
#define NO_EPOCH (-1)
#define STOLEN "amqp:link:stolen"

struct hub_amqp_events {
	struct hub_amqp *head;
	struct hf_list readers, busy;
	struct hf_task task;
	struct hub_amqp_out out;
};

struct reader {
	struct hf_list node, busy_node;
	struct hub_amqp_events *events;
	struct hub_amqp_link *link;
	unsigned partition;
	int64_t epoch;			/* NO_EPOCH or the owner level */
	uint64_t next;			/* sequence number in the hub: everything before it was looked at */
	uint64_t from;			/* sequence number in the partition: earlier ones are not wanted */
	bool has_sent;			/* then `from` is the one after the last that was sent */
};

/* --- reading ---------------------------------------------------------------------------------------------------- */

static void wake(struct reader *r)
{
	struct hub_amqp_events *v = r->events;

	if (!hf_list_empty(&r->busy_node))
		return;
	hf_list_add_tail(&v->busy, &r->busy_node);
	hf_task_next_turn(v->head->loop, &v->task);
}

/* Retention was faster than the reader. */
static void count_missed(const struct reader *r, uint64_t n)
{
	static struct hf_log_limit limit;

	hf_metric_add(HUB_M_EVENTS_MISSED, n);
	hf_log_limited(&limit, HF_LOG_NOTICE, "hub.events.missed", "%s: partition %u: retention dropped %llu events before they were read",
		       hf_conn_peer(hf_amqp_conn(r->link->conn->amqp)), r->partition, (unsigned long long)n);
}

static int send_event(struct reader *r, const struct hub_event *e)
{
	struct hub_amqp_out *out = &r->events->out;
	struct hub_event_tail tail;
	int err;

	if (hf_amqp_credit(r->link->link) <= 0)
		return HF_EFULL;
	hub_event_partition(r->events->head->model, r->partition, &tail);
	err = hub_amqp_out_event(out, e, &tail);
	if (err == 0)
		err = hf_amqp_send(r->link->link, hf_span(NULL, 0), &out->msg, 0);
	if (err != 0)
		return err;
	if (r->has_sent && e->partition_seq > r->from)
		count_missed(r, e->partition_seq - r->from);
	r->has_sent = true;
	r->from = e->partition_seq + 1;
	return 0;
}

struct slice {
	struct reader *r;
	unsigned work;		/* done */
	bool is_over;		/* the reader has more to do */
	bool waits;		/* for credit or verdicts */
	int err;
};

static bool look_at(void *arg, const struct hub_event *e)
{
	struct slice *s = arg;
	struct reader *r = s->r;

	s->work++;
	if (e->partition == r->partition && e->partition_seq >= r->from) {
		s->err = send_event(r, e);
		s->waits = s->err == HF_EFULL;
		if (s->err != 0)
			return false;
		s->work += SENT_WEIGHT;
	}
	r->next = e->seq + 1;
	s->is_over = s->work >= SLICE_EVENTS;
	return !s->is_over;
}

/* How much work it was. The reader is in the queue again if there is more for it. */
static unsigned run_slice(struct reader *r)
{
	struct slice s = { .r = r };
	int err = hub_event_scan(r->events->head->model, r->next, look_at, &s);

	if (err == 0 && !s.waits)
		err = s.err;
	if (err != 0)
		hub_amqp_link_detach(r->link, HUB_M_AMQP_DETACHED, "amqp:internal-error", hf_strerror(err));
	else if (s.is_over)
		wake(r);
	return s.work + 1;
}

static void on_turn(void *arg)
{
	struct hub_amqp_events *v = arg;

	for (unsigned work = 0; work < TURN_EVENTS && !hf_list_empty(&v->busy);) {
		struct reader *r = hf_container_of(v->busy.next, struct reader, busy_node);

		hf_list_del(&r->busy_node);
		work += run_slice(r);
	}
	if (!hf_list_empty(&v->busy))
		hf_task_next_turn(v->head->loop, &v->task);
}

static void on_new_events(void *arg)
{
	struct hub_amqp_events *v = arg;
	struct hf_list *pos;

	hf_list_for_each(pos, &v->readers)
		wake(hf_container_of(pos, struct reader, node));
}

static void on_credit(struct hub_amqp_link *l)
{
	wake(l->arg);
}

/* --- where to begin ------------------------------------------------------------------------------------------------ */

static bool beyond(struct hub_amqp_link *l, const char *what, int64_t from, uint64_t end)
{
	char text[160];

	if (from < 0 || (uint64_t)from <= end)
		return false;
	snprintf(text, sizeof text, "the supplied %s is invalid: the last %s in the system is %lld", what, what, (long long)end - 1);
	hub_amqp_link_refuse(l, "com.microsoft:argument-error", text);
	return true;
}

static bool find_start(struct hub_amqp_link *l, struct reader *r)
{
	struct hub_model *m = l->conn->head->model;
	hf_autobuf struct hf_buf text = HF_BUF_INIT(1024);
	struct hub_eh_position p = { .by = HUB_EH_ALL };
	struct hub_event_position at = { .partition = r->partition };
	struct hub_event_tail tail;

	if (hf_amqp_link_selector(l->link, &text) && hub_eh_position_parse(hf_buf_span(&text), &p) != 0) {
		hub_amqp_link_refuse(l, "com.microsoft:argument-error", "the filter cannot be read");
		return false;
	}
	r->next = hub_event_first(m);
	hub_event_partition(m, r->partition, &tail);
	switch (p.by) {
	case HUB_EH_ALL:
		break;
	case HUB_EH_LATEST:
		r->next = hub_event_end(m);
		break;
	case HUB_EH_OFFSET:
		if (beyond(l, "offset", p.from, hub_event_end(m)))
			return false;
		r->next = hf_max(r->next, (uint64_t)p.from);
		break;
	case HUB_EH_SEQUENCE:
		if (beyond(l, "sequence number", p.from, tail.next_seq))
			return false;
		r->from = at.partition_seq = (uint64_t)p.from;
		at.by_partition_seq = true;
		r->next = hub_event_seek(m, &at);
		break;
	case HUB_EH_TIME:
		at.enqueued_ms = p.from;
		r->next = hub_event_seek(m, &at);
		break;
	}
	return true;
}

/* --- links ---------------------------------------------------------------------------------------------------------- */

/* {entity}/ConsumerGroups/{group}/Partitions/{n} */
static struct hf_span group_of(const struct hub_amqp_link *l)
{
	return l->addr.word[l->addr.n - 3];
}

static bool read_partition(const struct hub_amqp_link *l, unsigned *ret_partition)
{
	int64_t n;

	if (hf_parse_i64(l->addr.word[l->addr.n - 1], 0, HUB_PARTITIONS - 1, &n) != 0)
		return false;
	*ret_partition = (unsigned)n;
	return true;
}

static bool same_place(const struct reader *a, const struct reader *b)
{
	return a->partition == b->partition && hf_span_ieq(group_of(a->link), group_of(b->link));
}

/* A reader with an epoch owns the partition: it ends those with a lower or no epoch, and keeps others out. */
static bool claim_place(struct reader *r)
{
	struct hub_amqp_events *v = r->events;
	struct hf_list *pos, *tmp;
	int64_t owner = NO_EPOCH;
	unsigned n = 0;

	hf_list_for_each(pos, &v->readers) {
		const struct reader *other = hf_container_of(pos, struct reader, node);

		if (!same_place(r, other))
			continue;
		owner = hf_max(owner, other->epoch);
		n++;
	}
	if (owner > r->epoch) {
		hub_amqp_link_refuse(r->link, STOLEN, "a receiver with a higher epoch has the partition");
		return false;
	}
	if (r->epoch == NO_EPOCH && n >= MAX_READERS) {
		hub_amqp_link_refuse(r->link, "amqp:resource-limit-exceeded",
				     "exceeded the maximum number of allowed receivers per partition in a consumer group which is 5");
		return false;
	}
	hf_list_for_each_safe(pos, tmp, &v->readers) {
		struct reader *other = hf_container_of(pos, struct reader, node);

		if (r->epoch != NO_EPOCH && same_place(r, other))
			hub_amqp_link_detach(other->link, HUB_M_TAKEOVER, STOLEN, "a new receiver with a higher epoch was created");
	}
	return true;
}

bool hub_amqp_is_entity(const struct hub_model *m, struct hf_span name)
{
	return hf_span_ieq(name, hub_model_short_name(m)) || hf_span_ieq(name, hf_span_str("messages/events"));
}

static bool address_is_known(struct hub_amqp_link *l, struct reader *r)
{
	char text[160];

	if (!hub_amqp_is_entity(l->conn->head->model, l->addr.word[0])) {
		snprintf(text, sizeof text, "The messaging entity '%.*s' could not be found", (int)hf_min(l->addr.word[0].len, (size_t)100),
			 (const char *)l->addr.word[0].ptr);
		hub_amqp_link_refuse(l, "amqp:not-found", text);
		return false;
	}
	if (!read_partition(l, &r->partition)) {
		hub_amqp_link_refuse(l, "com.microsoft:argument-out-of-range", "The specified partition is invalid for an EventHub partition sender or receiver: they are 0 to 3");
		return false;
	}
	return true;
}

static bool read_epoch(struct hub_amqp_link *l, struct reader *r)
{
	r->epoch = NO_EPOCH;
	if (!hf_amqp_link_number(l->link, "com.microsoft:epoch", &r->epoch) || r->epoch >= 0)
		return true;
	hub_amqp_link_refuse(l, "com.microsoft:argument-out-of-range", "epochs are not negative");
	return false;
}

static enum hub_amqp_verdict on_open(struct hub_amqp_link *l)
{
	struct hub_amqp_events *v = l->conn->head->events;
	struct reader *r = calloc(1, sizeof *r);

	if (!r) {
		hub_amqp_link_refuse(l, "amqp:internal-error", "no memory");
		return HUB_AMQP_ANSWERED;
	}
	r->events = v;
	r->link = l;
	hf_list_init(&r->busy_node);
	if (!address_is_known(l, r) || !read_epoch(l, r) || !find_start(l, r) || !claim_place(r)) {
		free(r);
		return HUB_AMQP_ANSWERED;
	}
	hf_amqp_link_presettle(l->link);
	l->arg = r;
	hf_list_add_tail(&v->readers, &r->node);
	return HUB_AMQP_ACCEPT;
}

static void on_closed(struct hub_amqp_link *l)
{
	struct reader *r = l->arg;

	hf_list_del(&r->node);
	hf_list_del(&r->busy_node);
	free(r);
}

/* No `outcome`: readers keep their place themselves, any verdict will do. */
const struct hub_amqp_kind hub_amqp_event_readers = {
	.name = "events",
	.address = { "*/ConsumerGroups/*/Partitions/*" },
	.we_send = true,
	.who = HUB_AMQP_SERVICE,
	.open = on_open,
	.closed = on_closed,
	.credit_given = on_credit,
};

/* --- the head's part -------------------------------------------------------------------------------------------------- */

int hub_amqp_events_create(struct hub_amqp *head)
{
	struct hub_amqp_events *v = calloc(1, sizeof *v);

	if (!v)
		return -ENOMEM;
	v->head = head;
	hf_list_init(&v->readers);
	hf_list_init(&v->busy);
	hf_task_init(&v->task, on_turn, v);
	hub_amqp_out_init(&v->out);
	hub_on_event(head->model, on_new_events, v);
	head->events = v;
	return 0;
}

void hub_amqp_events_destroy(struct hub_amqp *head)
{
	struct hub_amqp_events *v = hf_take(head->events);

	if (!v)
		return;
	hf_task_cancel(&v->task);
	hub_amqp_out_fini(&v->out);
	free(v);
}
