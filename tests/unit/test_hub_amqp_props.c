/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Stored property bags as AMQP messages and back, through the wire format. */
#include "core/util.h"
#include "hub/amqp/amqp_props.h"

#include <holdfast/err.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define TEXT(s_) HF_AMQP_STR(s_)
#define KEY(s_) { (const uint8_t *)(s_), sizeof(s_) - 1 }

static struct hf_amqp_codec *codec;
static struct hf_buf wire = { .cap = 2u << 20 };
static struct hub_amqp_out out;
static const struct hub_event_tail tail = { .next_seq = 9, .last_offset = 1300, .last_enqueued_ms = 1769853600123 };

static int setup(void **state)
{
	(void)state;
	hub_amqp_out_init(&out);
	return hf_amqp_codec_create(&codec);
}

static int teardown(void **state)
{
	(void)state;
	hub_amqp_out_fini(&out);
	hf_buf_fini(&wire);
	hf_amqp_codec_destroy(&codec);
	return 0;
}

static struct hf_amqp_msg over_the_wire(const struct hf_amqp_msg *msg)
{
	struct hf_amqp_msg got;

	hf_buf_reset(&wire);
	assert_int_equal(hf_amqp_encode(codec, msg, &wire), 0);
	assert_int_equal(hf_amqp_decode(codec, hf_buf_span(&wire), &got), 0);
	return got;
}

static void assert_bag(const struct hf_amqp_msg *msg, const char *expected)
{
	hf_autobuf struct hf_buf bag = HF_BUF_INIT(HF_MSG_MAX_SIZE);
	struct hf_amqp_msg got = over_the_wire(msg);

	assert_int_equal(hub_amqp_bag(&got, &bag), 0);
	assert_string_equal(hf_buf_cstr(&bag), expected);
}

static void assert_text(const struct hf_amqp_value *v, enum hf_amqp_kind kind, const char *text)
{
	hf_autobuf struct hf_buf b = HF_BUF_INIT(65536);

	assert_non_null(v);
	assert_int_equal(v->kind, kind);
	assert_true(hf_amqp_text(v, &b));
	assert_string_equal(hf_buf_cstr(&b), text);
}

static void telemetry_becomes_a_bag(void **state)
{
	static const uint8_t uuid[16] = { 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0x4c, 0xde, 0x8f, 0x01, 2, 3, 4, 5, 6, 0xff };
	struct hf_amqp_field ann[] = { { KEY("iothub-interface-id"), TEXT("urn:x") }, { KEY("dt-subject"), TEXT("part") },
				       { KEY("iothub-connection-device-id"), TEXT("liar") }, { KEY("other"), TEXT("x") } };
	struct hf_amqp_field app[] = {
		{ KEY("iothub-outputname"), TEXT("out 1") }, { KEY("k 1"), TEXT("v&=/1") }, { KEY("$x"), TEXT("y") },
		{ KEY("empty"), TEXT("") }, { KEY("null"), { .kind = HF_AMQP_NONE } },
		{ KEY("int"), HF_AMQP_NUM(HF_AMQP_INT, -7) }, { KEY("flag"), HF_AMQP_NUM(HF_AMQP_BOOL, 1) },
		{ KEY("pi"), { .kind = HF_AMQP_DOUBLE, .d = 0.5 } },
		{ KEY("id"), { .kind = HF_AMQP_UUID, .s = { uuid, 16 } } },
		{ KEY("iothub-message-schema"), TEXT("s") }, { KEY("iothub-ack"), TEXT("full") }, { KEY("$.mid"), TEXT("no") },
	};
	struct hf_amqp_msg msg = {
		.message_id = { .kind = HF_AMQP_UUID, .s = { uuid, 16 } }, .correlation_id = TEXT("c"),
		.user_id = KEY("me"), .to = KEY("/devices/d/messages/events"), .content_type = KEY("application/json"),
		.content_encoding = KEY("utf-8"), .expiry_ms = 1769853600123, .creation_ms = 1769853600000,
		.annotations = ann, .n_annotations = HF_ARRAY_LEN(ann), .properties = app, .n_properties = HF_ARRAY_LEN(app),
	};

	(void)state;
	assert_bag(&msg, "%24.mid=01234567-89ab-4cde-8f01-0203040506ff&%24.cid=c&%24.uid=me&%24.to=%2Fdevices%2Fd%2Fmessages%2Fevents"
			 "&%24.ct=application%2Fjson&%24.ce=utf-8&%24.exp=2026-01-31T10%3A00%3A00.123Z&%24.on=out%201"
			 "&%24.ctime=2026-01-31T10%3A00%3A00.000Z&%24.schema=s&%24.ifid=urn%3Ax&%24.sub=part"
			 "&k%201=v%26%3D%2F1&%24x=y&empty=&null&int=-7&flag=true&pi=0.5&id=01234567-89ab-4cde-8f01-0203040506ff"
			 "&iothub-ack=full");
	assert_bag(&(struct hf_amqp_msg){ 0 }, "");
}

