/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Bytes into packets: the same packets whatever the reads were, holds, ends, bounds on what is kept. */
#include "core/util.h"
#include "mqtt/mqtt_stream.h"
#include <errno.h>
#include <holdfast/err.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

enum { MAX_PACKET = 1000, KEPT_MAX = 2000 };

/* Notes the packet ids it is given; answers as told for one of them. */
struct owner {
	struct hf_mqtt_stream stream;
	uint16_t seen[64];
	unsigned n_seen;
	uint16_t special_id;
	enum hf_mqtt_next special;
};

static enum hf_mqtt_next on_packet(void *arg, const struct hf_mqtt_packet *p)
{
	struct owner *o = arg;

	assert_int_equal(p->type, HF_MQTT_PUBLISH);
	assert_true(o->n_seen < 64);
	o->seen[o->n_seen++] = p->publish.packet_id;
	if (p->publish.packet_id != o->special_id)
		return HF_MQTT_NEXT;
	o->special_id = 0;	/* offered again: taken */
	if (o->special == HF_MQTT_END)
		hf_mqtt_stream_reset(&o->stream);	/* as an owner may */
	return o->special;
}

static void owner_init(struct owner *o, uint16_t special_id, enum hf_mqtt_next special)
{
	memset(o, 0, sizeof *o);
	o->special_id = special_id;
	o->special = special;
	hf_mqtt_stream_init(&o->stream, true, MAX_PACKET, KEPT_MAX);
}

static void put(struct hf_buf *b, uint16_t id, size_t body_len)
{
	static const uint8_t body[MAX_PACKET];

	hf_mqtt_put_publish(b, 1, false, false, id, hf_span_str("t"), hf_span(NULL, 0), hf_span(body, body_len));
}

static int feed(struct owner *o, struct hf_span in)
{
	const char *reason = NULL;
	int r = hf_mqtt_stream_feed(&o->stream, in, on_packet, o, &reason);

	if (r)
		assert_non_null(reason);
	return r;
}

static void assert_seen(const struct owner *o, unsigned n)
{
	assert_int_equal(o->n_seen, n);
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(o->seen[i], i + 1);
}

static void test_every_split(void **state)
{
	hf_autobuf struct hf_buf b = HF_BUF_INIT(4096);

	(void)state;
	put(&b, 1, 0);
	put(&b, 2, 200);	/* a length of two bytes */
	put(&b, 3, 1);
	for (size_t first = 0; first <= hf_buf_len(&b); first++) {
		for (size_t second = first; second <= hf_buf_len(&b); second += 7) {
			struct hf_span all = hf_buf_span(&b);
			struct owner o;

			owner_init(&o, 0, HF_MQTT_NEXT);
			assert_int_equal(feed(&o, hf_span(all.ptr, first)), 0);
			assert_int_equal(feed(&o, hf_span(all.ptr + first, second - first)), 0);
			assert_int_equal(feed(&o, hf_span_skip(all, second)), 0);
			assert_seen(&o, 3);
			assert_null(o.stream.in.mem);	/* nothing is left: the memory went back */
		}
	}
}

static void test_byte_by_byte_decodes_once(void **state)
{
	hf_autobuf struct hf_buf b = HF_BUF_INIT(4096);
	struct owner o;

	(void)state;
	put(&b, 1, 300);
	owner_init(&o, 0, HF_MQTT_NEXT);
	for (size_t i = 0; i < hf_buf_len(&b); i++) {
		assert_int_equal(o.n_seen, 0);
		assert_int_equal(feed(&o, hf_span(hf_buf_span(&b).ptr + i, 1)), 0);
	}
	assert_seen(&o, 1);
}

static void hold(enum hf_mqtt_next how)
{
	hf_autobuf struct hf_buf b = HF_BUF_INIT(4096);
	const char *reason;
	struct owner o;

	for (uint16_t id = 1; id <= 4; id++)
		put(&b, id, 20);
	owner_init(&o, 2, how);
	assert_int_equal(feed(&o, hf_span(hf_buf_span(&b).ptr, 60)), 0);
	assert_int_equal(o.n_seen, 2);
	assert_true(o.stream.is_held);
	assert_int_equal(feed(&o, hf_span_skip(hf_buf_span(&b), 60)), 0);	/* kept, not handed on */
	assert_int_equal(o.n_seen, 2);
	if (how == HF_MQTT_HOLD_AGAIN)
		o.n_seen = 1;
	assert_int_equal(hf_mqtt_stream_resume(&o.stream, on_packet, &o, &reason), 0);
	assert_seen(&o, 4);
	assert_false(o.stream.is_held);
	assert_null(o.stream.in.mem);
}

static void test_hold(void **state)
{
	(void)state;
	hold(HF_MQTT_HOLD);
}

static void test_hold_and_offer_again(void **state)
{
	(void)state;
	hold(HF_MQTT_HOLD_AGAIN);
}

/* The owner resets the stream inside the call, while the packet comes from what was kept. */
static void test_end(void **state)
{
	hf_autobuf struct hf_buf b = HF_BUF_INIT(4096);
	struct owner o;

	(void)state;
	put(&b, 1, 20);
	put(&b, 2, 20);
	owner_init(&o, 1, HF_MQTT_END);
	assert_int_equal(feed(&o, hf_span(hf_buf_span(&b).ptr, 5)), 0);
	assert_int_equal(feed(&o, hf_span_skip(hf_buf_span(&b), 5)), 0);
	assert_seen(&o, 1);
	assert_null(o.stream.in.mem);
}

static void test_refused(void **state)
{
	hf_autobuf struct hf_buf b = HF_BUF_INIT(4096);
	struct owner o;

	(void)state;
	owner_init(&o, 0, HF_MQTT_NEXT);
	assert_int_equal(feed(&o, hf_span("\xf0\x00", 2)), HF_EPROTO);
	put(&b, 1, MAX_PACKET);	/* told by its header alone */
	owner_init(&o, 0, HF_MQTT_NEXT);
	assert_int_equal(feed(&o, hf_span(hf_buf_span(&b).ptr, 5)), HF_ELIMIT);
	assert_int_equal(o.n_seen, 0);
}

static void test_bound_behind_a_hold(void **state)
{
	hf_autobuf struct hf_buf b = HF_BUF_INIT(8192);
	struct owner o;

	(void)state;
	for (uint16_t id = 1; id <= 5; id++)
		put(&b, id, 500);
	owner_init(&o, 1, HF_MQTT_HOLD);
	assert_int_equal(feed(&o, hf_buf_span(&b)), HF_ELIMIT);
	hf_mqtt_stream_reset(&o.stream);
	assert_int_equal(o.stream.in.err, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_split), cmocka_unit_test(test_byte_by_byte_decodes_once),
		cmocka_unit_test(test_hold), cmocka_unit_test(test_hold_and_offer_again), cmocka_unit_test(test_end),
		cmocka_unit_test(test_refused), cmocka_unit_test(test_bound_behind_a_hold),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
