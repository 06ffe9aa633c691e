/* SPDX-License-Identifier: GPL-3.0-or-later */
/* gw/session_publish.c - PUBLISH of a child: rights, size, bag, append, PUBACK in order; back-pressure. */
#include "core/log.h"
#include "core/util.h"
#include "gw/session.h"
#include <errno.h>
#include <holdfast/err.h>
#include <stdlib.h>

enum { CHUNK_PUBS = 64 };
struct chunk {
	struct chunk *next;
	struct hf_pub pubs[CHUNK_PUBS];
};

/* --- pool and credits -------------------------------------------------------------------------------------- */
static struct hf_pub *pub_new(struct hf_session *s)
{
	struct hf_worker *w = s->w;
	struct hf_pub *p = w->pool;

	if (!p) {
		struct chunk *c = calloc(1, sizeof *c);

		if (!c)
			return NULL;
		c->next = w->chunks;
		w->chunks = c;
		for (unsigned i = 0; i < CHUNK_PUBS; i++) {
			c->pubs[i].next = w->pool;
			w->pool = &c->pubs[i];
		}
		p = w->pool;
	}
	w->pool = p->next;
	*p = (struct hf_pub){ .s = s };
	return p;
}

static void pub_free(struct hf_worker *w, struct hf_pub *p)
{
	p->next = w->pool;
	w->pool = p;
}

void hf_worker_free_pool(struct hf_worker *w)
{
	struct chunk *c = w->chunks;

	while (c) {
		struct chunk *next = c->next;

		free(c);
		c = next;
	}
	w->chunks = NULL;
	w->pool = NULL;
}

static void on_credit(struct hf_list *node)
{
	struct hf_session *s = hf_container_of(node, struct hf_session, blocked);

	s->wait_credit = false;
	hf_session_wake(s);
}

void hf_session_init_credits(struct hf_worker *w)
{
	unsigned n = hf_max(w->gw->n_planned, 1u);

	hf_credit_init(&w->to_store, HF_TO_STORE_COUNT, HF_TO_STORE_BYTES / n, HF_M_TO_STORE, HF_M_TO_STORE_BYTES, on_credit);
	hf_credit_init(&w->to_up, HF_TO_UP_COUNT, HF_TO_UP_BYTES / n, HF_M_TO_UP, HF_M_TO_UP_BYTES, on_credit);
}

/* False and blocked when this packet must wait: for its own session's answers, or for credit. */
static bool has_room(struct hf_session *s, struct hf_credit *credit, size_t bytes, size_t fifo_bytes)
{
	if (s->fifo_n >= HF_FIFO_MAX || (s->fifo_bytes && s->fifo_bytes + fifo_bytes > HF_FIFO_BYTES)) {
		s->wait_fifo = true;
	} else if (!hf_credit_has(credit, bytes)) {
		s->wait_credit = true;
		hf_list_add_tail(&credit->waiting, &s->blocked);
	} else {
		return true;
	}
	hf_metric_add(HF_M_CREDIT_WAITS, 1);
	return false;
}

bool hf_session_has_up_credit(struct hf_session *s, size_t bytes)
{
	return has_room(s, &s->w->to_up, bytes, 0);
}

/* --- FIFO of unanswered publishes ---------------------------------------------------------------------------- */
static void fifo_push(struct hf_session *s, struct hf_pub *p)
{
	if (s->tail)
		s->tail->next = p;
	else
		s->head = p;
	s->tail = p;
	s->fifo_n++;
	s->fifo_bytes += p->bytes;
}

static struct hf_pub *fifo_pop(struct hf_session *s)
{
	struct hf_pub *p = s->head;

	s->head = p->next;
	if (!s->head)
		s->tail = NULL;
	s->fifo_n--;
	s->fifo_bytes -= p->bytes;
	return p;
}

static void put_puback(struct hf_session *s, uint16_t packet_id)
{
	hf_mqtt_put_ack(hf_conn_out(s->conn), HF_MQTT_PUBACK, packet_id);
	hf_conn_flush_later(s->conn);
	hf_metric_add(HF_M_PUBACKS, 1);
}