static void other_spellings_are_known(void **state)
{
	struct hf_amqp_field app[] = { { KEY("dt-subject"), TEXT("part") },
				       { KEY("iothub-creation-time-utc"), TEXT("yesterday") } };

	(void)state;
	assert_bag(&(struct hf_amqp_msg){ .message_id = HF_AMQP_NUM(HF_AMQP_ULONG, 5), .properties = app, .n_properties = 2,
					  .creation_ms = 1 },
		   "%24.mid=5&%24.ctime=yesterday&%24.sub=part");
}

static void what_no_bag_can_hold_is_refused(void **state)
{
	struct hf_amqp_field rows[] = { { KEY(""), TEXT("x") }, { KEY("k"), TEXT("\xff") }, { KEY("\xc0"), TEXT("x") },
					{ KEY("k"), { .kind = HF_AMQP_OTHER } } };

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_LEN(rows); i++) {
		hf_autobuf struct hf_buf bag = HF_BUF_INIT(1024);

		assert_int_equal(hub_amqp_bag(&(struct hf_amqp_msg){ .properties = &rows[i], .n_properties = 1 }, &bag),
				 HF_EINVALID);
	}
	hf_autobuf struct hf_buf small = HF_BUF_INIT(4);

	assert_int_equal(hub_amqp_bag(&(struct hf_amqp_msg){ .message_id = TEXT("long") }, &small), HF_ELIMIT);
}

static void bodies_have_three_forms(void **state)
{
	struct hf_span body;
	struct hf_amqp_msg msg = { .body_kind = HF_AMQP_BODY_DATA, .body = KEY("ab") };

	(void)state;
	assert_int_equal(hub_amqp_body(&msg, &body), 0);
	assert_true(hf_span_is(body, "ab"));
	msg = (struct hf_amqp_msg){ .body_kind = HF_AMQP_BODY_VALUE, .value = TEXT("text") };
	assert_int_equal(hub_amqp_body(&msg, &body), 0);
	assert_true(hf_span_is(body, "text"));
	msg.value = HF_AMQP_NUM(HF_AMQP_INT, 1);
	assert_int_equal(hub_amqp_body(&msg, &body), HF_EINVALID);
	msg.body_kind = HF_AMQP_BODY_NONE;
	assert_int_equal(hub_amqp_body(&msg, &body), 0);
	assert_int_equal(body.len, 0);
}

