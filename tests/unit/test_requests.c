/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What a child asks of upstream and of the store is bounded: credits for every request, no answers to nothing, one notice
 * of its presence at a time. Upstream's stand-in holds what it is asked, so each bound is reached for certain. */
#include "gw/session.h"
#include "gw_world.h"

static unsigned held(struct world *w)
{
	unsigned n;

	pthread_mutex_lock(&w->up.lock);
	n = w->up.n_held;
	pthread_mutex_unlock(&w->up.lock);
	return n;
}

static struct world *w_up(struct world *w)
{
	world_up(w);
	return w;
}

static void hold(struct world *w)
{
	pthread_mutex_lock(&w->up.lock);
	w->up.hold = true;
	pthread_mutex_unlock(&w->up.lock);
}

static void test_answers_to_nothing(void **state)
{
	struct world *w = *state;
	int64_t unasked = hf_metric_get(HF_M_METHOD_UNASKED);
	static uint8_t body[16384];
	struct test_down t;
	struct client *c;

	world_up(w);
	c = login(w, 0, "dev3", true);
	assert_int_equal(subscribe(c, 1, "$iothub/methods/POST/#", 0), 0);
	for (unsigned i = 0; i < 2000; i++) {
		publish(c, "$iothub/methods/res/200/?$rid=1", 0, 0, hf_span(body, sizeof body));
		flush(c);
	}
	wait_metric(HF_M_METHOD_UNASKED, unasked, 2000);
	assert_int_equal(w->up.method_answers, 0);
	/* A request may be answered, once, by its own id; with QoS 1 each is acknowledged. */
	start_down(w, &t, "dev3", "$iothub/methods/POST/go/?$rid=7f", 0);
	hf_loop_run(w->loop);
	assert_int_equal(t.down.result, 0);
	expect(c, HF_MQTT_PUBLISH);
	publish(c, "$iothub/methods/res/201/?$rid=7", 1, 1, hf_span_str("{}"));
	publish(c, "$iothub/methods/res/201/?$rid=7f", 1, 2, hf_span_str("{}"));
	publish(c, "$iothub/methods/res/201/?$rid=7f", 1, 3, hf_span_str("{}"));
	flush(c);
	for (unsigned i = 1; i <= 3; i++) {
		expect(c, HF_MQTT_PUBACK);
		assert_int_equal(c->p.ack.packet_id, i);
	}
	assert_int_equal(w->up.method_answers, 1);
	assert_int_equal(w->up.last_method_status, 201);
	assert_string_equal(w->up.last_method_rid, "7f");
	assert_int_equal(hf_metric_get(HF_M_METHOD_UNASKED) - unasked, 2002);
	hang_up(c);
}

/* A child that is asked without end and never answers: what is remembered of it has an end, and the newest counts. */
static void test_requests_without_answer(void **state)
{
	struct world *w = *state;
	struct test_down t;
	struct client *c;
	char topic[64];

	world_up(w);
	c = login(w, 0, "dev3", true);
	assert_int_equal(subscribe(c, 1, "$iothub/methods/POST/#", 0), 0);
	for (unsigned i = 0; i < 200; i++) {
		snprintf(topic, sizeof topic, "$iothub/methods/POST/go/?$rid=%u", i);
		start_down(w, &t, "dev3", topic, 0);
		hf_loop_run(w->loop);
		assert_int_equal(t.down.result, 0);
		expect(c, HF_MQTT_PUBLISH);
	}
	publish(c, "$iothub/methods/res/200/?$rid=0", 1, 1, hf_span_str("{}"));
	publish(c, "$iothub/methods/res/200/?$rid=199", 1, 2, hf_span_str("{}"));
	flush(c);
	expect(c, HF_MQTT_PUBACK);
	expect(c, HF_MQTT_PUBACK);
	assert_int_equal(w->up.method_answers, 1);
	assert_string_equal(w->up.last_method_rid, "199");
	hang_up(c);
}

