/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Packets byte by byte: what is accepted, what is refused, truncation at every length, round trips, topics. */
#include "core/util.h"
#include "dialect/bag.h"
#include "dialect/topic.h"
#include "dialect/user.h"
#include "mqtt/mqtt_codec.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <holdfast/err.h>
#include <cmocka.h>

static int decode(const void *p, size_t n, bool from_client, struct hf_mqtt_packet *pkt)
{
	const char *why = NULL;
	size_t need = 0;
	int r = hf_mqtt_decode(hf_span(p, n), 300000, from_client, pkt, &need, &why);

	if (r == HF_EPROTO)
		assert_non_null(why);
	if (r == HF_EMORE)
		assert_true(need > n);
	return r;
}

static void test_malformed(void **state)
{
	static const struct { const char *bytes; size_t n; } bad[] = {
#define B(s) { s, sizeof s - 1 }
		B("\x00\x00"), B("\xf0\x00"), B("\x11\x00"), B("\x30\xff\xff\xff\xff"), B("\x36\x05\x00\x01" "aXX"),
		B("\x32\x05\x00\x01" "a\x00\x00"), B("\x30\x02\x00\x00"), B("\x30\x03\x00\x01#"), B("\x30\x03\x00\x05x"),
		B("\x38\x03\x00\x01" "a"), B("\x82\x02\x00\x01"), B("\x80\x06\x00\x01\x00\x01" "a\x00"), B("\x82\x06\x00\x01\x00\x01" "a\x03"),
		B("\x82\x06\x00\x00\x00\x01" "a\x00"), B("\x40\x02\x00\x00"), B("\x40\x03\x00\x01x"), B("\xc0\x01x"), B("\x20\x02\x00\x00"),
		B("\x10\x0c\x00\x04MQTT\x04\x03\x00\x3c\x00\x00"), B("\x10\x0c\x00\x04MQTT\x04\x42\x00\x3c\x00\x00"),
		B("\x10\x0c\x00\x04MQTT\x04\x18\x00\x3c\x00\x00"), B("\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x00x"),
		B("\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01\xff"), B("\x30\x04\x00\x02\xc0\x80"),
#undef B
	};
	struct hf_mqtt_packet pkt;

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_LEN(bad); i++)
		if (decode(bad[i].bytes, bad[i].n, true, &pkt) != HF_EPROTO)
			fail_msg("case %zu was not refused", i);
}

static void test_connect_round_trip_and_truncation(void **state)
{
	hf_autobuf struct hf_buf b = HF_BUF_INIT(65536);
	struct hf_mqtt_connect c = { .level = 4, .clean_session = true, .has_user = true, .has_password = true, .has_will = true,
				     .will_qos = 1, .keep_alive_s = 230, .client_id = hf_span_str("dev0"),
				     .user = hf_span_str("h/dev0/?api-version=1"), .password = hf_span_str("pw"),
				     .will_topic = hf_span_str("devices/dev0/messages/events/"), .will_body = hf_span_str("gone") };
	struct hf_mqtt_packet pkt;

	(void)state;
	hf_mqtt_put_connect(&b, &c);
	assert_int_equal(b.err, 0);
	for (size_t n = 0; n < hf_buf_len(&b); n++)
		assert_int_equal(decode(hf_buf_span(&b).ptr, n, true, &pkt), HF_EMORE);
	assert_int_equal(decode(hf_buf_span(&b).ptr, hf_buf_len(&b), true, &pkt), 0);
	assert_int_equal(pkt.size, hf_buf_len(&b));
	assert_true(pkt.connect.clean_session && pkt.connect.has_will && pkt.connect.will_qos == 1);
	assert_true(hf_span_is(pkt.connect.client_id, "dev0"));
	assert_true(hf_span_is(pkt.connect.password, "pw"));
	assert_true(hf_span_is(pkt.connect.will_body, "gone"));
	assert_int_equal(pkt.connect.keep_alive_s, 230);
	/* as a server's packet it is refused */
	assert_int_equal(decode(hf_buf_span(&b).ptr, hf_buf_len(&b), false, &pkt), HF_EPROTO);
}