static void a_device_gets_its_message(void **state)
{
	struct hub_c2d c = { .seq = 9, .enqueued_ms = 1769853600123, .delivery_count = 2,
			     .lock = "00112233-4455-4677-8899-aabbccddeeff", .body = KEY("hello"),
			     .bag = KEY("%24.mid=m%201&%24.to=%2Fx&%24.exp=2026-01-31T10%3A00%3A00.123Z&%24.cid=c&%24.uid=u"
					"&iothub-ack=full&a%20b=1&n&a%20b=2&%24.cdid=liar") };
	struct hf_amqp_msg got;

	(void)state;
	assert_int_equal(hub_amqp_out_c2d(&out, &c), 0);
	got = over_the_wire(&out.msg);
	assert_text(&got.message_id, HF_AMQP_STRING, "m 1");
	assert_text(&got.correlation_id, HF_AMQP_STRING, "c");
	assert_true(hf_span_is(got.to, "/x") && hf_span_is(got.user_id, "u") && hf_span_is(got.body, "hello"));
	assert_int_equal(got.expiry_ms, 1769853600123);
	assert_int_equal(got.n_properties, 3);
	assert_text(hf_amqp_find(got.properties, 3, "iothub-ack"), HF_AMQP_STRING, "full");
	assert_text(hf_amqp_find(got.properties, 3, "a b"), HF_AMQP_STRING, "2");	/* the last one counts */
	assert_int_equal(hf_amqp_find(got.properties, 3, "n")->kind, HF_AMQP_NONE);
	assert_int_equal(got.n_annotations, 4);
	assert_text(hf_amqp_find(got.annotations, 4, "x-opt-sequence-number"), HF_AMQP_LONG, "9");
	assert_text(hf_amqp_find(got.annotations, 4, "x-opt-lock-token"), HF_AMQP_UUID, c.lock);
	assert_text(hf_amqp_find(got.annotations, 4, "iothub-enqueuedtime"), HF_AMQP_TIME, "2026-01-31T10:00:00.123Z");
	assert_text(hf_amqp_find(got.annotations, 4, "iothub-deliverycount"), HF_AMQP_UBYTE, "2");
	assert_memory_equal(out.uuid, "\x00\x11\x22\x33\x44\x55\x46\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff", 16);
	c.lock[8] = 'x';
	assert_int_equal(hub_amqp_out_c2d(&out, &c), HF_ECORRUPT);
}

static void a_reader_gets_the_event_with_its_stamps(void **state)
{
	static const struct { const char *key; enum hf_amqp_kind kind; const char *text; } rows[] = {
		{ "x-opt-sequence-number", HF_AMQP_LONG, "7" }, { "x-opt-offset", HF_AMQP_STRING, "1234" },
		{ "x-opt-enqueued-time", HF_AMQP_TIME, "2026-01-31T10:00:00.123Z" },
		{ "iothub-enqueuedtime", HF_AMQP_TIME, "2026-01-31T10:00:00.123Z" },
		{ "iothub-connection-device-id", HF_AMQP_STRING, "edge1" },
		{ "iothub-connection-module-id", HF_AMQP_STRING, "mod" },
		{ "iothub-connection-auth-generation-id", HF_AMQP_STRING, "g1" },
		{ "iothub-connection-auth-method", HF_AMQP_STRING,
		  "{\"scope\":\"module\",\"type\":\"sas\",\"issuer\":\"iothub\",\"acceptingIpFilterRule\":null}" },
		{ "iothub-message-source", HF_AMQP_STRING, "Telemetry" }, { "dt-dataschema", HF_AMQP_STRING, "dtmi:x;1" },
		{ "iothub-interface-id", HF_AMQP_STRING, "urn:x" }, { "dt-subject", HF_AMQP_STRING, "part" },
	};
	struct hub_event e = { .seq = 1234, .partition_seq = 7, .partition = 1, .enqueued_ms = 1769853600123,
			       .ident = KEY("edge1/mod"), .generation_id = KEY("g1"), .auth_type = KEY("sas"),
			       .model_id = KEY("dtmi:x;1"), .source = KEY("Telemetry"), .body = KEY("{}"),
			       .bag = KEY("%24.mid=m&%24.ct=text%2Fplain&%24.on=out&%24.ctime=t&%24.ifid=urn%3Ax&%24.sub=part"
					  "&%24.exp=never&%24.cdid=liar&k=v") };
	struct hf_amqp_msg got;

	(void)state;
	assert_int_equal(hub_amqp_out_event(&out, &e, &tail), 0);
	assert_int_equal(out.msg.n_delivery, 4);
	assert_text(hf_amqp_find(out.msg.delivery, 4, "last_enqueued_sequence_number"), HF_AMQP_LONG, "8");
	assert_text(hf_amqp_find(out.msg.delivery, 4, "last_enqueued_offset"), HF_AMQP_STRING, "1300");
	assert_text(hf_amqp_find(out.msg.delivery, 4, "last_enqueued_time_utc"), HF_AMQP_TIME, "2026-01-31T10:00:00.123Z");
	got = over_the_wire(&out.msg);
	assert_int_equal(got.n_annotations, HF_ARRAY_LEN(rows));
	for (size_t i = 0; i < HF_ARRAY_LEN(rows); i++)
		assert_text(hf_amqp_find(got.annotations, got.n_annotations, rows[i].key), rows[i].kind, rows[i].text);
	assert_text(&got.message_id, HF_AMQP_STRING, "m");
	assert_true(hf_span_is(got.content_type, "text/plain") && hf_span_is(got.body, "{}"));
	assert_int_equal(got.expiry_ms, 0);
	assert_int_equal(got.n_properties, 3);
	assert_text(hf_amqp_find(got.properties, 3, "iothub-outputname"), HF_AMQP_STRING, "out");
	assert_text(hf_amqp_find(got.properties, 3, "iothub-creation-time-utc"), HF_AMQP_STRING, "t");
	assert_text(hf_amqp_find(got.properties, 3, "k"), HF_AMQP_STRING, "v");
}

