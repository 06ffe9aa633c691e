/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the hub does with each packet of a client (iothub-protocol 1.1 - 1.11). */
#include "core/clock.h"
#include "core/log.h"
#include "core/util.h"
#include "dialect/bag.h"
#include "hub/mqtt/dev_int.h"
#include <errno.h>
#include <holdfast/err.h>
#include <stdio.h>

#define MAX_FILTERS 64	/* of a session; method names make any number of them */

static int drop(struct hub_session *s, enum hub_metric metric, const char *why)
{
	hub_dev_drop(s, metric, why);
	return HUB_DEV_CLOSED;
}

static int refuse(struct hub_session *s, uint8_t code)
{
	hf_mqtt_put_connack(hf_conn_out(s->conn), false, code);
	hf_conn_flush_later(s->conn);
	s->closing = true;
	hf_conn_close(s->conn);
	return HUB_DEV_CLOSED;
}

/* The newest connection of an identity wins; the older one is closed without a packet. */
static void take_over(struct hub_session *s)
{
	struct hub_session *old = hf_map_get(s->dev->by_id, hf_span_str(s->id));

	if (old && old != s) {
		if (old->sink_on) {
			hub_method_sink_remove(s->dev->model, &old->sink);
			old->sink_on = false;
		}
		hub_c2d_release_all(s->dev->model, old->id, old);
		hub_dev_drop(old, HUB_M_TAKEOVER, "replaced by a newer connection");
	}
}

static void on_cut(void *arg, const char *why)
{
	struct hub_session *s = arg;

	hub_dev_end(s, why);
}

static int log_in(struct hub_session *s, const char *model_id)
{
	const struct hub_ident *ident = hub_ident_find(s->dev->model, hf_span_str(s->id));
	int r = ident && *model_id ? hub_twin_set_model(s->dev->model, ident, model_id) : 0;

	s->generation = ident ? strdup(ident->generation_id) : NULL;
	if (r == 0 && !s->generation)
		r = -ENOMEM;
	if (r == 0)
		r = hf_map_put(s->dev->by_id, hf_span_str(s->id), s);
	if (r != 0)
		return r;
	s->client.protocol = s->is_ws ? "mqtt-ws" : "mqtt";
	s->client.conn = s->conn;
	s->client.cut = on_cut;
	s->client.arg = s;
	memcpy(s->client.id, s->id, sizeof s->id);
	r = hub_client_add(s->dev->model, &s->client);
	if (r != 0)
		hf_map_remove(s->dev->by_id, hf_span_str(s->id));
	return r;
}

const struct hub_ident *hub_dev_ident(const struct hub_session *s)
{
	const struct hub_ident *ident = hub_ident_find(s->dev->model, hf_span_str(s->id));

	return ident && strcmp(ident->generation_id, s->generation) == 0 ? ident : NULL;
}

static bool restore_session(struct hub_session *s)
{
	json_t *stored, *qos;
	const char *filter;

	if (s->clean) {
		hub_session_save(s->dev->model, s->id, NULL);
		return false;
	}
	stored = hub_session_load(s->dev->model, s->id);
	if (!stored)
		return false;
	json_object_foreach(stored, filter, qos) {
		s->subs |= hub_dev_filter_bits(s, hf_span_str(filter));
		if (hub_dev_filter_bits(s, hf_span_str(filter)) & HF_SUB_C2D)
			s->c2d_qos = (uint8_t)json_integer_value(qos);
	}
	json_decref(s->filters);
	s->filters = stored;
	return true;
}

static bool topic_is_own(const struct hub_session *s, const struct hf_topic *t)
{
	char id[HF_IDENT_MAX + 1];

	if (t->device.len + t->module.len + 2 > sizeof id)
		return false;
	snprintf(id, sizeof id, "%.*s%s%.*s", (int)t->device.len, (const char *)t->device.ptr, t->module.len ? "/" : "",
		 (int)t->module.len, (const char *)t->module.ptr);
	return strcmp(id, s->id) == 0;
}

static int keep_will(struct hub_session *s, const struct hf_mqtt_connect *c)
{
	struct hf_topic t;

	if (!c->has_will)
		return 0;
	hf_topic_parse(c->will_topic, &t);
	if (c->will_qos == 2 || t.kind != HF_TOPIC_EVENTS || !topic_is_own(s, &t))
		return drop(s, HUB_M_BAD_TOPIC, "will with QoS 2 or on a topic that is not its telemetry");
	if (c->will_body.len > HF_MSG_MAX_SIZE)
		return drop(s, HUB_M_OVERSIZE, "will over 256 KiB");
	s->will_topic = hf_span_dup(c->will_topic);
	hf_buf_put_span(&s->will_body, c->will_body);
	s->will_retain = c->will_retain;
	return !s->will_topic || s->will_body.err ? drop(s, HUB_M_MALFORMED, "no memory for the will") : 0;
}

