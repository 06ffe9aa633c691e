/* SPDX-License-Identifier: GPL-3.0-or-later */
/* MQTT of a hub session: login, subscriptions, telemetry out, methods, desired patches and C2D in. */
#include "core/log.h"
#include "core/util.h"
#include "upstream/hub_session_int.h"
#include <errno.h>
#include <holdfast/err.h>
#include <stdio.h>

static const char res_prefix[] = "$iothub/twin/res/";
static const char desired_prefix[] = "$iothub/twin/PATCH/properties/desired/";
static const char method_prefix[] = "$iothub/methods/POST/";

static uint16_t next_id(struct hf_hub_session *s)
{
	for (;;) {
		bool used = false;

		if (++s->next_id == 0)
			s->next_id = 1;
		for (unsigned i = 0; i < s->n_flight && !used; i++)
			used = s->flight[i].id == s->next_id;
		if (!used)
			return s->next_id;
	}
}

static void subscribe(struct hf_hub_session *s, const char *filter, uint8_t qos, bool on)
{
	struct hf_span f = hf_span_str(filter);

	if (on)
		hf_mqtt_put_subscribe(hf_conn_out(s->conn->conn), next_id(s), &f, &qos, 1);
	else
		hf_mqtt_put_unsubscribe(hf_conn_out(s->conn->conn), next_id(s), &f, 1);
	hf_conn_flush_later(s->conn->conn);
}

/* The hub sees the subscriptions that the child has here; twin replies are always ours. */
void hf_hub_session_mirror_subs(struct hf_hub_session *s)
{
	unsigned want = hf_hub_session_subs(s) & (HF_SUB_METHODS | HF_SUB_DESIRED | HF_SUB_C2D), change;
	char c2d[HF_IDENT_MAX + 64];

	want |= HF_SUB_TWIN_RES;
	if (s == s->up->own)
		want |= HF_SUB_DESIRED;
	change = want ^ s->hub_subs;
	if (change & HF_SUB_TWIN_RES)
		subscribe(s, "$iothub/twin/res/#", 0, want & HF_SUB_TWIN_RES);
	if (change & HF_SUB_DESIRED)
		subscribe(s, "$iothub/twin/PATCH/properties/desired/#", 0, want & HF_SUB_DESIRED);
	if (change & HF_SUB_METHODS)
		subscribe(s, "$iothub/methods/POST/#", 0, want & HF_SUB_METHODS);
	if ((change & HF_SUB_C2D) && !strchr(s->ident, '/')) {
		snprintf(c2d, sizeof c2d, "devices/%s/messages/devicebound/#", s->ident);
		subscribe(s, c2d, 1, want & HF_SUB_C2D);
	}
	s->hub_subs = want;
}

static void on_connack(struct hf_hub_session *s, uint8_t code)
{
	struct hf_upstream *up = s->up;
	char why[96];

	if (s->state != SESSION_CONNECTING) {
		hf_hub_session_drop(s, HF_EPROTO, "CONNACK out of place");
		return;
	}
	if (code != HF_CONNACK_OK) {
		snprintf(why, sizeof why, "the hub refused the connection: CONNACK %u", code);
		hf_own_token_forget(up);	/* made anew with the clock as it is then */
		if (s != up->own) {
			hf_refresh_ask(up, s->ident, NULL);
		} else {
			hf_log(HF_LOG_WARN, "upstream.refused", "%s", why);
			hf_scope_sync_ask_time(up);
		}
		hf_hub_session_drop(s, HF_EDENIED, why);
		return;
	}
	s->state = SESSION_UP;
	up->n_connecting--;
	up->n_up++;
	s->hub_subs = 0;
	hf_backoff_up(&s->backoff, hf_loop_now_ms(up->loop));
	hf_hub_session_mirror_subs(s);
	if (s == up->own)
		hf_link_own_up(up);
	s->child = hf_pump_child(up->pump, hf_span_str(s->ident));
	if (s->child)
		hf_pump_session_up(up->pump, s->child, hf_link_number(up));
	hf_twin_session_up(s);
	hf_hub_session_start_waiting(up);
}

