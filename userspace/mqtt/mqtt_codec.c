/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "mqtt/mqtt_codec.h"
#include "core/util.h"
#include <holdfast/err.h>

/* --- decoding ----------------------------------------------------------------------------------------- */

static int bad(const char **ret_reason, const char *why)
{
	*ret_reason = why;
	return HF_EPROTO;
}

static struct hf_span take_field(struct hf_cur *c)
{
	return hf_cur_take(c, hf_cur_be16(c));
}

static int decode_connect(struct hf_cur *c, struct hf_mqtt_connect *out, const char **reason)
{
	struct hf_span name = take_field(c);
	uint8_t level = hf_cur_u8(c), flags;

	if (c->err || !hf_span_is(name, "MQTT"))
		return c->err == 0 && hf_span_is(name, "MQIsdp") ? (out->level = level, 0)
								: bad(reason, "CONNECT: protocol name is not MQTT");
	out->level = level;
	if (level != 4)
		return 0;	/* answered with CONNACK 1 */
	flags = hf_cur_u8(c);
	out->keep_alive_s = hf_cur_be16(c);
	if (c->err)
		return bad(reason, "CONNECT: truncated");
	if (flags & 1)
		return bad(reason, "CONNECT: reserved flag set");
	out->clean_session = flags & 2;
	out->has_will = flags & 4;
	out->will_qos = flags >> 3 & 3;
	out->will_retain = flags & 0x20;
	out->has_password = flags & 0x40;
	out->has_user = flags & 0x80;
	if (out->will_qos == 3 || (!out->has_will && (out->will_qos || out->will_retain)))
		return bad(reason, "CONNECT: will flags contradict each other");
	if (out->has_password && !out->has_user)
		return bad(reason, "CONNECT: password without user name");
	out->client_id = take_field(c);
	if (out->has_will) {
		out->will_topic = take_field(c);
		out->will_body = take_field(c);
	}
	if (out->has_user)
		out->user = take_field(c);
	if (out->has_password)
		out->password = take_field(c);
	if (c->err || c->in.len)
		return bad(reason, c->err ? "CONNECT: truncated" : "CONNECT: trailing bytes");
	if (!hf_utf8_ok(out->client_id) || !hf_utf8_ok(out->user) || !hf_utf8_ok(out->will_topic))
		return bad(reason, "CONNECT: text is not UTF-8");
	if (out->has_will && !hf_mqtt_topic_ok(out->will_topic))
		return bad(reason, "CONNECT: will topic");
	return 0;
}

static int decode_publish(struct hf_cur *c, uint8_t flags, struct hf_mqtt_publish *out, const char **reason)
{
	out->qos = flags >> 1 & 3;
	out->dup = flags & 8;
	out->retain = flags & 1;
	if (out->qos == 3 || (out->qos == 0 && out->dup))
		return bad(reason, "PUBLISH: flags");
	out->topic = take_field(c);
	if (out->qos)
		out->packet_id = hf_cur_be16(c);
	if (c->err)
		return bad(reason, "PUBLISH: truncated");
	if (out->qos && out->packet_id == 0)
		return bad(reason, "PUBLISH: packet id 0");
	if (!hf_mqtt_topic_ok(out->topic))
		return bad(reason, "PUBLISH: topic");
	out->body = c->in;
	return 0;
}

static int decode_filters(struct hf_cur *c, bool with_qos, struct hf_mqtt_packet *out, const char **reason)
{
	out->subscribe.packet_id = hf_cur_be16(c);
	out->subscribe.filters = c->in;
	if (c->err || out->subscribe.packet_id == 0 || c->in.len == 0)
		return bad(reason, "SUBSCRIBE/UNSUBSCRIBE: packet id or filters missing");
	while (c->in.len) {
		struct hf_span filter = take_field(c);
		uint8_t qos = with_qos ? hf_cur_u8(c) : 0;

		if (c->err || qos > 2 || !hf_mqtt_filter_ok(filter))
			return bad(reason, "SUBSCRIBE/UNSUBSCRIBE: bad filter");
	}
	return 0;
}

static int decode_suback(struct hf_cur *c, struct hf_mqtt_packet *out, const char **reason)
{
	out->suback.packet_id = hf_cur_be16(c);
	out->suback.codes = c->in;
	if (c->err || out->suback.packet_id == 0 || c->in.len == 0)
		return bad(reason, "SUBACK: truncated");
	for (size_t i = 0; i < c->in.len; i++)
		if (c->in.ptr[i] > 2 && c->in.ptr[i] != 0x80)
			return bad(reason, "SUBACK: return code");
	return 0;
}

static int decode_connack(struct hf_cur *c, struct hf_mqtt_packet *out, const char **reason)
{
	uint8_t flags = hf_cur_u8(c);

	out->connack.code = hf_cur_u8(c);
	out->connack.session_present = flags & 1;
	if (c->err || c->in.len || (flags & 0xfe))
		return bad(reason, "CONNACK: malformed");
	return 0;
}