static int on_connect(struct hub_session *s, const struct hf_mqtt_connect *c)
{
	struct hub_fault fault;
	struct hf_mqtt_user user;
	const char *reason = NULL;
	uint8_t code;
	int r;

	if (s->connected)
		return drop(s, HUB_M_MALFORMED, "second CONNECT");
	if (c->level != 4)
		return refuse(s, HF_CONNACK_VERSION);
	if (!c->has_user || hf_mqtt_user_parse(c->user, &user, &reason) != 0) {
		hf_metric_add(HUB_M_AUTH_REFUSED, 1);
		return refuse(s, HF_CONNACK_BAD_USER);
	}
	code = hub_dev_authenticate(s, c, &user);
	if (code != HF_CONNACK_OK)
		return refuse(s, code);
	if (!s->passed && hub_throttle_take(s->dev->model, HUB_THROTTLE_CONNECT, 1) != 0)
		return refuse(s, HF_CONNACK_UNAVAILABLE);
	r = hub_dev_fault(s, HUB_ON_CONNECT, &fault);
	if (r != HUB_DEV_ON) {
		s->mute = r == HUB_DEV_SKIP;
		return r;
	}
	if (fault.action == HUB_DO_REJECT || fault.action == HUB_DO_THROTTLE)
		return refuse(s, fault.action == HUB_DO_REJECT ? (uint8_t)fault.code : HF_CONNACK_UNAVAILABLE);
	if (keep_will(s, c) != 0)
		return HUB_DEV_CLOSED;
	take_over(s);
	if (log_in(s, user.model_id) != 0)
		return refuse(s, HF_CONNACK_UNAVAILABLE);
	s->connected = true;
	s->clean = c->clean_session;
	s->keepalive_ms = hub_dev_keepalive_ms(c->keep_alive_s);
	hf_mqtt_put_connack(hub_dev_answer(s), restore_session(s), HF_CONNACK_OK);
	s->subs_changed = true;
	return HUB_DEV_ON;
}

/* Stores a message of the session's identity. p->topic was parsed into t. */
static int take_event(struct hub_session *s, const struct hf_topic *t, const struct hf_mqtt_publish *p,
		      const char *extra)
{
	hf_autobuf struct hf_buf bag = HF_BUF_INIT(128 * 1024);
	const struct hub_ident *ident = hub_dev_ident(s);
	uint64_t seq;
	int r;

	if (!topic_is_own(s, t))
		return drop(s, HUB_M_BAD_TOPIC, "telemetry topic of another identity");
	if (hf_bag_canonical(t->rest, extra, &bag) != 0 || bag.err)
		return drop(s, HUB_M_BAD_BAG, "property bag cannot be decoded");
	if (hf_buf_len(&bag) + p->body.len > HF_MSG_MAX_SIZE)
		return drop(s, HUB_M_OVERSIZE, "message over 256 KiB");
	if (!ident)
		return drop(s, HUB_M_AUTH_REFUSED, "identity was deleted");
	r = hub_event_append(s->dev->model, ident, s->auth_type, hf_buf_span(&bag), p->body, "Telemetry", &seq);
	if (r != 0)
		return drop(s, HUB_M_UNANSWERED, hf_strerror(r));
	hf_metric_add(HUB_M_EVENTS, 1);
	return 0;
}

static int on_event(struct hub_session *s, const struct hf_topic *t, const struct hf_mqtt_publish *p)
{
	struct hub_fault fault;
	uint32_t late_ms;
	int r = hub_dev_fault(s, HUB_ON_TELEMETRY, &fault);

	if (r != HUB_DEV_ON)
		return r;
	if (fault.action == HUB_DO_REJECT || fault.action == HUB_DO_THROTTLE) {
		hub_dev_end(s, "refused on purpose");
		return HUB_DEV_CLOSED;
	}
	late_ms = hub_throttle_shape(s->dev->model, HUB_THROTTLE_D2C, 1, HUB_THROTTLE_SHAPE_MS);
	if (late_ms == UINT32_MAX) {
		hub_dev_end(s, "more messages than the limits allow");
		return HUB_DEV_CLOSED;
	}
	r = take_event(s, t, p, p->retain ? "mqtt-retain=true" : NULL);
	return r == HUB_DEV_ON && p->qos == 1 ? hub_dev_puback(s, p->packet_id, &fault, late_ms) : r;
}