static void on_puback(struct hf_hub_session *s, uint16_t id)
{
	for (unsigned i = 0; i < s->n_flight; i++) {
		uint64_t seq = s->flight[i].seq;

		if (s->flight[i].id != id)
			continue;
		s->n_flight--;
		memmove(&s->flight[i], &s->flight[i + 1], (s->n_flight - i) * sizeof s->flight[0]);
		hf_pump_acked(s->up->pump, s->child, seq);
		return;
	}
}

int hf_hub_session_send(struct hf_hub_session *s, uint64_t seq, const struct hf_msg *msg, bool dup)
{
	hf_autobuf struct hf_buf topic = HF_BUF_INIT(4096);
	const char *slash = strchr(s->ident, '/');
	struct hf_buf *out;
	uint16_t id;

	if (s->state != SESSION_UP || s->n_flight == HF_PUMP_WINDOW || hf_conn_out_len(s->conn->conn) > 256 * 1024)
		return HF_EFULL;
	if (slash)
		hf_buf_printf(&topic, "devices/%.*s/modules/%s/messages/events/", (int)(slash - s->ident), s->ident, slash + 1);
	else
		hf_buf_printf(&topic, "devices/%s/messages/events/", s->ident);
	if (topic.err)
		return topic.err;
	if (hf_buf_len(&topic) + msg->props_len > HF_MQTT_TOPIC_MAX || msg->body_len > HF_MSG_MAX_SIZE)
		return HF_ELIMIT;
	out = hf_conn_out(s->conn->conn);
	id = next_id(s);
	hf_mqtt_put_publish(out, 1, dup, false, id, hf_buf_span(&topic), hf_msg_props(msg), hf_msg_body(msg));
	hf_conn_flush_later(s->conn->conn);	/* also ends a connection whose buffer failed */
	if (out->err)
		return HF_EFULL;
	s->flight[s->n_flight].id = id;
	s->flight[s->n_flight++].seq = seq;
	s->last_used_ms = hf_loop_now_ms(s->up->loop);
	return 0;
}

void hf_hub_session_publish(struct hf_hub_session *s, struct hf_span topic, struct hf_span body)
{
	hf_mqtt_put_publish(hf_conn_out(s->conn->conn), 0, false, false, 0, topic, hf_span(NULL, 0), body);
	hf_conn_flush_later(s->conn->conn);
	s->last_used_ms = hf_loop_now_ms(s->up->loop);
}

/* --- downlinks ------------------------------------------------------------------------------------------------ */
/* What the hub may have on its way to one child. */
enum { DOWN_MAX = 256, DOWN_BYTES = 1 << 20 };

struct down_box {
	struct hf_down down;
	struct hf_upstream *up;
	unsigned generation;
	uint16_t packet_id;	/* of the hub's QoS 1 PUBLISH; 0 = none */
	size_t bytes;
	uint8_t data[];
};

static void on_down_done(struct hf_down *down)
{
	struct down_box *box = hf_container_of(down, struct down_box, down);
	struct hf_hub_session *s = hf_hub_session_find(box->up, hf_span_str(down->ident));

	if (s) {
		s->n_down--;
		s->down_bytes -= box->bytes;
	}
	/* Only the child's own PUBACK completes a C2D message; otherwise the hub delivers it again. */
	if (down->result == 0 && box->packet_id && s && s->generation == box->generation && hf_hub_session_is_up(s)) {
		hf_mqtt_put_ack(hf_conn_out(s->conn->conn), HF_MQTT_PUBACK, box->packet_id);
		hf_conn_flush_later(s->conn->conn);
	}
	free(box);
}

static void send_down(struct hf_hub_session *s, enum hf_down_kind kind, uint8_t qos, uint16_t packet_id,
		      struct hf_span topic, struct hf_span body)
{
	size_t bytes = topic.len + body.len;
	struct down_box *box = NULL;