static int decode_body(struct hf_cur *c, uint8_t flags, struct hf_mqtt_packet *out, const char **reason)
{
	switch (out->type) {
	case HF_MQTT_CONNECT:
		return decode_connect(c, &out->connect, reason);
	case HF_MQTT_CONNACK:
		return decode_connack(c, out, reason);
	case HF_MQTT_PUBLISH:
		return decode_publish(c, flags, &out->publish, reason);
	case HF_MQTT_PUBACK: case HF_MQTT_PUBREC: case HF_MQTT_PUBREL: case HF_MQTT_PUBCOMP: case HF_MQTT_UNSUBACK:
		out->ack.packet_id = hf_cur_be16(c);
		if (c->err || c->in.len || out->ack.packet_id == 0)
			return bad(reason, "acknowledgement: malformed");
		return 0;
	case HF_MQTT_SUBSCRIBE:
	case HF_MQTT_UNSUBSCRIBE:
		return decode_filters(c, out->type == HF_MQTT_SUBSCRIBE, out, reason);
	case HF_MQTT_SUBACK:
		return decode_suback(c, out, reason);
	case HF_MQTT_PINGREQ: case HF_MQTT_PINGRESP: case HF_MQTT_DISCONNECT:
		return c->in.len ? bad(reason, "packet with a body that has none") : 0;
	}
	return bad(reason, "unknown packet type");
}

static bool flags_ok(enum hf_mqtt_type type, uint8_t flags)
{
	if (type == HF_MQTT_PUBLISH)
		return true;
	if (type == HF_MQTT_PUBREL || type == HF_MQTT_SUBSCRIBE || type == HF_MQTT_UNSUBSCRIBE)
		return flags == 2;
	return flags == 0;
}

static bool direction_ok(enum hf_mqtt_type type, bool from_client)
{
	switch (type) {
	case HF_MQTT_CONNECT: case HF_MQTT_SUBSCRIBE: case HF_MQTT_UNSUBSCRIBE: case HF_MQTT_PINGREQ:
	case HF_MQTT_DISCONNECT:
		return from_client;
	case HF_MQTT_CONNACK: case HF_MQTT_SUBACK: case HF_MQTT_UNSUBACK: case HF_MQTT_PINGRESP:
		return !from_client;
	case HF_MQTT_PUBLISH: case HF_MQTT_PUBACK: case HF_MQTT_PUBREC: case HF_MQTT_PUBREL: case HF_MQTT_PUBCOMP:
		return true;
	}
	return false;
}

int hf_mqtt_decode(struct hf_span in, size_t max_packet, bool from_client, struct hf_mqtt_packet *ret_pkt,
		   size_t *ret_need, const char **ret_reason)
{
	struct hf_mqtt_packet out = { 0 };
	size_t len = 0, i = 1;
	int r;

	if (in.len < 2) {
		*ret_need = 2;
		return HF_EMORE;
	}
	out.type = in.ptr[0] >> 4;
	if (out.type == 0 || out.type == 15 || !flags_ok(out.type, in.ptr[0] & 15))
		return bad(ret_reason, "reserved packet type or flags");
	if (!direction_ok(out.type, from_client))
		return bad(ret_reason, "packet type not allowed from this side");
	for (unsigned shift = 0;; shift += 7, i++) {
		if (shift > 21)
			return bad(ret_reason, "remaining length over 4 bytes");
		if (i >= in.len) {
			*ret_need = i + 1;
			return HF_EMORE;
		}
		len |= (size_t)(in.ptr[i] & 0x7f) << shift;
		if (!(in.ptr[i] & 0x80))
			break;
	}
	out.size = i + 1 + len;
	if (out.size > max_packet) {
		*ret_reason = "packet too large";
		return HF_ELIMIT;
	}
	if (in.len < out.size) {
		*ret_need = out.size;
		return HF_EMORE;
	}
	struct hf_cur c = hf_cur(hf_span(in.ptr + i + 1, len));
	r = decode_body(&c, in.ptr[0] & 15, &out, ret_reason);
	if (r == 0)
		*ret_pkt = out;
	return r;
}

bool hf_mqtt_next_filter(struct hf_span *rest, bool with_qos, struct hf_span *ret_filter, uint8_t *ret_qos)
{
	struct hf_cur c = hf_cur(*rest);
	struct hf_span filter;
	uint8_t qos = 0;

	if (rest->len == 0)
		return false;
	filter = take_field(&c);
	if (with_qos)
		qos = hf_cur_u8(&c);
	if (c.err)
		return false;
	*ret_filter = filter;
	if (ret_qos)
		*ret_qos = qos;
	*rest = c.in;
	return true;
}

/* --- encoding ----------------------------------------------------------------------------------------- */

static void put_header(struct hf_buf *b, uint8_t first, size_t len)
{
	uint8_t head[5] = { first };
	unsigned n = 1;

	do {
		head[n] = len & 0x7f;
		len >>= 7;
		if (len)
			head[n] |= 0x80;
		n++;
	} while (len && n < 5);
	hf_buf_put(b, head, n);
}

