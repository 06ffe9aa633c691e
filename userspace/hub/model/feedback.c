/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The queues for the service side, written through. Key: kind, sequence big-endian. */
#include "hub/model/feedback.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/util.h"
#include "hub/metrics.h"
#include "hub/model/model_int.h"

#include <errno.h>
#include <holdfast/err.h>

#define TTL_MS (3600 * 1000ll)
#define MAX_DELIVERY 10
#define FLUSH_MS 1000
#define MAX_RECORDS 10000	/* the oldest goes beyond that */
#define MAX_RECORD 4096
#define ITEMS_A_STEP 1024

static const struct { unsigned batch; bool array; } kinds[HUB_FEEDBACK__COUNT] = {
	[HUB_FEEDBACK_C2D] = { 64, true },
	[HUB_FEEDBACK_FILES] = { 1, false },
};

struct hub_feedback_item {
	struct hf_list node;
	uint64_t seq, lock_end_ms;
	int64_t enqueued_ms;
	unsigned delivery_count;
	const void *owner;		/* NULL = available */
	char lock[HUB_UUID_SIZE];
	size_t len;
	char text[];
};

static struct hub_feedback_item *item_of(struct hf_list *pos)
{
	return hf_container_of(pos, struct hub_feedback_item, node);
}

static struct hf_span make_key(enum hub_feedback_kind kind, uint64_t seq, uint8_t out[9])
{
	out[0] = (uint8_t)kind;
	for (int i = 0; i < 8; i++)
		out[1 + i] = (uint8_t)(seq >> (56 - 8 * i));
	return hf_span(out, 9);
}

static int store(struct hub_model *m, enum hub_feedback_kind kind, const struct hub_feedback_item *i)
{
	hf_autobuf struct hf_buf b = HF_BUF_INIT(MAX_RECORD + 64);
	uint8_t key[9];
	struct hf_txn *txn;
	int r;

	hf_buf_le64(&b, (uint64_t)i->enqueued_ms);
	hf_buf_le32(&b, i->delivery_count);
	hf_buf_put(&b, i->text, i->len);
	r = b.err ? b.err : hub_state_txn(m, &txn);
	return r == 0 ? hf_txn_put(txn, HUB_T_FEEDBACK, make_key(kind, i->seq, key), hf_buf_span(&b)) : r;
}

static struct hub_feedback_item *item_new(struct hf_span text)
{
	struct hub_feedback_item *i = calloc(1, sizeof *i + text.len + 1);

	if (i) {
		i->len = text.len;
		memcpy(i->text, text.ptr, text.len);
	}
	return i;
}

/* Listeners hear of it at the next step after FLUSH_MS, or now when a batch is full. */
static void available(struct hub_model *m, enum hub_feedback_kind kind, unsigned n)
{
	struct hub_feedback_queue *q = &m->feedback[kind];

	if (!q->fresh)
		q->fresh_since_ms = hf_clock_mono_ms();
	q->fresh += n;
	if (q->fresh >= kinds[kind].batch)
		q->fresh_since_ms = 0;
	hub_model_tick(m);
	if (q->fresh_since_ms == 0) {
		q->fresh = 0;
		hub_note(m, HUB_NOTE_FEEDBACK, "", NULL, kind);
	}
}

static int drop(struct hub_model *m, enum hub_feedback_kind kind, struct hub_feedback_item *i)
{
	uint8_t key[9];
	struct hf_txn *txn;
	int r = hub_state_txn(m, &txn);

	if (r == 0)
		r = hf_txn_del(txn, HUB_T_FEEDBACK, make_key(kind, i->seq, key));
	hf_list_del(&i->node);
	m->feedback[kind].n--;
	free(i);
	return r == HF_ENOTFOUND ? 0 : r;
}

int hub_feedback_add(struct hub_model *m, enum hub_feedback_kind kind, json_t *record)
{
	struct hub_feedback_queue *q = &m->feedback[kind];
	struct hub_feedback_item *i;
	hf_autofree char *text = NULL;
	char when[32];
	int r;

	hf_iso8601(hf_clock_wall_ms(), when);
	if (json_object_set_new(record, "enqueuedTimeUtc", json_string(when)) == 0)
		text = json_dumps(record, JSON_COMPACT);
	if (!text)
		return -ENOMEM;
	if (strlen(text) > MAX_RECORD)
		return HF_ELIMIT;
	i = item_new(hf_span_str(text));
	if (!i)
		return -ENOMEM;
	i->seq = ++m->feedback_seq;
	i->enqueued_ms = hf_clock_wall_ms();
	r = store(m, kind, i);
	if (r != 0) {
		free(i);
		return r;
	}
	hf_list_add_tail(&q->items, &i->node);
	if (++q->n > MAX_RECORDS) {
		hf_metric_add(HUB_M_FEEDBACK_DROPPED, 1);
		drop(m, kind, item_of(q->items.next));
	}
	available(m, kind, 1);
	return 0;
}