/* Twin requests without answers: the child is not read any further; all are answered in the end, in order. */
static void test_twin_requests_wait(void **state)
{
	struct world *w = *state;
	int64_t waits = hf_metric_get(HF_M_CREDIT_WAITS);
	struct client *c;
	char topic[64];

	world_up(w);
	c = login(w, 0, "dev0", true);
	assert_int_equal(subscribe(c, 1, "$iothub/twin/res/#", 0), 0);
	hold(w);
	for (unsigned i = 0; i < 100; i++) {
		snprintf(topic, sizeof topic, "$iothub/twin/GET/?$rid=%u", i);
		publish(c, topic, 0, 0, hf_span_str(" "));
	}
	flush(c);
	wait_metric(HF_M_CREDIT_WAITS, waits, 1);
	assert_int_equal(held(w), HF_TWINS_MAX);
	let_go(&w->up);
	for (unsigned i = 0; i < 100; i++) {
		snprintf(topic, sizeof topic, "$iothub/twin/res/200/?$rid=%u", i);
		expect(c, HF_MQTT_PUBLISH);
		assert_true(hf_span_is(c->p.publish.topic, topic));
	}
	assert_int_equal(hf_metric_get(HF_M_TO_UP), 0);
	assert_int_equal(hf_metric_get(HF_M_TO_UP_BYTES), 0);
	hang_up(c);
}

struct sender {
	struct client *c;
	struct hf_span packets;
	unsigned times;
	pthread_t thread;
};

static void *send_all(void *arg)
{
	struct sender *s = arg;

	for (unsigned i = 0; i < s->times; i++) {
		for (size_t at = 0; at < s->packets.len;) {
			ssize_t n = send(s->c->fd, s->packets.ptr + at, s->packets.len - at, MSG_NOSIGNAL);

			if (n <= 0)
				return NULL;
			at += (size_t)n;
		}
	}
	return NULL;
}

enum { SENDERS = 8 };

/* Each child sends `times` the same packet to before + its id + after, as fast as it is read. */
static void start_senders(struct world *w, struct sender *senders, const char *before, const char *after, size_t body,
			  unsigned times)
{
	for (unsigned i = 0; i < SENDERS; i++) {
		hf_autofree uint8_t *bytes = calloc(1, body);
		char ident[16], name[128];

		snprintf(ident, sizeof ident, "dev%u", i);
		snprintf(name, sizeof name, "%s%s%s", before, ident, after);
		senders[i] = (struct sender){ .c = login(w, (int)i % WORKERS, ident, true), .times = times };
		publish(senders[i].c, name, 0, 0, hf_span(bytes, body));
		senders[i].packets = hf_buf_span(&senders[i].c->out);
	}
	for (unsigned i = 0; i < SENDERS; i++)
		assert_int_equal(pthread_create(&senders[i].thread, NULL, send_all, &senders[i]), 0);
}

static void end_senders(struct sender *senders)
{
	for (unsigned i = 0; i < SENDERS; i++) {
		pthread_join(senders[i].thread, NULL);
		hang_up(senders[i].c);
	}
}

/* 8 children, 20 patches of 200 KB each, nothing answered: the bytes handed over have an end far below the 32 MB. */
static void test_twin_bytes_are_bounded(void **state)
{
	struct world *w = *state;
	struct sender senders[SENDERS];
	int64_t waits = hf_metric_get(HF_M_CREDIT_WAITS), twins = hf_metric_get(HF_M_TWIN_REQUESTS);

	world_up(w);
	hold(w);
	start_senders(w, senders, "$iothub/twin/PATCH/properties/reported/?$rid=", "", 200 * 1024, 20);
	wait_metric(HF_M_CREDIT_WAITS, waits, SENDERS);
	assert_in_range(hf_metric_get(HF_M_TO_UP_BYTES), 1, HF_TO_UP_BYTES);
	let_go(&w->up);
	wait_metric(HF_M_TWIN_REQUESTS, twins, SENDERS * 20);
	end_senders(senders);
}

/* QoS 0 at full speed has the bounds of QoS 1: what the store has not answered is not read from the socket. */
static void test_qos0_is_bounded(void **state)
{
	struct world *w = *state;
	struct sender senders[SENDERS];
	int64_t accepted = hf_metric_get(HF_M_PUBLISH_ACCEPTED), most = 0;

	world_up(w);
	start_senders(w, senders, "devices/", "/messages/events/", 20 * 1024, 250);
	while (hf_metric_get(HF_M_PUBLISH_ACCEPTED) - accepted < SENDERS * 250) {
		most = hf_max(most, hf_metric_get(HF_M_TO_STORE_BYTES));
		sched_yield();
	}
	assert_in_range(most, 1, HF_TO_STORE_BYTES);
	end_senders(senders);
}