/* Ten thousand names, each twice: nothing moves under the spans, and the last value of each counts. */
static void long_bags_keep_every_name(void **state)
{
	hf_autobuf struct hf_buf bag = HF_BUF_INIT(HF_MSG_MAX_SIZE);
	struct hub_event e = { .ident = KEY("d"), .source = KEY("Telemetry"), .auth_type = KEY("sas") };

	(void)state;
	for (unsigned i = 0; i < 20000; i++)
		hf_buf_printf(&bag, "%s%x=%u", i ? "&" : "", i % 10000, i);
	e.bag = hf_buf_span(&bag);
	assert_int_equal(hub_amqp_out_event(&out, &e, &tail), 0);
	assert_int_equal(out.msg.n_properties, 10000);
	for (unsigned i = 0; i < 10000; i++) {
		char name[16], value[16];

		snprintf(name, sizeof name, "%x", i);
		snprintf(value, sizeof value, "%u", i + 10000);
		assert_true(hf_span_is(out.msg.properties[i].key, name));
		assert_true(hf_span_is(out.msg.properties[i].value.s, value));
	}
	e.bag = hf_span_str("a=%zz");
	assert_int_equal(hub_amqp_out_event(&out, &e, &tail), HF_ECORRUPT);
	e.bag = hf_span(NULL, 0);
	assert_int_equal(hub_amqp_out_event(&out, &e, &tail), 0);
	assert_int_equal(out.msg.n_properties, 0);
}

static void times_are_read(void **state)
{
	static const struct { const char *text; int64_t ms; } rows[] = {
		{ "2026-01-31T10:00:00.123Z", 1769853600123 }, { "2026-01-31T10:00:00Z", 1769853600000 },
		{ "2026-01-31T10:00:00", 1769853600000 }, { "2026-01-31T10:00:00.1234567Z", 1769853600123 },
		{ "2026-01-31T12:30:00.5+02:30", 1769853600500 }, { "2026-01-31T08:00:00-02:00", 1769853600000 },
	};
	static const char *const bad[] = { "", "now", "2026-01-31", "2026-01-31T10:00:00Zx", "2026-01-31T10:00:00+2",
					   "2026-01-31T10:00:00+-2:30", "2026-13-31T10:00:00Z",
					   "2026-01-31T10:00:00.00000000000000000000000000Z" };
	int64_t ms;

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_LEN(rows); i++) {
		assert_int_equal(hf_iso8601_parse(hf_span_str(rows[i].text), &ms), 0);
		assert_int_equal(ms, rows[i].ms);
	}
	for (size_t i = 0; i < HF_ARRAY_LEN(bad); i++)
		assert_int_equal(hf_iso8601_parse(hf_span_str(bad[i]), &ms), HF_EINVALID);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(telemetry_becomes_a_bag),
		cmocka_unit_test(other_spellings_are_known),
		cmocka_unit_test(what_no_bag_can_hold_is_refused),
		cmocka_unit_test(bodies_have_three_forms),
		cmocka_unit_test(a_device_gets_its_message),
		cmocka_unit_test(a_reader_gets_the_event_with_its_stamps),
		cmocka_unit_test(long_bags_keep_every_name),
		cmocka_unit_test(times_are_read),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