static int on_publish(struct hub_session *s, const struct hf_mqtt_publish *p)
{
	static const struct hub_fault none = { .action = HUB_DO__COUNT };
	struct hf_topic t;
	int r = HUB_DEV_ON;

	if (p->qos == 2)
		return drop(s, HUB_M_QOS2, "PUBLISH with QoS 2");
	hf_topic_parse(p->topic, &t);
	switch (t.kind) {
	case HF_TOPIC_EVENTS:
		return on_event(s, &t, p);
	case HF_TOPIC_TWIN_GET:
	case HF_TOPIC_TWIN_PATCH:
		r = hub_dev_twin(s, &t, p->body);
		break;
	case HF_TOPIC_METHOD_RES:
		hub_method_answer(s->dev->model, s->id, t.rid, t.status, p->body);
		break;
	case HF_TOPIC_BAD:
		return drop(s, HUB_M_BAD_TOPIC, "PUBLISH to an unknown topic");
	}
	return r == HUB_DEV_ON && p->qos == 1 ? hub_dev_puback(s, p->packet_id, &none, 0) : r;
}

void hub_dev_will(struct hub_session *s)
{
	struct hf_mqtt_publish p = { .topic = hf_span_str(s->will_topic), .body = hf_buf_span(&s->will_body) };
	struct hf_topic t;

	if (!s->will_topic)
		return;
	hf_topic_parse(p.topic, &t);
	s->closing = true;
	take_event(s, &t, &p, s->will_retain ? "iothub-MessageType=Will&mqtt-retain=true" : "iothub-MessageType=Will");
}

static void save_filters(struct hub_session *s)
{
	if (!s->clean && hub_dev_ident(s))
		hub_session_save(s->dev->model, s->id, s->filters);
	s->subs_changed = true;
}

static int on_subscribe(struct hub_session *s, const struct hf_mqtt_packet *pkt)
{
	struct hf_span rest = pkt->subscribe.filters, filter;
	uint8_t codes[64], qos;
	unsigned n = 0;

	while (hf_mqtt_next_filter(&rest, true, &filter, &qos)) {
		unsigned bits = hub_dev_filter_bits(s, filter);
		hf_autofree char *text = bits ? hf_span_dup(filter) : NULL;

		if (n == HF_ARRAY_LEN(codes))
			return drop(s, HUB_M_MALFORMED, "more than 64 filters in one SUBSCRIBE");
		if (text && json_object_size(s->filters) >= MAX_FILTERS && !json_object_get(s->filters, text)) {
			free(text);
			text = NULL;
		}
		codes[n++] = text ? (qos ? 1 : 0) : 0x80;
		if (!text)
			continue;
		s->subs |= bits;
		if (bits & HF_SUB_C2D)
			s->c2d_qos = qos ? 1 : 0;
		json_object_set_new(s->filters, text, json_integer(qos ? 1 : 0));
	}
	hf_mqtt_put_suback(hub_dev_answer(s), pkt->subscribe.packet_id, codes, n);
	save_filters(s);
	return 0;
}

static int on_unsubscribe(struct hub_session *s, const struct hf_mqtt_packet *pkt)
{
	struct hf_span rest = pkt->subscribe.filters, filter;
	const char *left;
	json_t *qos;

	while (hf_mqtt_next_filter(&rest, false, &filter, NULL)) {
		hf_autofree char *text = hf_span_dup(filter);

		if (text)
			json_object_del(s->filters, text);
	}
	s->subs = 0;
	json_object_foreach(s->filters, left, qos)
		s->subs |= hub_dev_filter_bits(s, hf_span_str(left));
	hf_mqtt_put_ack(hub_dev_answer(s), HF_MQTT_UNSUBACK, pkt->subscribe.packet_id);
	save_filters(s);
	return 0;
}

int hub_dev_packet(struct hub_session *s, const struct hf_mqtt_packet *pkt)
{
	if (!s->connected && pkt->type != HF_MQTT_CONNECT)
		return drop(s, HUB_M_MALFORMED, "first packet is not CONNECT");
	switch (pkt->type) {
	case HF_MQTT_CONNECT:
		return on_connect(s, &pkt->connect);
	case HF_MQTT_PUBLISH:
		return on_publish(s, &pkt->publish);
	case HF_MQTT_PUBACK:
		hub_dev_c2d_acked(s, pkt->ack.packet_id);
		return 0;
	case HF_MQTT_SUBSCRIBE:
		return on_subscribe(s, pkt);
	case HF_MQTT_UNSUBSCRIBE:
		return on_unsubscribe(s, pkt);
	case HF_MQTT_PINGREQ:
		hf_mqtt_put_empty(hf_conn_out(s->conn), HF_MQTT_PINGRESP);
		hf_conn_flush_later(s->conn);
		return 0;
	case HF_MQTT_DISCONNECT:
		s->graceful = s->closing = true;
		hf_conn_close(s->conn);
		return HUB_DEV_CLOSED;
	case HF_MQTT_CONNACK: case HF_MQTT_PUBREC: case HF_MQTT_PUBREL: case HF_MQTT_PUBCOMP:
	case HF_MQTT_SUBACK: case HF_MQTT_UNSUBACK: case HF_MQTT_PINGRESP:
		break;
	}
	return drop(s, HUB_M_MALFORMED, "packet type not allowed from a client");
}