int hub_feedback_outcome(struct hub_model *m, const struct hub_ident *device, const char *message_id, const char *outcome)
{
	json_t *record = json_pack("{ss ss ss ss ss}", "originalMessageId", message_id, "statusCode", outcome, "description",
				   strcmp(outcome, "Rejected") == 0 ? "Message rejected" : outcome, "deviceId", device->id, "deviceGenerationId", device->generation_id);
	int r = record ? hub_feedback_add(m, HUB_FEEDBACK_C2D, record) : -ENOMEM;

	json_decref(record);
	return r;
}

static int load_one(void *arg, struct hf_span key, struct hf_span value)
{
	struct hub_model *m = arg;
	struct hf_cur k = hf_cur(key), c = hf_cur(value);
	uint8_t kind = hf_cur_u8(&k);
	uint64_t seq = hf_cur_be64(&k);
	int64_t enqueued = (int64_t)hf_cur_le64(&c);
	unsigned count = hf_cur_le32(&c);
	struct hub_feedback_item *i;

	if (k.err || c.err || kind >= HUB_FEEDBACK__COUNT)
		return HF_ECORRUPT;
	i = item_new(c.in);
	if (!i)
		return -ENOMEM;
	i->seq = seq;
	i->enqueued_ms = enqueued;
	i->delivery_count = count;
	hf_list_add_tail(&m->feedback[kind].items, &i->node);
	m->feedback[kind].n++;
	m->feedback_seq = hf_max(m->feedback_seq, seq);
	hub_model_tick(m);
	return 0;
}

int hub_feedback_load(struct hub_model *m)
{
	return hf_db_each(m->state, HUB_T_FEEDBACK, load_one, m);
}

void hub_feedback_init(struct hub_model *m)
{
	for (int k = 0; k < HUB_FEEDBACK__COUNT; k++)
		hf_list_init(&m->feedback[k].items);
}

void hub_feedback_fini(struct hub_model *m)
{
	for (int k = 0; k < HUB_FEEDBACK__COUNT; k++)
		while (!hf_list_empty(&m->feedback[k].items)) {
			struct hub_feedback_item *i = item_of(m->feedback[k].items.next);

			hf_list_del(&i->node);
			free(i);
		}
}

/* --- time ----------------------------------------------------------------------------------------------------- */

/* Ends locks and old records; records are in the order of their age, so only the first ones can be too old. */
static void refresh(struct hub_model *m, enum hub_feedback_kind kind)
{
	struct hub_feedback_queue *q = &m->feedback[kind];
	int64_t wall = hf_clock_wall_ms();
	uint64_t mono = hf_clock_mono_ms();
	unsigned budget = ITEMS_A_STEP, freed = 0;
	struct hf_list *pos, *tmp;

	hf_list_for_each_safe(pos, tmp, &q->items) {
		struct hub_feedback_item *i = item_of(pos);

		if (budget-- == 0)
			break;
		if (i->owner && i->lock_end_ms <= mono) {
			i->owner = NULL;
			freed++;
		}
		if (!i->owner && i->enqueued_ms + TTL_MS <= wall) {
			hf_metric_add(HUB_M_FEEDBACK_DROPPED, 1);
			drop(m, kind, i);
		}
	}
	if (freed)
		available(m, kind, freed);
}

bool hub_feedback_step(struct hub_model *m)
{
	uint64_t now = hf_clock_mono_ms();
	bool busy = false;

	for (int k = 0; k < HUB_FEEDBACK__COUNT; k++) {
		struct hub_feedback_queue *q = &m->feedback[k];

		refresh(m, (enum hub_feedback_kind)k);
		if (q->fresh && now >= q->fresh_since_ms + FLUSH_MS - HUB_TICK_MS) {
			q->fresh = 0;
			hub_note(m, HUB_NOTE_FEEDBACK, "", NULL, k);
		}
		busy |= q->n > 0;
	}
	return busy;
}