static void test_publish_sizes(void **state)
{
	static const size_t sizes[] = { 0, 1, 100, 127, 128, 16000, 16384, 200000 };
	struct hf_mqtt_packet pkt;

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_LEN(sizes); i++) {
		hf_autobuf struct hf_buf b = HF_BUF_INIT(400000);
		hf_autofree uint8_t *body = calloc(1, sizes[i] + 1);

		hf_mqtt_put_publish(&b, 1, true, false, 77, hf_span_str("devices/d/"), hf_span_str("x=1"), hf_span(body, sizes[i]));
		assert_int_equal(decode(hf_buf_span(&b).ptr, hf_buf_len(&b), false, &pkt), 0);
		assert_true(hf_span_is(pkt.publish.topic, "devices/d/x=1"));
		assert_int_equal(pkt.publish.body.len, sizes[i]);
		assert_int_equal(pkt.publish.packet_id, 77);
		assert_true(pkt.publish.dup);
	}
}

static void test_too_long_is_told_from_the_header(void **state)
{
	struct hf_mqtt_packet pkt;
	const char *why;
	size_t need;

	(void)state;
	assert_int_equal(hf_mqtt_decode(hf_span("\x30\xff\xff\x7f", 4), 300000, true, &pkt, &need, &why), HF_ELIMIT);
}

static void test_subscribe(void **state)
{
	const struct hf_span filters[] = { hf_span_str("a/#"), hf_span_str("b/+/c") };
	const uint8_t qos[] = { 1, 0 };
	hf_autobuf struct hf_buf b = HF_BUF_INIT(1024);
	struct hf_mqtt_packet pkt;
	struct hf_span rest, f;
	uint8_t q;

	(void)state;
	hf_mqtt_put_subscribe(&b, 9, filters, qos, 2);
	assert_int_equal(decode(hf_buf_span(&b).ptr, hf_buf_len(&b), true, &pkt), 0);
	rest = pkt.subscribe.filters;
	assert_true(hf_mqtt_next_filter(&rest, true, &f, &q) && hf_span_is(f, "a/#") && q == 1);
	assert_true(hf_mqtt_next_filter(&rest, true, &f, &q) && hf_span_is(f, "b/+/c") && q == 0);
	assert_false(hf_mqtt_next_filter(&rest, true, &f, &q));
}

static void test_matching(void **state)
{
	static const struct { const char *f, *t; bool ok; } cases[] = {
		{ "a/#", "a", true }, { "a/#", "a/b/c", true }, { "a/+", "a/b", true }, { "a/+", "a/b/c", false }, { "#", "$iothub/x", false },
		{ "+/x", "$iothub/x", false }, { "$iothub/#", "$iothub/x", true }, { "a/b", "a/b", true }, { "a/b", "a", false },
		{ "a", "a/b", false }, { "+", "", true }, { "a//b", "a//b", true }, { "a/+/b", "a//b", true },
	};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_LEN(cases); i++)
		if (hf_mqtt_match(hf_span_str(cases[i].f), hf_span_str(cases[i].t)) != cases[i].ok)
			fail_msg("%s against %s", cases[i].f, cases[i].t);
	assert_false(hf_mqtt_filter_ok(hf_span_str("a/#/b")));
	assert_false(hf_mqtt_filter_ok(hf_span_str("a+")));
}

static void test_topics(void **state)
{
	struct hf_topic t;

	(void)state;
	hf_topic_parse(hf_span_str("devices/d1/messages/events/a=b/"), &t);
	assert_true(t.kind == HF_TOPIC_EVENTS && hf_span_is(t.device, "d1") && t.module.len == 0 && hf_span_is(t.rest, "a=b/"));
	hf_topic_parse(hf_span_str("devices/d1/modules/m1/messages/events"), &t);
	assert_true(t.kind == HF_TOPIC_EVENTS && hf_span_is(t.module, "m1") && t.rest.len == 0);
	hf_topic_parse(hf_span_str("$iothub/twin/GET/?$rid=42"), &t);
	assert_true(t.kind == HF_TOPIC_TWIN_GET && hf_span_is(t.rid, "42") && t.version == -1);
	hf_topic_parse(hf_span_str("$iothub/twin/PATCH/properties/reported/?$rid=a&$version=7"), &t);
	assert_true(t.kind == HF_TOPIC_TWIN_PATCH && t.version == 7);
	hf_topic_parse(hf_span_str("$iothub/methods/res/-3/?$rid=x"), &t);
	assert_true(t.kind == HF_TOPIC_METHOD_RES && t.status == -3 && hf_span_is(t.rid, "x"));
	static const char *const bad[] = { "devices//messages/events/", "devices/d/events/", "$iothub/twin/GET/x?$rid=1", "$iothub/twin/PUT/?$rid=1",
					   "$iothub/methods/res/abc/?$rid=1", "home/kitchen", "devices/d/modules//messages/events/" };
	for (size_t i = 0; i < HF_ARRAY_LEN(bad); i++) {
		hf_topic_parse(hf_span_str(bad[i]), &t);
		if (t.kind != HF_TOPIC_BAD)
			fail_msg("%s", bad[i]);
	}
}

