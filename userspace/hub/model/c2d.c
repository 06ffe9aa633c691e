/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Cloud-to-device queues: in memory per device, written through. Key: device id, 0, sequence big-endian.
 *
 * A message is available or locked by one receiver. Locks live in memory: after a restart all are available.
 * Whatever ends a message other than by deleting its device is told to the feedback queue. */
#include "core/clock.h"
#include "core/log.h"
#include "core/util.h"
#include "hub/metrics.h"
#include "hub/model/model_int.h"

#include <errno.h>
#include <holdfast/err.h>
#include <stdio.h>

#define KEY_MAX (HF_ID_MAX + 9)
#define ENTRIES_A_STEP 512	/* devices looked at by one turn of the clock */

struct hub_c2d_item {
	struct hf_list node;
	struct hub_c2d msg;		/* spans point into mem */
	const void *owner;		/* who locked it; NULL = available */
	uint64_t lock_end_ms;		/* monotonic; UINT64_MAX = until the owner goes */
	uint8_t mem[];
};

static struct hub_c2d_item *item_of(struct hf_list *pos)
{
	return hf_container_of(pos, struct hub_c2d_item, node);
}

void hub_uuid(char out[HUB_UUID_SIZE])
{
	uint64_t a = hf_random_u64(), b = hf_random_u64();

	snprintf(out, HUB_UUID_SIZE, "%08llx-%04llx-4%03llx-a%03llx-%012llx", (unsigned long long)(a >> 32),
		 (unsigned long long)(a >> 16 & 0xffff), (unsigned long long)(a & 0xfff),
		 (unsigned long long)(b >> 52), (unsigned long long)(b & 0xffffffffffffull));
}

/* --- storage ---------------------------------------------------------------------------------------------- */

static struct hf_span make_key(const char *device_id, uint64_t seq, uint8_t out[KEY_MAX])
{
	size_t n = strlen(device_id);

	memcpy(out, device_id, n);
	out[n] = 0;
	for (int i = 0; i < 8; i++)
		out[n + 1 + (size_t)i] = (uint8_t)(seq >> (56 - 8 * i));
	return hf_span(out, n + 9);
}

static void *append(uint8_t **p, struct hf_span s)
{
	uint8_t *at = *p;

	if (s.len)
		memcpy(at, s.ptr, s.len);
	*p += s.len;
	return at;
}

static struct hub_c2d_item *item_new(const struct hub_c2d *from, struct hf_span mid, struct hf_span ack)
{
	struct hub_c2d_item *i = calloc(1, sizeof *i + mid.len + ack.len + 2 + from->bag.len + from->body.len);
	uint8_t *p;

	if (!i)
		return NULL;
	p = i->mem;
	i->msg = *from;
	i->msg.message_id = append(&p, mid);
	p++;
	i->msg.ack = append(&p, ack);
	p++;
	i->msg.bag.ptr = append(&p, from->bag);
	i->msg.body.ptr = append(&p, from->body);
	return i;
}

static int store(struct hub_model *m, const struct hub_entry *e, const struct hub_c2d_item *i)
{
	hf_autobuf struct hf_buf b = HF_BUF_INIT(4 * HUB_C2D_MAX_BYTES);
	uint8_t key[KEY_MAX];
	struct hf_txn *txn;
	int r;

	hf_buf_le64(&b, (uint64_t)i->msg.enqueued_ms);
	hf_buf_le64(&b, (uint64_t)i->msg.expiry_ms);
	hf_buf_le32(&b, i->msg.delivery_count);
	hf_buf_le32(&b, (uint32_t)strlen(i->msg.message_id));
	hf_buf_le32(&b, (uint32_t)strlen(i->msg.ack));
	hf_buf_le32(&b, (uint32_t)i->msg.bag.len);
	hf_buf_puts(&b, i->msg.message_id);
	hf_buf_puts(&b, i->msg.ack);
	hf_buf_put_span(&b, i->msg.bag);
	hf_buf_put_span(&b, i->msg.body);
	r = b.err ? b.err : hub_state_txn(m, &txn);
	return r == 0 ? hf_txn_put(txn, HUB_T_C2D, make_key(e->ident.id, i->msg.seq, key), hf_buf_span(&b)) : r;
}

