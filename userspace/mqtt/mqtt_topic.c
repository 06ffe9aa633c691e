/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Filters (MQTT 4.7) and the IoT Hub topics of clients (iothub-protocol 1.12). */
#include "core/util.h"
#include "mqtt/mqtt_codec.h"
#include <holdfast/err.h>

bool hf_mqtt_topic_ok(struct hf_span topic)
{
	if (topic.len == 0 || topic.len > 65535 || !hf_utf8_ok(topic))
		return false;
	return !memchr(topic.ptr, '#', topic.len) && !memchr(topic.ptr, '+', topic.len);
}

bool hf_mqtt_filter_ok(struct hf_span filter)
{
	if (filter.len == 0 || filter.len > 65535 || !hf_utf8_ok(filter))
		return false;
	for (size_t i = 0; i < filter.len; i++) {
		bool starts = i == 0 || filter.ptr[i - 1] == '/';
		bool ends = i + 1 == filter.len || filter.ptr[i + 1] == '/';

		if (filter.ptr[i] == '+' && !(starts && ends))
			return false;
		if (filter.ptr[i] == '#' && !(starts && i + 1 == filter.len))
			return false;
	}
	return true;
}

bool hf_mqtt_match(struct hf_span filter, struct hf_span topic)
{
	if (topic.len && topic.ptr[0] == '$' && filter.len && (filter.ptr[0] == '+' || filter.ptr[0] == '#'))
		return false;
	for (;;) {
		struct hf_span f, t;
		bool more_f, more_t;

		if (hf_span_is(filter, "#"))
			return true;
		more_f = hf_span_cut(&filter, '/', &f);
		more_t = hf_span_cut(&topic, '/', &t);
		if (!hf_span_is(f, "+") && !hf_span_eq(f, t))
			return false;
		if (!more_f || !more_t)
			return more_f == more_t || (more_f && hf_span_is(filter, "#"));
	}
}

struct hf_span hf_topic_query(struct hf_span query, const char *name)
{
	struct hf_span pair, key;

	if (query.len && query.ptr[0] == '?')
		query = hf_span_skip(query, 1);
	while (query.len) {
		hf_span_cut(&query, '&', &pair);
		if (hf_span_cut(&pair, '=', &key) && hf_span_is(key, name))
			return pair;
	}
	return hf_span(NULL, 0);
}

static void parse_query(struct hf_span query, struct hf_topic *t)
{
	struct hf_span version = hf_topic_query(query, "$version");

	t->rest = query;
	t->rid = hf_topic_query(query, "$rid");
	t->version = -1;
	if (version.len)
		hf_parse_i64(version, 0, INT64_MAX, &t->version);
}

/* "devices/D/messages/events/..." or "devices/D/modules/M/messages/events/..." */
static bool parse_events(struct hf_span topic, struct hf_topic *t)
{
	struct hf_span word;

	hf_span_cut(&topic, '/', &word);
	hf_span_cut(&topic, '/', &t->device);
	if (t->device.len == 0)
		return false;
	hf_span_cut(&topic, '/', &word);
	if (hf_span_is(word, "modules")) {
		hf_span_cut(&topic, '/', &t->module);
		if (t->module.len == 0)
			return false;
		hf_span_cut(&topic, '/', &word);
	}
	if (!hf_span_is(word, "messages"))
		return false;
	hf_span_cut(&topic, '/', &word);
	t->rest = topic;
	return hf_span_is(word, "events");
}

void hf_topic_parse(struct hf_span topic, struct hf_topic *ret_topic)
{
	static const char get[] = "$iothub/twin/GET/", patch[] = "$iothub/twin/PATCH/properties/reported/",
			  res[] = "$iothub/methods/res/";
	struct hf_topic t = { .kind = HF_TOPIC_BAD, .version = -1 };
	struct hf_span status;
	int64_t v;

	if (hf_span_starts(topic, "devices/")) {
		if (parse_events(topic, &t))
			t.kind = HF_TOPIC_EVENTS;
	} else if (hf_span_starts(topic, get) && topic.len > sizeof get - 1 && topic.ptr[sizeof get - 1] == '?') {
		t.kind = HF_TOPIC_TWIN_GET;
		parse_query(hf_span_skip(topic, sizeof get - 1), &t);
	} else if (hf_span_starts(topic, patch) && topic.len > sizeof patch - 1 && topic.ptr[sizeof patch - 1] == '?') {
		t.kind = HF_TOPIC_TWIN_PATCH;
		parse_query(hf_span_skip(topic, sizeof patch - 1), &t);
	} else if (hf_span_starts(topic, res)) {
		topic = hf_span_skip(topic, sizeof res - 1);
		if (hf_span_cut(&topic, '/', &status) && hf_parse_i64(status, INT32_MIN, INT32_MAX, &v) == 0) {
			t.kind = HF_TOPIC_METHOD_RES;
			t.status = (int32_t)v;
			parse_query(topic, &t);
		}
	}
	*ret_topic = t;
}
