/* SPDX-License-Identifier: GPL-3.0-or-later */
/* From the hub to a connected client: C2D, desired patches, methods. */
#include "core/util.h"
#include "hub/mqtt/dev_int.h"
#include <errno.h>
#include <stdio.h>

unsigned hub_dev_filter_bits(const struct hub_session *s, struct hf_span filter)
{
	struct hf_span device, module = hf_span_str(s->id);

	hf_span_cut(&module, '/', &device);
	return hf_filter_kind(filter, device, module);
}

static void publish(struct hub_session *s, uint8_t qos, bool dup, uint16_t id, struct hf_span topic, struct hf_span bag,
		    struct hf_span body)
{
	hf_mqtt_put_publish(hf_conn_out(s->conn), qos, dup, false, id, topic, bag, body);
	hf_conn_flush_later(s->conn);
}

/* Filters for single methods are allowed; a call of another one times out. */
static bool wants(const struct hub_session *s, struct hf_span topic)
{
	const char *filter;
	json_t *qos;

	json_object_foreach(s->filters, filter, qos)
		if (hf_mqtt_match(hf_span_str(filter), topic))
			return true;
	return false;
}

static void send_method(void *arg, const char *name, const char *rid, struct hf_span payload)
{
	struct hub_session *s = arg;
	hf_autobuf struct hf_buf topic = HF_BUF_INIT(1024);

	/* As it is: SDKs take the name literally, and what a name may hold means nothing in a topic. */
	hf_buf_printf(&topic, "$iothub/methods/POST/%s/?$rid=%s", name, rid);
	if (!topic.err && wants(s, hf_buf_span(&topic)))
		publish(s, 0, false, 0, hf_buf_span(&topic), hf_span(NULL, 0), payload);
}

void hub_dev_subs_changed(struct hub_session *s)
{
	bool want = s->subs & HF_SUB_METHODS;

	if (want && !s->sink_on) {
		s->sink = (struct hub_method_sink){ .id = s->id, .send = send_method, .arg = s };
		hub_method_sink_add(s->dev->model, &s->sink);
	} else if (!want && s->sink_on) {
		hub_method_sink_remove(s->dev->model, &s->sink);
	}
	s->sink_on = want;
	if (s->subs & HF_SUB_C2D)
		hub_dev_c2d_pump(s);
}

void hub_dev_on_desired(void *arg, const char *id, const json_t *patch, int64_t version)
{
	struct hub_dev *d = arg;
	struct hub_session *s = hf_map_get(d->by_id, hf_span_str(id));
	char topic[96];

	if (!s || s->closing || !(s->subs & HF_SUB_DESIRED))
		return;
	hf_autofree char *body = json_dumps(patch, JSON_COMPACT);

	snprintf(topic, sizeof topic, "$iothub/twin/PATCH/properties/desired/?$version=%lld", (long long)version);
	if (body)
		hf_mqtt_put_publish(hub_dev_answer(s), 0, false, false, 0, hf_span_str(topic), hf_span(NULL, 0), hf_span_str(body));
}

static bool id_in_use(const struct hub_session *s, uint16_t id)
{
	for (unsigned i = 0; i < s->n_c2d; i++)
		if (s->c2d[i].packet_id == id)
			return true;
	return id == 0;
}

static uint16_t next_id(struct hub_session *s)
{
	do
		s->next_packet_id++;
	while (id_in_use(s, s->next_packet_id));
	return s->next_packet_id;
}

/* Room for another message. What ended without an acknowledgement is forgotten; a late one means nothing then. */
static bool has_room(struct hub_session *s)
{
	unsigned n = 0;

	if (s->n_c2d < HUB_DEV_C2D_WINDOW)
		return true;
	for (unsigned i = 0; i < s->n_c2d; i++)
		if (hub_c2d_holds(s->dev->model, s->id, s, s->c2d[i].seq))
			s->c2d[n++] = s->c2d[i];
	s->n_c2d = n;
	return n < HUB_DEV_C2D_WINDOW;
}

void hub_dev_c2d_pump(struct hub_session *s)
{
	const struct hub_c2d *m;
	char topic[HF_IDENT_MAX + 64];

	if (!(s->subs & HF_SUB_C2D) || s->closing || s->subs_changed)
		return;		/* the last: CONNACK or SUBACK go first */
	snprintf(topic, sizeof topic, "devices/%s/messages/devicebound/", s->id);
	while (has_room(s) && hub_c2d_receive(s->dev->model, s->id, s, 0, &m) == 0) {
		uint64_t seq = m->seq;
		uint16_t id = s->c2d_qos ? next_id(s) : 0;

		publish(s, s->c2d_qos, s->c2d_qos && m->redelivered, id, hf_span_str(topic), m->bag, m->body);
		if (!s->c2d_qos) {
			hub_c2d_settle_seq(s->dev->model, s->id, s, seq, HUB_COMPLETE);
			continue;
		}
		s->c2d[s->n_c2d].packet_id = id;
		s->c2d[s->n_c2d++].seq = seq;
	}
}

void hub_dev_c2d_acked(struct hub_session *s, uint16_t packet_id)
{
	for (unsigned i = 0; i < s->n_c2d; i++) {
		if (s->c2d[i].packet_id != packet_id)
			continue;
		hub_c2d_settle_seq(s->dev->model, s->id, s, s->c2d[i].seq, HUB_COMPLETE);
		s->n_c2d--;
		memmove(&s->c2d[i], &s->c2d[i + 1], (s->n_c2d - i) * sizeof s->c2d[0]);
		hub_dev_c2d_pump(s);
		return;
	}
}

void hub_dev_on_c2d(void *arg, const char *device_id)
{
	struct hub_dev *d = arg;
	struct hub_session *s = hf_map_get(d->by_id, hf_span_str(device_id));

	if (s)
		hub_dev_c2d_pump(s);
}
