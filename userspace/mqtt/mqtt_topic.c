/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Topic names and filters (MQTT 4.7). */
#include "core/util.h"
#include "mqtt/mqtt_codec.h"

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