/* --- receivers ------------------------------------------------------------------------------------------------ */

static char *compose(const struct hub_feedback_item *const *item, unsigned n, bool array)
{
	hf_autobuf struct hf_buf b = HF_BUF_INIT((size_t)64 * (MAX_RECORD + 1) + 2);

	if (array)
		hf_buf_putc(&b, '[');
	for (unsigned i = 0; i < n; i++) {
		if (i)
			hf_buf_putc(&b, ',');
		hf_buf_put(&b, item[i]->text, item[i]->len);
	}
	if (array)
		hf_buf_putc(&b, ']');
	return b.err ? NULL : hf_span_dup(hf_buf_span(&b));
}

int hub_feedback_receive(struct hub_model *m, enum hub_feedback_kind kind, const void *owner,
			 struct hub_feedback *ret_batch)
{
	struct hub_feedback_item *item[64];
	struct hf_list *pos;
	unsigned n = 0;
	char *json;

	refresh(m, kind);
	hf_list_for_each(pos, &m->feedback[kind].items) {
		if (!item_of(pos)->owner)
			item[n++] = item_of(pos);
		if (n == kinds[kind].batch)
			break;
	}
	if (n == 0)
		return HF_ENOTFOUND;
	json = compose((const struct hub_feedback_item *const *)item, n, kinds[kind].array);
	if (!json)
		return -ENOMEM;
	*ret_batch = (struct hub_feedback){ .seq = item[0]->seq, .enqueued_ms = item[0]->enqueued_ms,
					    .delivery_count = item[0]->delivery_count, .json = json };
	hub_uuid(ret_batch->lock);
	for (unsigned i = 0; i < n; i++) {
		item[i]->owner = owner;
		item[i]->lock_end_ms = hf_clock_mono_ms() + HUB_FEEDBACK_LOCK_MS;
		memcpy(item[i]->lock, ret_batch->lock, sizeof item[i]->lock);
	}
	return 0;
}

int hub_feedback_settle(struct hub_model *m, enum hub_feedback_kind kind, const char *lock, enum hub_verdict verdict)
{
	struct hf_list *pos, *tmp;
	unsigned n = 0, freed = 0;
	int r = 0;

	refresh(m, kind);
	hf_list_for_each_safe(pos, tmp, &m->feedback[kind].items) {
		struct hub_feedback_item *i = item_of(pos);

		if (!i->owner || strcmp(i->lock, lock) != 0)
			continue;
		n++;
		if (verdict != HUB_ABANDON || i->delivery_count + 1 >= MAX_DELIVERY) {
			hf_metric_add(HUB_M_FEEDBACK_DROPPED, verdict != HUB_COMPLETE);
			r = drop(m, kind, i);
		} else {
			i->delivery_count++;
			i->owner = NULL;
			freed++;
			r = store(m, kind, i);
		}
		if (r != 0)
			return r;
	}
	if (freed)
		available(m, kind, freed);
	return n ? 0 : HF_ENOTFOUND;
}

static void release(struct hub_model *m, enum hub_feedback_kind kind, const void *owner, const char *lock)
{
	struct hf_list *pos;
	unsigned freed = 0;

	hf_list_for_each(pos, &m->feedback[kind].items) {
		struct hub_feedback_item *i = item_of(pos);

		if (!i->owner || (lock ? strcmp(i->lock, lock) != 0 : i->owner != owner))
			continue;
		i->owner = NULL;
		freed++;
	}
	if (freed)
		available(m, kind, freed);
}

void hub_feedback_release(struct hub_model *m, enum hub_feedback_kind kind, const char *lock)
{
	release(m, kind, NULL, lock);
}

void hub_feedback_release_all(struct hub_model *m, enum hub_feedback_kind kind, const void *owner)
{
	release(m, kind, owner, NULL);
}

unsigned hub_feedback_count(const struct hub_model *m, enum hub_feedback_kind kind)
{
	return m->feedback[kind].n;
}

void hub_on_feedback(struct hub_model *m, void (*fn)(void *arg, enum hub_feedback_kind kind), void *arg)
{
	if (hub_listen(&m->on_feedback, (void (*)(void))fn, arg) != 0)
		hf_log(HF_LOG_ERR, "hub.listeners", "too many listeners for feedback");
}
