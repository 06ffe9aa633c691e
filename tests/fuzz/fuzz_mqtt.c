/* SPDX-License-Identifier: GPL-3.0-or-later */
/* MQTT packets and what the hub reads in them. First byte: 1 = sent by a client. */
#include "fuzz.h"
#include "dialect/topic.h"
#include "dialect/user.h"
#include "mqtt/mqtt_codec.h"

#include <holdfast/err.h>

static void use(const struct hf_mqtt_packet *p)
{
	struct hf_span rest = p->subscribe.filters, filter;
	const char *reason = NULL;
	struct hf_mqtt_user user;
	struct hf_topic topic;
	uint8_t qos;

	switch (p->type) {
	case HF_MQTT_CONNECT:
		if (hf_mqtt_user_parse(p->connect.user, &user, &reason) != 0)
			FUZZ_CHECK(reason != NULL);
		break;
	case HF_MQTT_PUBLISH:
		FUZZ_CHECK(p->publish.qos <= 2 && p->publish.topic.len + p->publish.body.len < p->size);
		hf_topic_parse(p->publish.topic, &topic);
		hf_topic_query(topic.rest, "$version");
		hf_mqtt_match(hf_span_str("devices/+/messages/#"), p->publish.topic);
		break;
	case HF_MQTT_SUBSCRIBE:
	case HF_MQTT_UNSUBSCRIBE:
		while (hf_mqtt_next_filter(&rest, p->type == HF_MQTT_SUBSCRIBE, &filter, &qos))
			FUZZ_CHECK(!hf_mqtt_filter_ok(filter) || filter.len > 0);
		break;
	default:
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct hf_span in;
	int r = 0;

	if (size == 0)
		return 0;
	in = hf_span(data + 1, size - 1);
	while (in.len && r == 0) {
		const char *reason = NULL;
		struct hf_mqtt_packet p;
		size_t need = 0;

		r = hf_mqtt_decode(in, 65536, data[0] & 1, &p, &need, &reason);
		if (r == HF_EMORE)
			FUZZ_CHECK(need > in.len);
		else if (r != 0)
			FUZZ_CHECK(reason != NULL || r == HF_ELIMIT);
		else {
			FUZZ_CHECK(p.size >= 2 && p.size <= in.len);
			use(&p);
			in = hf_span_skip(in, p.size);
		}
	}
	return 0;
}