static void link_item(struct hub_model *m, struct hub_entry *e, struct hub_c2d_item *i)
{
	hf_list_add_tail(&e->c2d, &i->node);
	if (e->n_c2d++ == 0)
		hf_list_add_tail(&m->c2d_busy, &e->c2d_node);
	hub_model_tick(m);
}

static int load_one(void *arg, struct hf_span key, struct hf_span value)
{
	struct hub_model *m = arg;
	struct hf_cur c = hf_cur(value), k = hf_cur(hf_span_skip(key, key.len < 8 ? 0 : key.len - 8));
	struct hub_entry *e = key.len > 9 ? hub_entry_find(m, hf_span(key.ptr, key.len - 9)) : NULL;
	struct hub_c2d msg = { .seq = hf_cur_be64(&k) };
	struct hf_span mid, ack;
	uint32_t mid_len, ack_len, bag_len;
	struct hub_c2d_item *i;

	if (!e)
		return 0;
	msg.enqueued_ms = (int64_t)hf_cur_le64(&c);
	msg.expiry_ms = (int64_t)hf_cur_le64(&c);
	msg.delivery_count = hf_cur_le32(&c);
	mid_len = hf_cur_le32(&c);
	ack_len = hf_cur_le32(&c);
	bag_len = hf_cur_le32(&c);
	mid = hf_cur_take(&c, mid_len);
	ack = hf_cur_take(&c, ack_len);
	msg.bag = hf_cur_take(&c, bag_len);
	msg.body = c.in;
	if (c.err || k.err)
		return HF_ECORRUPT;
	i = item_new(&msg, mid, ack);
	if (!i)
		return -ENOMEM;
	link_item(m, e, i);
	m->c2d_seq = hf_max(m->c2d_seq, msg.seq);
	return 0;
}

int hub_c2d_load(struct hub_model *m)
{
	return hf_db_each(m->state, HUB_T_C2D, load_one, m);
}

int hub_c2d_enqueue(struct hub_model *m, struct hub_entry *e, const struct hub_c2d *msg)
{
	struct hub_c2d_item *i = item_new(msg, hf_span_str(msg->message_id), hf_span_str(msg->ack));
	int r;

	if (!i)
		return -ENOMEM;
	i->msg.seq = ++m->c2d_seq;
	r = store(m, e, i);
	if (r != 0) {
		free(i);
		return r;
	}
	link_item(m, e, i);
	hub_c2d_refresh(m, e);		/* it may have come expired */
	hub_note(m, HUB_NOTE_C2D, e->ident.id, NULL, 0);
	return 0;
}

int hub_c2d_erase(struct hf_txn *txn, struct hf_span device_id)
{
	hf_autobuf struct hf_buf prefix = HF_BUF_INIT(KEY_MAX);
	struct hf_cursor *cur = NULL;
	struct hf_span key, value;
	int r;

	hf_buf_put_span(&prefix, device_id);
	hf_buf_putc(&prefix, '\0');
	r = prefix.err ? prefix.err : hf_cursor_open(txn, HUB_T_C2D, &cur);
	if (r == 0)
		r = hf_cursor_seek(cur, hf_buf_span(&prefix), &key, &value);
	while (r == 0 && key.len >= hf_buf_len(&prefix) && memcmp(key.ptr, hf_buf_span(&prefix).ptr, hf_buf_len(&prefix)) == 0) {
		r = hf_cursor_del(cur);
		if (r == 0)
			r = hf_cursor_next(cur, &key, &value);
	}
	hf_cursor_close(&cur);
	return r == HF_ENOTFOUND ? 0 : r;
}

/* --- how a message ends --------------------------------------------------------------------------------------- */

void hub_c2d_free_all(struct hub_entry *e)
{
	while (!hf_list_empty(&e->c2d)) {
		struct hub_c2d_item *i = item_of(e->c2d.next);

		hf_list_del(&i->node);
		free(i);
	}
	e->n_c2d = 0;
	hf_list_del(&e->c2d_node);
}