static void test_user_names(void **state)
{
	struct hf_mqtt_user u;
	const char *why;

	(void)state;
	assert_int_equal(hf_mqtt_user_parse(hf_span_str("h.t/d1/?api-version=2021-04-12&DeviceClientType=a%20(b%3B)&model-id=dtmi:x;1"), &u, &why), 0);
	assert_true(hf_span_is(u.host, "h.t") && hf_span_is(u.device, "d1") && u.module.len == 0);
	assert_string_equal(u.model_id, "dtmi:x;1");
	assert_string_equal(u.client_type, "a (b;)");
	assert_int_equal(hf_mqtt_user_parse(hf_span_str("h/d1/m1/?api-version=1&auth-chain=a%3Bb"), &u, &why), 0);
	assert_true(hf_span_is(u.module, "m1"));
	assert_string_equal(u.auth_chain, "a;b");
	assert_int_equal(hf_mqtt_user_parse(hf_span_str("h/d1/api-version=2016-11-14"), &u, &why), 0);
	assert_int_equal(u.module.len, 0);
	assert_int_equal(hf_mqtt_user_parse(hf_span_str("h/d1/m/api-version=1/DeviceClientType=x"), &u, &why), 0);
	assert_true(hf_span_is(u.module, "m"));
	assert_int_equal(hf_mqtt_user_parse(hf_span_str("h"), &u, &why), HF_EPROTO);
	assert_int_equal(hf_mqtt_user_parse(hf_span_str("h//?api-version=1"), &u, &why), HF_EPROTO);
}

static void test_bags(void **state)
{
	static const struct { const char *in, *extra, *out; } good[] = {
		{ "", NULL, "" }, { "?a=b", NULL, "a=b" }, { "%24.mid=1&a=b%20c/", NULL, "%24.mid=1&a=b%20c" }, { "$.mid=x", NULL, "%24.mid=x" },
		{ "a=&b", NULL, "a=&b" }, { "a=+", NULL, "a=%2B" }, { "", "mqtt-retain=true", "mqtt-retain=true" }, { "a=1", "x=y", "a=1&x=y" },
	};
	static const char *const bad[] = { "a=%zz", "a=%4", "=b", "a=b&", "&a=b", "a=b=c", "a=1&&b=2", "a=%ff" };

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_LEN(good); i++) {
		hf_autobuf struct hf_buf b = HF_BUF_INIT(4096);

		assert_int_equal(hf_bag_canonical(hf_span_str(good[i].in), good[i].extra, &b), 0);
		assert_string_equal(hf_buf_cstr(&b), good[i].out);
	}
	for (size_t i = 0; i < HF_ARRAY_LEN(bad); i++) {
		hf_autobuf struct hf_buf b = HF_BUF_INIT(4096);

		if (hf_bag_canonical(hf_span_str(bad[i]), NULL, &b) != HF_EPROTO)
			fail_msg("accepted: %s", bad[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_malformed), cmocka_unit_test(test_connect_round_trip_and_truncation), cmocka_unit_test(test_publish_sizes),
		cmocka_unit_test(test_too_long_is_told_from_the_header), cmocka_unit_test(test_subscribe), cmocka_unit_test(test_matching),
		cmocka_unit_test(test_topics), cmocka_unit_test(test_user_names), cmocka_unit_test(test_bags),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
