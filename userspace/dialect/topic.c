/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "dialect/topic.h"
#include "core/util.h"

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

size_t hf_topic_events_len(struct hf_span device, struct hf_span module)
{
	return strlen("devices//messages/events/") + device.len + (module.len ? strlen("/modules/") + module.len : 0);
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

/* Takes `text` off the front of *rest if it is there. */
static bool eat(struct hf_span *rest, struct hf_span text)
{
	if (rest->len < text.len || memcmp(rest->ptr, text.ptr, text.len) != 0)
		return false;
	*rest = hf_span(rest->ptr + text.len, rest->len - text.len);
	return true;
}

unsigned hf_filter_kind(struct hf_span filter, struct hf_span device, struct hf_span module)
{
	struct hf_span rest = filter;

	if (hf_span_starts(filter, "$iothub/methods/POST/"))
		return HF_SUB_METHODS;
	if (hf_span_starts(filter, "$iothub/twin/PATCH/properties/desired/"))
		return HF_SUB_DESIRED;
	if (hf_span_is(filter, "$iothub/twin/res/#"))
		return HF_SUB_TWIN_RES;
	if (!eat(&rest, hf_span_str("devices/")) || !eat(&rest, device))
		return 0;
	if (!module.len)
		return hf_span_is(rest, "/messages/devicebound/#") ? HF_SUB_C2D : 0;
	if (!eat(&rest, hf_span_str("/modules/")) || !eat(&rest, module))
		return 0;
	return hf_span_is(rest, "/#") || hf_span_starts(rest, "/inputs/") ? HF_SUB_INPUTS : 0;
}