static void forget(struct hub_entry *e, struct hub_c2d_item *i)
{
	hf_list_del(&i->node);
	if (--e->n_c2d == 0)
		hf_list_del(&e->c2d_node);
	free(i);
}

static int drop(struct hub_model *m, struct hub_entry *e, struct hub_c2d_item *i)
{
	uint8_t key[KEY_MAX];
	struct hf_txn *txn;
	int r = hub_state_txn(m, &txn);

	if (r == 0)
		r = hf_txn_del(txn, HUB_T_C2D, make_key(e->ident.id, i->msg.seq, key));
	forget(e, i);
	return r == HF_ENOTFOUND ? 0 : r;
}

void hub_c2d_drop_all(struct hub_model *m, struct hub_entry *e)
{
	while (!hf_list_empty(&e->c2d))
		drop(m, e, item_of(e->c2d.next));
}

void hub_c2d_drop_unstored(struct hub_model *m)
{
	struct hf_list *busy, *next, *pos, *tmp;

	hf_list_for_each_safe(busy, next, &m->c2d_busy) {
		struct hub_entry *e = hf_container_of(busy, struct hub_entry, c2d_node);

		hf_list_for_each_safe(pos, tmp, &e->c2d)
			if (item_of(pos)->msg.seq > m->stored_counters[HUB_C_C2D_SEQ])
				forget(e, item_of(pos));
	}
}

/* outcome: a statusCode of feedback records. */
static int finish(struct hub_model *m, struct hub_entry *e, struct hub_c2d_item *i, const char *outcome)
{
	bool good = strcmp(outcome, "Success") == 0;
	int r = 0;

	if (!good)
		hf_log(HF_LOG_INFO, "hub.c2d.dead", "message %.60s of %s: %s", i->msg.message_id, e->ident.id, outcome);
	hf_metric_add(good ? HUB_M_C2D_COMPLETED : HUB_M_C2D_DEAD, 1);
	if (strcmp(i->msg.ack, "full") == 0 || strcmp(i->msg.ack, good ? "positive" : "negative") == 0)
		r = hub_feedback_outcome(m, &e->ident, i->msg.message_id, outcome);
	return r == 0 ? drop(m, e, i) : r;
}

static void unlock(struct hub_c2d_item *i)
{
	i->owner = NULL;
	i->msg.lock[0] = '\0';
}

/* A lock without an end (MQTT) does not keep a message beyond its time to live; one of 60 s does. */
void hub_c2d_refresh(struct hub_model *m, struct hub_entry *e)
{
	uint64_t mono = hf_clock_mono_ms();
	int64_t wall = hf_clock_wall_ms();
	struct hf_list *pos, *tmp;
	bool freed = false;

	hf_list_for_each_safe(pos, tmp, &e->c2d) {
		struct hub_c2d_item *i = item_of(pos);

		if (i->owner && i->lock_end_ms <= mono) {
			unlock(i);
			freed = true;
		}
		if (i->msg.expiry_ms <= wall && (!i->owner || i->lock_end_ms == UINT64_MAX))
			finish(m, e, i, "Expired");
	}
	if (freed && e->n_c2d)
		hub_note(m, HUB_NOTE_C2D, e->ident.id, NULL, 0);
}

bool hub_c2d_step(struct hub_model *m)
{
	for (unsigned n = 0; n < ENTRIES_A_STEP && !hf_list_empty(&m->c2d_busy); n++) {
		struct hub_entry *e = hf_container_of(m->c2d_busy.next, struct hub_entry, c2d_node);

		hf_list_del(&e->c2d_node);	/* to the end: the next step goes on with the others */
		hf_list_add_tail(&m->c2d_busy, &e->c2d_node);
		hub_c2d_refresh(m, e);
	}
	return !hf_list_empty(&m->c2d_busy);
}

/* --- what heads ask ------------------------------------------------------------------------------------------- */

static struct hub_entry *queue_of(struct hub_model *m, const char *device_id)
{
	struct hub_entry *e = hub_entry_find(m, hf_span_str(device_id));

	if (e && e->n_c2d)
		hub_c2d_refresh(m, e);
	return e;
}