/* Answers from the head as far as the answers are known. */
static void fifo_advance(struct hf_session *s)
{
	while (s->head && s->head->done) {
		struct hf_pub *p = fifo_pop(s);

		if (p->packet_id && hf_session_live(s))
			put_puback(s, p->packet_id);
		pub_free(s->w, p);
	}
	if (s->wait_fifo && s->fifo_n <= HF_FIFO_MAX / 2 && s->fifo_bytes <= HF_FIFO_BYTES / 2) {
		s->wait_fifo = false;
		hf_session_wake(s);
	}
}

void hf_session_free_fifo(struct hf_session *s)
{
	while (s->head)
		pub_free(s->w, fifo_pop(s));
}

void hf_session_puback_later(struct hf_session *s, uint16_t packet_id)
{
	struct hf_pub *p;

	if (!packet_id)
		return;
	if (!s->head) {
		put_puback(s, packet_id);
		return;
	}
	p = pub_new(s);
	if (!p) {
		hf_session_end(s, HF_END_NO_MEMORY, "answer");
		return;
	}
	p->packet_id = packet_id;
	p->done = true;
	fifo_push(s, p);
}

/* --- append ------------------------------------------------------------------------------------------------------ */
static void refused(struct hf_session *s, int err)
{
	if (err == HF_EFULL) {
		hf_metric_add(HF_M_PUBLISH_FULL, 1);
		s->damp = true;
		if (s->held_until_ms)
			return;
		/* Pings are answered until then; publishes behind it are read and dropped, so they need no room. */
		s->held_until_ms = hf_loop_now_ms(s->w->loop) + HF_HOLD_MS;
		s->wait_fifo = false;
		hf_session_wake(s);
	} else {
		hf_metric_add(HF_M_PUBLISH_STORE_ERROR, 1);
		s->damp = true;
		hf_session_end(s, HF_END_STORE, hf_strerror(err));
	}
}

static void append_done(struct hf_store_append *app)
{
	struct hf_pub *p = hf_container_of(app, struct hf_pub, app);
	struct hf_session *s = p->s;
	int err = app->err;

	hf_msg_unref(&app->msg);
	hf_credit_give(&s->w->to_store, p->bytes);
	s->n_appends--;
	if (!err) {
		s->accepted++;
		hf_metric_add(p->is_will ? HF_M_WILLS : HF_M_PUBLISH_ACCEPTED, 1);
		p->done = true;
	} else {
		refused(s, err);
	}
	if (p->is_will)
		pub_free(s->w, p);
	else
		fifo_advance(s);
	hf_session_settle(s);
}

/* Hands msg (reference moves in) to the store. */
static void append(struct hf_session *s, struct hf_pub *p, struct hf_msg *msg)
{
	s->n_appends++;
	hf_credit_take(&s->w->to_store, p->bytes);
	p->app.msg = msg;
	p->app.reply_to = s->w->inbox;
	p->app.done = append_done;
	if (!p->is_will)
		p->app.broken = &s->broken;
	hf_store_append(s->w->gw->store, &p->app);
}

/* --- telemetry ----------------------------------------------------------------------------------------------------- */
static bool own_topic(const struct hf_session *s, const struct hf_topic *t)
{
	return hf_span_eq(t->device, hf_session_device(s)) && hf_span_eq(t->module, hf_session_module(s));
}

/* May it be stored? What is accepted must be sendable: the topic that goes to the hub carries the bag in its canonical
 * form, which can be three times as long as the child's. NULL, or what is too large. */
static const char *too_large(const struct hf_session *s, struct hf_span bag, struct hf_span body)
{
	if (hf_topic_events_len(hf_session_device(s), hf_session_module(s)) + bag.len > HF_MQTT_TOPIC_MAX)
		return "properties over 65 535 bytes when encoded";
	return body.len + bag.len > HF_MSG_MAX_SIZE ? "message" : NULL;
}