static void put_field(struct hf_buf *b, struct hf_span s)
{
	if (s.len > 65535) {
		b->err = b->err ? b->err : HF_ELIMIT;
		return;
	}
	hf_buf_be16(b, (uint16_t)s.len);
	hf_buf_put_span(b, s);
}

void hf_mqtt_put_connect(struct hf_buf *b, const struct hf_mqtt_connect *c)
{
	size_t len = 10 + 2 + c->client_id.len;
	uint8_t flags = 0;

	if (c->clean_session)
		flags |= 2;
	if (c->has_will) {
		flags |= (uint8_t)(4 | c->will_qos << 3 | (c->will_retain ? 0x20 : 0));
		len += 4 + c->will_topic.len + c->will_body.len;
	}
	if (c->has_password) {
		flags |= 0x40;
		len += 2 + c->password.len;
	}
	if (c->has_user) {
		flags |= 0x80;
		len += 2 + c->user.len;
	}
	put_header(b, HF_MQTT_CONNECT << 4, len);
	put_field(b, hf_span("MQTT", 4));
	hf_buf_u8(b, c->level ? c->level : 4);
	hf_buf_u8(b, flags);
	hf_buf_be16(b, c->keep_alive_s);
	put_field(b, c->client_id);
	if (c->has_will) {
		put_field(b, c->will_topic);
		put_field(b, c->will_body);
	}
	if (c->has_user)
		put_field(b, c->user);
	if (c->has_password)
		put_field(b, c->password);
}

void hf_mqtt_put_connack(struct hf_buf *b, bool session_present, uint8_t code)
{
	uint8_t pkt[4] = { HF_MQTT_CONNACK << 4, 2, session_present && code == 0, code };

	hf_buf_put(b, pkt, sizeof pkt);
}

static size_t publish_len(uint8_t qos, size_t topic_len, size_t body_len)
{
	return 2 + topic_len + (qos ? 2 : 0) + body_len;
}

void hf_mqtt_put_publish(struct hf_buf *b, uint8_t qos, bool dup, bool retain, uint16_t packet_id,
			 struct hf_span topic_a, struct hf_span topic_b, struct hf_span body)
{
	size_t topic_len = topic_a.len + topic_b.len;

	if (topic_len > 65535 || body.len > 268435455 - 65540) {
		b->err = b->err ? b->err : HF_ELIMIT;
		return;
	}
	put_header(b, (uint8_t)(HF_MQTT_PUBLISH << 4 | (dup ? 8 : 0) | qos << 1 | (retain ? 1 : 0)),
		   publish_len(qos, topic_len, body.len));
	hf_buf_be16(b, (uint16_t)topic_len);
	hf_buf_put_span(b, topic_a);
	hf_buf_put_span(b, topic_b);
	if (qos)
		hf_buf_be16(b, packet_id);
	hf_buf_put_span(b, body);
}

void hf_mqtt_put_ack(struct hf_buf *b, enum hf_mqtt_type type, uint16_t packet_id)
{
	uint8_t pkt[4] = { (uint8_t)(type << 4 | (type == HF_MQTT_PUBREL ? 2 : 0)), 2, (uint8_t)(packet_id >> 8),
			   (uint8_t)packet_id };

	hf_buf_put(b, pkt, sizeof pkt);
}

void hf_mqtt_put_subscribe(struct hf_buf *b, uint16_t packet_id, const struct hf_span *filters, const uint8_t *qos,
			   unsigned n)
{
	size_t len = 2;

	for (unsigned i = 0; i < n; i++)
		len += 3 + filters[i].len;
	put_header(b, HF_MQTT_SUBSCRIBE << 4 | 2, len);
	hf_buf_be16(b, packet_id);
	for (unsigned i = 0; i < n; i++) {
		put_field(b, filters[i]);
		hf_buf_u8(b, qos[i]);
	}
}

void hf_mqtt_put_unsubscribe(struct hf_buf *b, uint16_t packet_id, const struct hf_span *filters, unsigned n)
{
	size_t len = 2;

	for (unsigned i = 0; i < n; i++)
		len += 2 + filters[i].len;
	put_header(b, HF_MQTT_UNSUBSCRIBE << 4 | 2, len);
	hf_buf_be16(b, packet_id);
	for (unsigned i = 0; i < n; i++)
		put_field(b, filters[i]);
}

void hf_mqtt_put_suback(struct hf_buf *b, uint16_t packet_id, const uint8_t *codes, unsigned n)
{
	put_header(b, HF_MQTT_SUBACK << 4, 2 + n);
	hf_buf_be16(b, packet_id);
	hf_buf_put(b, codes, n);
}

void hf_mqtt_put_empty(struct hf_buf *b, enum hf_mqtt_type type)
{
	uint8_t pkt[2] = { (uint8_t)(type << 4), 0 };

	hf_buf_put(b, pkt, sizeof pkt);
}