/* Who asks and does not read the answers is not read either, and loses nothing. */
static void test_answers_that_nobody_reads(void **state)
{
	enum { PINGS = 6 << 20 };
	struct world *w = *state;
	int64_t waits = hf_metric_get(HF_M_READER_WAITS);
	hf_autofree uint8_t *pings = malloc(2 * PINGS), *in = malloc(1 << 20);
	struct sender s = { .c = login(w_up(w), 0, "dev0", true), .packets = hf_span(pings, 2 * PINGS), .times = 1 };
	size_t got = 0;

	for (unsigned i = 0; i < PINGS; i++)
		memcpy(pings + 2 * (size_t)i, "\xc0", 2);
	assert_int_equal(pthread_create(&s.thread, NULL, send_all, &s), 0);
	wait_metric(HF_M_READER_WAITS, waits, 1);
	while (got < 2 * PINGS) {
		ssize_t n = recv(s.c->fd, in, 1 << 20, 0);

		assert_true(n > 0);
		got += (size_t)n;
	}
	pthread_join(s.thread, NULL);
	assert_int_equal(got, 2 * PINGS);
	hang_up(s.c);
}

static unsigned told(struct world *w)
{
	unsigned n;

	pthread_mutex_lock(&w->up.lock);
	n = w->up.n_presence;
	pthread_mutex_unlock(&w->up.lock);
	return n;
}

static void wait_told(struct world *w, unsigned n)
{
	for (int i = 0; i < WAIT_MS && told(w) < n; i++)
		poll(NULL, 0, 1);
	assert_int_equal(told(w), n);
}

/* A child that changes its subscriptions all the time has one notice on its way; the last state is told, then that it
 * left. */
static void test_presence_is_told_once_at_a_time(void **state)
{
	struct world *w = *state;
	struct hf_upstream *up = &w->up;
	struct client *c, *successor;
	int64_t children;

	world_up(w);
	hold(w);
	c = login(w, 0, "dev0", true);
	for (uint16_t i = 0; i < 300; i++) {
		struct hf_span f = hf_span_str("$iothub/methods/POST/#");

		assert_int_equal(subscribe(c, 1, "$iothub/methods/POST/#", 0), 0);
		hf_mqtt_put_unsubscribe(&c->out, 2, &f, 1);
		flush(c);
		expect(c, HF_MQTT_UNSUBACK);
	}
	assert_int_equal(subscribe(c, 1, "$iothub/twin/res/#", 0), 0);
	assert_int_equal(held(w), 1);
	let_go(up);
	wait_told(w, 2);
	assert_int_equal(up->presence[1].subs, HF_SUB_TWIN_RES);
	/* It leaves while a notice is on its way: that it left is told after. */
	hold(w);
	assert_int_equal(subscribe(c, 1, "$iothub/methods/POST/#", 0), 0);
	children = hf_metric_get(HF_M_CHILDREN);
	hang_up(c);
	while (hf_metric_get(HF_M_CHILDREN) == children)
		poll(NULL, 0, 1);
	assert_int_equal(told(w), 3);
	let_go(up);
	wait_told(w, 4);
	assert_int_equal(up->presence[2].subs, HF_SUB_TWIN_RES | HF_SUB_METHODS);
	assert_false(up->presence[3].connected);
	/* A successor does not wait for that. */
	c = login(w, 0, "dev0", true);
	wait_told(w, 5);
	hold(w);
	assert_int_equal(subscribe(c, 1, "$iothub/methods/POST/#", 0), 0);
	successor = login(w, 1, "dev0", true);
	expect(c, 0);
	let_go(up);
	wait_told(w, 7);
	assert_true(up->presence[5].connected && up->presence[5].subs == HF_SUB_METHODS);
	assert_true(up->presence[6].connected && up->presence[6].subs == 0);
	hang_up(c);
	hang_up(successor);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_answers_to_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_requests_without_answer, setup, teardown),
		cmocka_unit_test_setup_teardown(test_twin_requests_wait, setup, teardown),
		cmocka_unit_test_setup_teardown(test_twin_bytes_are_bounded, setup, teardown),
		cmocka_unit_test_setup_teardown(test_qos0_is_bounded, setup, teardown),
		cmocka_unit_test_setup_teardown(test_answers_that_nobody_reads, setup, teardown),
		cmocka_unit_test_setup_teardown(test_presence_is_told_once_at_a_time, setup, teardown),
	};

	hf_metrics_init(hf_metric_table, HF_M__COUNT);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