static bool publish_event(struct hf_session *s, const struct hf_topic *t, const struct hf_mqtt_publish *p)
{
	struct hf_buf *bag = &s->w->bag;
	size_t bytes = p->body.len + t->rest.len;
	const char *excess;
	struct hf_msg *msg;
	struct hf_pub *pub;

	if (!own_topic(s, t)) {
		hf_session_end(s, HF_END_FOREIGN, NULL);
		return true;
	}
	if (s->held_until_ms) {		/* behind a refused one: it will come again in order */
		hf_metric_add(HF_M_PUBLISH_HELD, 1);
		return true;
	}
	if (!has_room(s, &s->w->to_store, bytes, bytes))
		return false;
	hf_buf_reset(bag);
	if (hf_bag_canonical(t->rest, p->retain ? "mqtt-retain=true" : NULL, bag) || bag->err) {
		hf_session_end(s, HF_END_BAD_BAG, NULL);
		return true;
	}
	excess = too_large(s, hf_buf_span(bag), p->body);
	if (excess) {
		hf_session_end(s, HF_END_OVERSIZE, excess);
		return true;
	}
	pub = pub_new(s);
	msg = pub ? hf_msg_create(hf_span_str(s->ident), hf_buf_span(bag), p->body, 0) : NULL;
	if (!msg) {
		if (pub)
			pub_free(s->w, pub);
		hf_session_end(s, HF_END_NO_MEMORY, "message");
		return true;
	}
	pub->packet_id = p->qos ? p->packet_id : 0;
	pub->bytes = (uint32_t)bytes;
	fifo_push(s, pub);
	append(s, pub, msg);
	return true;
}

bool hf_session_publish(struct hf_session *s, const struct hf_mqtt_publish *p)
{
	struct hf_topic t;

	if (p->qos > 1) {
		hf_session_end(s, HF_END_QOS2, NULL);
		return true;
	}
	hf_topic_parse(p->topic, &t);
	switch (t.kind) {
	case HF_TOPIC_EVENTS:
		return publish_event(s, &t, p);
	case HF_TOPIC_TWIN_GET:
	case HF_TOPIC_TWIN_PATCH:
		return hf_session_twin(s, &t, p);
	case HF_TOPIC_METHOD_RES:
		return hf_session_method_answer(s, &t, p);
	case HF_TOPIC_BAD:
		break;
	}
	hf_session_end(s, HF_END_BAD_TOPIC, NULL);
	return true;
}

/* --- will ------------------------------------------------------------------------------------------------------------ */
int hf_session_make_will(struct hf_session *s, const struct hf_mqtt_connect *c, const char **ret_reason)
{
	const char *extra = "iothub-MessageType=Will";
	struct hf_buf *bag = &s->w->bag;
	struct hf_topic t;

	hf_topic_parse(c->will_topic, &t);
	if (c->will_qos > 1) {
		*ret_reason = "QoS 2";
		return HF_EUNSUPPORTED;
	}
	if (t.kind != HF_TOPIC_EVENTS || !own_topic(s, &t)) {
		*ret_reason = "not its own telemetry topic";
		return HF_EDENIED;
	}
	hf_buf_reset(bag);
	if (hf_bag_canonical(t.rest, extra, bag)) {
		*ret_reason = "bad property bag";
		return HF_EPROTO;
	}
	if (c->will_retain)
		hf_buf_puts(bag, "&mqtt-retain=true");
	if (bag->err || too_large(s, hf_buf_span(bag), c->will_body)) {
		*ret_reason = "too large";
		return HF_ELIMIT;
	}
	s->will = hf_msg_create(hf_span_str(s->ident), hf_buf_span(bag), c->will_body, HF_MSG_WILL);
	*ret_reason = "out of memory";
	return s->will ? 0 : -ENOMEM;
}

/* The last message of the session. It is one per connection, so it may go over the credits. */
void hf_session_publish_will(struct hf_session *s)
{
	struct hf_pub *p = pub_new(s);

	if (!p) {
		hf_metric_add(HF_M_NO_MEMORY, 1);
		hf_msg_unref(&s->will);
		return;
	}
	p->is_will = true;
	p->bytes = s->will->props_len + s->will->body_len;
	append(s, p, hf_take(s->will));
}