/* Not yet: the commit of this turn may fail, and then its sender is refused. */
static bool is_stored(const struct hub_model *m, const struct hub_c2d_item *i)
{
	return i->msg.seq <= m->stored_counters[HUB_C_C2D_SEQ];
}

int hub_c2d_receive(struct hub_model *m, const char *device_id, const void *owner, uint32_t lock_ms,
		    const struct hub_c2d **ret_msg)
{
	struct hub_entry *e = queue_of(m, device_id);
	struct hf_list *pos;

	if (!e)
		return HF_ENOTFOUND;
	hf_list_for_each(pos, &e->c2d) {
		struct hub_c2d_item *i = item_of(pos);

		if (i->owner || !is_stored(m, i))
			continue;
		i->owner = owner;
		i->lock_end_ms = lock_ms ? hf_clock_mono_ms() + lock_ms : UINT64_MAX;
		hub_uuid(i->msg.lock);
		m->c2d_out = i->msg;
		i->msg.redelivered = true;
		*ret_msg = &m->c2d_out;
		return 0;
	}
	return HF_ENOTFOUND;
}

static int settle(struct hub_model *m, struct hub_entry *e, struct hub_c2d_item *i, enum hub_verdict verdict)
{
	int r;

	if (verdict == HUB_COMPLETE)
		return finish(m, e, i, "Success");
	if (verdict == HUB_REJECT)
		return finish(m, e, i, "Rejected");
	i->msg.delivery_count++;
	if (i->msg.delivery_count >= HUB_C2D_MAX_DELIVERY)
		return finish(m, e, i, "DeliveryCountExceeded");
	unlock(i);
	r = store(m, e, i);
	hub_note(m, HUB_NOTE_C2D, e->ident.id, NULL, 0);
	return r;
}

int hub_c2d_settle(struct hub_model *m, const char *device_id, const char *lock, enum hub_verdict verdict)
{
	struct hub_entry *e = queue_of(m, device_id);
	struct hf_list *pos;

	if (e && *lock)
		hf_list_for_each(pos, &e->c2d)
			if (strcmp(item_of(pos)->msg.lock, lock) == 0)
				return settle(m, e, item_of(pos), verdict);
	return HF_ENOTFOUND;
}

static struct hub_c2d_item *held_by(struct hub_entry *e, const void *owner, uint64_t seq)
{
	struct hf_list *pos;

	if (e)
		hf_list_for_each(pos, &e->c2d)
			if (item_of(pos)->msg.seq == seq && item_of(pos)->owner == owner)
				return item_of(pos);
	return NULL;
}

bool hub_c2d_holds(struct hub_model *m, const char *device_id, const void *owner, uint64_t seq)
{
	return held_by(queue_of(m, device_id), owner, seq) != NULL;
}

int hub_c2d_settle_seq(struct hub_model *m, const char *device_id, const void *owner, uint64_t seq,
		       enum hub_verdict verdict)
{
	struct hub_entry *e = queue_of(m, device_id);
	struct hub_c2d_item *i = held_by(e, owner, seq);

	return i ? settle(m, e, i, verdict) : HF_ENOTFOUND;
}

void hub_c2d_release_all(struct hub_model *m, const char *device_id, const void *owner)
{
	struct hub_entry *e = hub_entry_find(m, hf_span_str(device_id));
	bool freed = false;
	struct hf_list *pos;

	if (!e)
		return;
	hf_list_for_each(pos, &e->c2d)
		if (item_of(pos)->owner == owner) {
			unlock(item_of(pos));
			freed = true;
		}
	if (freed)
		hub_note(m, HUB_NOTE_C2D, e->ident.id, NULL, 0);
}

unsigned hub_c2d_count(struct hub_model *m, const char *device_id)
{
	struct hub_entry *e = queue_of(m, device_id);

	return e ? e->n_c2d : 0;
}

int hub_c2d_purge(struct hub_model *m, const char *device_id, unsigned *ret_n)
{
	struct hub_entry *e = queue_of(m, device_id);
	int r = 0;

	*ret_n = 0;
	while (e && r == 0 && !hf_list_empty(&e->c2d)) {
		r = finish(m, e, item_of(e->c2d.next), "Purged");
		*ret_n += r == 0;
	}
	return r;
}