	if (s->n_down < DOWN_MAX && (!s->down_bytes || s->down_bytes + bytes <= DOWN_BYTES))
		box = malloc(sizeof *box + bytes);
	if (!box) {	/* the hub's timer tells its caller; C2D stays in its queue */
		s->up->n.downs_refused++;
		return;
	}
	memset(box, 0, sizeof *box);
	memcpy(box->data, topic.ptr, topic.len);
	if (body.len)
		memcpy(box->data + topic.len, body.ptr, body.len);
	box->up = s->up;
	box->generation = s->generation;
	box->packet_id = packet_id;
	box->bytes = bytes;
	s->n_down++;
	s->down_bytes += bytes;
	box->down = (struct hf_down){ .reply_to = s->up->inbox, .done = on_down_done, .kind = kind, .qos = qos,
				      .topic = hf_span(box->data, topic.len), .body = hf_span(box->data + topic.len, body.len) };
	snprintf(box->down.ident, sizeof box->down.ident, "%s", s->ident);
	s->up->n.downs++;
	s->up->ops->to_child(s->up->arg, &box->down);
}

void hf_hub_session_send_desired(struct hf_hub_session *s, int64_t version, struct hf_span body)
{
	char topic[96];

	snprintf(topic, sizeof topic, "%s?$version=%lld", desired_prefix, (long long)version);
	send_down(s, HF_DOWN_DESIRED, 0, 0, hf_span_str(topic), body);
}

static int64_t version_of(struct hf_span query)
{
	struct hf_span text = hf_topic_query(query, "$version");
	int64_t v;

	return text.len && hf_parse_i64(text, 0, INT64_MAX, &v) == 0 ? v : -1;
}

static void on_twin_res(struct hf_hub_session *s, struct hf_span rest, struct hf_span body)
{
	struct hf_span status_text;
	int64_t status;

	hf_span_cut(&rest, '/', &status_text);
	if (hf_parse_i64(status_text, 100, 999, &status) == 0)
		hf_twin_on_response(s, (int)status, hf_topic_query(rest, "$rid"), version_of(rest), body);
}

void hf_hub_session_on_publish(struct hf_hub_session *s, const struct hf_mqtt_publish *p)
{
	if (hf_span_starts(p->topic, res_prefix))
		on_twin_res(s, hf_span_skip(p->topic, sizeof res_prefix - 1), p->body);
	else if (hf_span_starts(p->topic, desired_prefix))
		hf_twin_on_desired(s, version_of(hf_span_skip(p->topic, sizeof desired_prefix - 1)), p->body);
	else if (hf_span_starts(p->topic, method_prefix))
		send_down(s, HF_DOWN_METHOD, 0, 0, p->topic, p->body);
	else if (hf_span_starts(p->topic, "devices/"))
		send_down(s, HF_DOWN_C2D, p->qos ? 1 : 0, p->packet_id, p->topic, p->body);
}

void hf_hub_session_packet(struct hf_hub_session *s, const struct hf_mqtt_packet *pkt)
{
	if (s->state == SESSION_CONNECTING && pkt->type != HF_MQTT_CONNACK) {
		hf_hub_session_drop(s, HF_EPROTO, "packet before CONNACK");
		return;
	}
	switch (pkt->type) {
	case HF_MQTT_CONNACK:
		on_connack(s, pkt->connack.code);
		break;
	case HF_MQTT_PUBACK:
		on_puback(s, pkt->ack.packet_id);
		break;
	case HF_MQTT_PUBLISH:
		hf_hub_session_on_publish(s, &pkt->publish);
		break;
	case HF_MQTT_SUBACK: case HF_MQTT_UNSUBACK: case HF_MQTT_PINGRESP:
		break;	/* last_in_ms is all they mean to us */
	case HF_MQTT_CONNECT: case HF_MQTT_PUBREC: case HF_MQTT_PUBREL: case HF_MQTT_PUBCOMP: case HF_MQTT_SUBSCRIBE:
	case HF_MQTT_UNSUBSCRIBE: case HF_MQTT_PINGREQ: case HF_MQTT_DISCONNECT:
		hf_hub_session_drop(s, HF_EPROTO, "unexpected packet from the hub");
		break;
	}
}
