/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "gw_world.h"

/* --- CONNECT -------------------------------------------------------------------------------------------- */
static int try_connect(struct world *w, const char *ident, const struct hello *h)
{
	struct client *c = dial(w, 0);
	int code = connack(c, ident, h);

	if (code != 0)
		expect(c, 0);	/* then the connection ends */
	hang_up(c);
	return code;
}

static void test_connect_codes(void **state)
{
	struct world *w = *state;
	int64_t sig, exp;

	world_up(w);
	sig = hf_metric_get(HF_M_AUTH_SIGNATURE);
	exp = hf_metric_get(HF_M_AUTH_EXPIRED);
	assert_int_equal(try_connect(w, "dev0", &(struct hello){ 0 }), 0);
	assert_int_equal(try_connect(w, "edge1/mod", &(struct hello){ 0 }), 0);
	assert_int_equal(try_connect(w, "dev0", &(struct hello){ .key = "d3Jvbmcga2V5" }), 5);
	assert_int_equal(hf_metric_get(HF_M_AUTH_SIGNATURE) - sig, 1);
	assert_int_equal(try_connect(w, "dev0", &(struct hello){ .expiry_s = hf_clock_wall_s() - 7200 }), 5);
	assert_int_equal(hf_metric_get(HF_M_AUTH_EXPIRED) - exp, 1);
	assert_int_equal(try_connect(w, "off", &(struct hello){ 0 }), 5);
	assert_int_equal(try_connect(w, "dev0", &(struct hello){ .no_password = true }), 5);
	assert_int_equal(try_connect(w, "dev0", &(struct hello){ .client_id = "dev1" }), 5);
	assert_int_equal(try_connect(w, "dev0", &(struct hello){ .user = "dev0" }), 3);
	/* As the hub takes them: without api-version. */
	assert_int_equal(try_connect(w, "dev0", &(struct hello){ .user = "hub.test/dev0" }), 0);
	assert_int_equal(try_connect(w, "dev0", &(struct hello){ .user = "hub.test/dev0/" }), 0);
	assert_int_equal(try_connect(w, "dev0", &(struct hello){ .user = "hub.test/dev0/?DeviceClientType=x" }), 0);
	assert_int_equal(try_connect(w, "edge1/mod", &(struct hello){ .user = "hub.test/edge1/mod" }), 0);
}

static void wait_hints(struct world *w, unsigned n)
{
	for (int i = 0; i < WAIT_MS && __atomic_load_n(&w->up.hints, __ATOMIC_RELAXED) < n; i++)
		poll(NULL, 0, 1);
	assert_int_equal(__atomic_load_n(&w->up.hints, __ATOMIC_RELAXED), n);
}

/* "Not authorised" is final for clients: only fresh evidence says it, or the only evidence there is. */
static void test_refusal_by_evidence(void **state)
{
	struct world *w = *state;
	const struct hello wrong = { .key = "d3Jvbmcga2V5" };

	world_up(w);
	assert_int_equal(try_connect(w, "nobody", &(struct hello){ 0 }), 5);
	assert_int_equal(try_connect(w, "dev0", &wrong), 5);
	assert_int_equal(w->up.hints, 2);
	w->up.refresh = HF_REFRESH_LATER;
	assert_int_equal(try_connect(w, "nobody", &(struct hello){ 0 }), 3);
	assert_int_equal(try_connect(w, "dev0", &wrong), 3);
	assert_int_equal(w->up.hints, 4);
	/* What no refresh can mend asks for none. */
	assert_int_equal(try_connect(w, "dev0", &(struct hello){ .expiry_s = hf_clock_wall_s() - 7200 }), 5);
	assert_int_equal(try_connect(w, "dev0", &(struct hello){ .no_password = true }), 5);
	__atomic_store_n(&w->up.offline, true, __ATOMIC_RELAXED);
	assert_int_equal(try_connect(w, "nobody", &(struct hello){ 0 }), 5);
	assert_int_equal(try_connect(w, "dev0", &wrong), 5);
	assert_int_equal(w->up.hints, 4);
}

static void test_login_waits_for_a_refresh(void **state)
{
	struct world *w = *state;
	struct client *c, *gone, *other;

	world_up(w);
	w->up.hold = true;
	c = dial(w, 0);
	send_connect(c, "dev0", &(struct hello){ .key = KEY_C, .clean = true });
	publish(c, "devices/dev0/messages/events/", 1, 1, hf_span_str("behind the CONNECT"));
	flush(c);
	gone = dial(w, 0);
	send_connect(gone, "dev1", &(struct hello){ .key = KEY_C });
	wait_hints(w, 2);
	hang_up(gone);
	other = login(w, 0, "dev2", true);	/* the worker goes on */
	give_scope(w, NULL, KEY_C);
	let_go(&w->up);
	expect(c, HF_MQTT_CONNACK);
	assert_int_equal(c->p.connack.code, 0);
	expect(c, HF_MQTT_PUBACK);
	hang_up(c);
	hang_up(other);
}

static void test_waiting_logins_are_bounded(void **state)
{
	enum { WAITERS = 128 };
	struct world *w = *state;
	struct client *c[WAITERS], *late;

	world_up(w);
	w->up.hold = true;
	for (int i = 0; i < WAITERS; i++) {
		c[i] = dial(w, 0);
		send_connect(c[i], "nobody", &(struct hello){ 0 });
	}
	wait_hints(w, WAITERS);
	assert_int_equal(try_connect(w, "nobody", &(struct hello){ 0 }), 3);	/* at once, though nobody answers */
	for (int i = 1; i < WAITERS; i++)
		hang_up(c[i]);
	expect(c[0], HF_MQTT_CONNACK);	/* no answer in 3 s: it may come again */
	assert_int_equal(c[0]->p.connack.code, 3);
	hang_up(c[0]);
	let_go(&w->up);
	late = dial(w, 0);
	assert_int_equal(connack(late, "nobody", &(struct hello){ 0 }), 5);	/* answers count, also late */
	hang_up(late);
}

static void test_connect_limits(void **state)
{
	struct world *w = *state;
	int64_t over, slow, odd;
	struct client *a, *b, *c;

	w->max_connections = 2;
	w->connect_timeout_ms = 300;
	world_up(w);
	over = hf_metric_get(HF_M_CONN_OVER_LIMIT);
	slow = hf_metric_get(HF_M_SLOW_CONNECT);
	odd = hf_metric_get(HF_M_MQTT_UNEXPECTED);
	a = login(w, 0, "dev0", true);
	b = dial(w, 1);
	hf_mqtt_put_empty(&b->out, HF_MQTT_PINGREQ);
	flush(b);
	expect(b, 0);
	hang_up(b);
	wait_metric(HF_M_MQTT_UNEXPECTED, odd, 1);
	b = login(w, 1, "dev1", true);
	c = dial(w, 0);
	expect(c, 0);
	hang_up(c);
	assert_int_equal(hf_metric_get(HF_M_CONN_OVER_LIMIT) - over, 1);
	hang_up(b);
	for (int code = -1; code != -2;) {	/* the slot comes free once the gateway saw the end */
		b = dial(w, 1);
		code = next(b, 50);
		if (code == -1)
			break;
		hang_up(b);
	}
	expect(b, 0);	/* says nothing: out after connect_timeout */
	assert_int_equal(hf_metric_get(HF_M_SLOW_CONNECT) - slow, 1);
	hang_up(b);
	hf_mqtt_put_empty(&a->out, HF_MQTT_PINGREQ);
	flush(a);
	expect(a, HF_MQTT_PINGRESP);
	hang_up(a);
}

/* One count for all workers; who has not logged in gives way to who comes, who has logged in stays. */
static void test_strangers_give_way(void **state)
{
	struct world *w = *state;
	int64_t gave_way = hf_metric_get(HF_M_CONN_GAVE_WAY), over = hf_metric_get(HF_M_CONN_OVER_LIMIT);
	struct client *child, *strangers[3], *next_child;

	w->max_connections = 4;
	world_up(w);
	child = login(w, 0, "dev0", true);
	for (int i = 0; i < 3; i++) {
		int64_t open = hf_metric_get(HF_M_CONN_ACCEPTED);

		strangers[i] = dial(w, i % WORKERS);
		wait_metric(HF_M_CONN_ACCEPTED, open, 1);
	}
	next_child = login(w, 1, "dev1", true);
	expect(strangers[0], 0);
	assert_int_equal(hf_metric_get(HF_M_CONN_GAVE_WAY) - gave_way, 1);
	hang_up(login(w, 1, "dev2", true));
	expect(strangers[1], 0);
	assert_int_equal(next(strangers[2], 0), -1);
	assert_int_equal(hf_metric_get(HF_M_CONN_OVER_LIMIT) - over, 0);
	hf_mqtt_put_empty(&child->out, HF_MQTT_PINGREQ);
	flush(child);
	expect(child, HF_MQTT_PINGRESP);
	hang_up(child);
	hang_up(next_child);
	for (int i = 0; i < 3; i++)
		hang_up(strangers[i]);
}

static void test_share_of_one_address(void **state)
{
	struct world *w = *state;
	int64_t over = hf_metric_get(HF_M_CONN_OVER_ADDRESS);
	struct client *a, *b, *c;

	w->max_connections = 100;
	w->per_address = 2;
	world_up(w);
	a = login(w, 0, "dev0", true);
	b = login(w, 1, "dev1", true);
	c = dial(w, 0);
	expect(c, 0);
	assert_int_equal(hf_metric_get(HF_M_CONN_OVER_ADDRESS) - over, 1);
	hang_up(a);
	hang_up(b);
	hang_up(c);
}

static void test_keep_alive(void **state)
{
	struct world *w = *state;
	struct client *c;
	int64_t from;

	world_up(w);
	from = hf_metric_get(HF_M_KEEPALIVE);
	c = dial(w, 0);
	assert_int_equal(connack(c, "dev0", &(struct hello){ .clean = true, .keep_alive_s = 1 }), 0);
	expect(c, 0);
	assert_int_equal(hf_metric_get(HF_M_KEEPALIVE) - from, 1);
	hang_up(c);
}

/* --- PUBLISH ---------------------------------------------------------------------------------------------- */
struct seen {
	unsigned n;
	char from[2000][8];
	unsigned number[2000];
	bool will;
};

static void see(void *arg, struct hf_record *rec)
{
	struct seen *s = arg;
	struct hf_span from = hf_msg_from(rec->msg), body = hf_msg_body(rec->msg);
	char text[16] = "";

	assert_true(s->n < 2000);
	snprintf(s->from[s->n], sizeof s->from[0], "%.*s", (int)from.len, (const char *)from.ptr);
	snprintf(text, sizeof text, "%.*s", (int)hf_min(body.len, (size_t)15), (const char *)body.ptr);
	s->number[s->n++] = (unsigned)strtoul(text, NULL, 10);
	s->will = s->will || hf_span_is(hf_msg_props(rec->msg), "iothub-MessageType=Will");
	hf_msg_unref(&rec->msg);
}

static struct seen *stored(struct world *w)
{
	struct seen *s = calloc(1, sizeof *s);
	const struct hf_store_reader reader = { .fn = see, .arg = s };
	struct hf_store_gauges g;
	uint64_t from = 0;

	assert_non_null(s);
	hf_store_gauges(w->store, &g);
	while (from < g.next_seq)
		assert_int_equal(hf_store_read(w->store, 10, from, g.next_seq, 100, &reader, &from), 0);
	return s;
}

static void send_numbers(struct client *c, const char *topic, unsigned from, unsigned to)
{
	char body[16];

	for (unsigned i = from; i < to; i++) {
		snprintf(body, sizeof body, "%u", i);
		publish(c, topic, 1, (uint16_t)(i + 1), hf_span_str(body));
	}
	flush(c);
}

static void test_pubacks_in_order(void **state)
{
	struct world *w = *state;
	struct client *c;
	struct seen *s;

	world_up(w);
	c = login(w, 0, "dev0", true);
	send_numbers(c, "devices/dev0/messages/events/", 0, 1500);
	for (unsigned i = 0; i < 1500; i++) {
		expect(c, HF_MQTT_PUBACK);
		assert_int_equal(c->p.ack.packet_id, i + 1);
	}
	s = stored(w);
	assert_int_equal(s->n, 1500);
	for (unsigned i = 0; i < s->n; i++)
		assert_int_equal(s->number[i], i);
	free(s);
	hang_up(c);
}

/* A twin request at QoS 1 waits for the messages before it. */
static void test_twin_keeps_its_place(void **state)
{
	struct world *w = *state;
	struct client *c;
	unsigned acks = 0, replies = 0;

	world_up(w);
	c = login(w, 0, "dev0", true);
	assert_int_equal(subscribe(c, 7, "$iothub/twin/res/#", 0), 0);
	send_numbers(c, "devices/dev0/messages/events/", 0, 20);
	publish(c, "$iothub/twin/PATCH/properties/reported/?$rid=a%2Fb", 1, 21, hf_span_str("{}"));
	publish(c, "$iothub/twin/GET/?$rid=42", 1, 22, hf_span_str(" "));
	publish(c, "$iothub/twin/PATCH/properties/reported/?$rid=x", 0, 0, hf_span_str("bad"));
	flush(c);
	while (acks < 22 || replies < 3) {
		int type = next(c, WAIT_MS);

		if (type == HF_MQTT_PUBACK) {
			assert_int_equal(c->p.ack.packet_id, ++acks);
			continue;
		}
		assert_int_equal(type, HF_MQTT_PUBLISH);
		if (hf_span_is(c->p.publish.topic, "$iothub/twin/res/400/?$rid=x"))
			assert_non_null(memmem(c->p.publish.body.ptr, c->p.publish.body.len, "errorCode", 9));
		else if (!hf_span_is(c->p.publish.topic, "$iothub/twin/res/204/?$rid=a%2Fb"))
			assert_true(hf_span_is(c->p.publish.topic, "$iothub/twin/res/200/?$rid=42"));
		replies++;
	}
	hang_up(c);
}

static void test_bad_inputs(void **state)
{
	struct world *w = *state;
	static const struct {
		const char *topic;
		uint8_t qos;
		size_t size;
		unsigned metric;
	} bad[] = {
		{ "devices/dev1/messages/events/", 1, 1, HF_M_MQTT_FOREIGN_TOPIC },
		{ "devices/dev0/modules/m/messages/events/", 1, 1, HF_M_MQTT_FOREIGN_TOPIC },
		{ "anything/else", 1, 1, HF_M_MQTT_BAD_TOPIC },
		{ "$iothub/twin/GET/?$rid=", 1, 1, HF_M_MQTT_BAD_TOPIC },
		{ "devices/dev0/messages/events/a=%zz", 1, 1, HF_M_MQTT_BAD_BAG },
		{ "devices/dev0/messages/events/a=1=2", 1, 1, HF_M_MQTT_BAD_BAG },
		{ "devices/dev0/messages/events/", 1, HF_MSG_MAX_SIZE + 1, HF_M_MQTT_OVERSIZE },
		{ "devices/dev0/messages/events/", 1, HF_MSG_MAX_SIZE + 100000, HF_M_MQTT_OVERSIZE },
		{ "devices/dev0/messages/events/", 2, 1, HF_M_MQTT_QOS2 },
	};
	uint8_t *body = calloc(1, HF_MSG_MAX_SIZE + 100000);
	struct client *c;

	assert_non_null(body);
	world_up(w);
	for (size_t i = 0; i < HF_ARRAY_LEN(bad); i++) {
		int64_t from = hf_metric_get(bad[i].metric);

		c = login(w, (int)(i % WORKERS), "dev0", true);
		publish(c, bad[i].topic, bad[i].qos, 1, hf_span(body, bad[i].size));
		flush(c);
		expect(c, 0);	/* no PUBACK */
		wait_metric(bad[i].metric, from, 1);
		hang_up(c);
	}
	for (int second = 0; second < 2; second++) {
		unsigned metric = second ? HF_M_MQTT_UNEXPECTED : HF_M_MQTT_MALFORMED;
		int64_t from = hf_metric_get(metric);

		c = login(w, 0, "dev0", true);
		if (second)
			send_connect(c, "dev0", &(struct hello){ .clean = true });
		else
			hf_buf_put(&c->out, "\x36\x05hello", 7);	/* QoS 3 */
		flush(c);
		expect(c, 0);
		wait_metric(metric, from, 1);
		hang_up(c);
	}
	c = dial(w, 0);
	assert_int_equal(connack(c, "dev0", &(struct hello){ .will_topic = "devices/dev1/messages/events/" }), 5);
	hang_up(c);
	/* The largest that is allowed. */
	c = login(w, 0, "dev0", true);
	publish(c, "devices/dev0/messages/events/", 1, 9, hf_span(body, HF_MSG_MAX_SIZE));
	flush(c);
	expect(c, HF_MQTT_PUBACK);
	hang_up(c);
	free(body);
}

static void test_store_full_is_never_acked(void **state)
{
	struct world *w = *state;
	static uint8_t body[200000];
	struct client *c;
	struct seen *s;
	unsigned acked = 0;
	int type;

	w->max_bytes = 8 << 20;
	world_up(w);
	c = login(w, 0, "dev0", true);
	for (unsigned i = 0; i < 200; i++) {	/* large and small: the small ones would find room */
		snprintf((char *)body, 16, "%u", i);
		publish(c, "devices/dev0/messages/events/", 1, (uint16_t)(i + 1),
			hf_span(body, i % 2 ? 16 : sizeof body));
	}
	hf_mqtt_put_empty(&c->out, HF_MQTT_PINGREQ);
	flush(c);
	while ((type = next(c, WAIT_MS)) > 0) {
		if (type == HF_MQTT_PUBACK)
			assert_int_equal(c->p.ack.packet_id, ++acked);
		else
			assert_int_equal(type, HF_MQTT_PINGRESP);	/* still served while held */
	}
	assert_int_equal(type, 0);
	assert_in_range(acked, 5, 199);
	assert_true(hf_metric_get(HF_M_PUBLISH_FULL) > 0);
	s = stored(w);
	assert_true(s->n >= acked);
	for (unsigned i = 0; i < s->n; i++)
		assert_int_equal(s->number[i], i);	/* none passed a refused one */
	free(s);
	hang_up(c);
}

static void test_will(void **state)
{
	struct world *w = *state;
	struct client *c;
	struct seen *s;
	int64_t from;

	world_up(w);
	from = hf_metric_get(HF_M_WILLS);
	c = dial(w, 0);
	assert_int_equal(connack(c, "dev0", &(struct hello){ .will_topic = "devices/dev0/messages/events/" }), 0);
	hf_mqtt_put_empty(&c->out, HF_MQTT_DISCONNECT);
	flush(c);
	expect(c, 0);
	hang_up(c);
	c = dial(w, 0);
	assert_int_equal(connack(c, "dev0", &(struct hello){ .will_topic = "devices/dev0/messages/events/" }), 0);
	hang_up(c);
	wait_metric(HF_M_WILLS, from, 1);
	s = stored(w);
	assert_int_equal(s->n, 1);
	assert_true(s->will);
	free(s);
}

/* --- identities ---------------------------------------------------------------------------------------------- */
static void test_takeover(void **state)
{
	struct world *w = *state;
	struct client *old, *new;
	struct seen *s;
	int64_t from;

	world_up(w);
	from = hf_metric_get(HF_M_TAKEOVER);
	for (int to = 0; to < WORKERS; to++) {
		old = login(w, 0, to ? "dev1" : "dev0", true);
		send_numbers(old, to ? "devices/dev1/messages/events/" : "devices/dev0/messages/events/", 0, 300);
		expect(old, HF_MQTT_PUBACK);
		new = login(w, to, to ? "dev1" : "dev0", true);
		send_numbers(new, to ? "devices/dev1/messages/events/" : "devices/dev0/messages/events/", 300, 400);
		for (unsigned i = 300; i < 400; i++) {
			expect(new, HF_MQTT_PUBACK);
			assert_int_equal(new->p.ack.packet_id, i + 1);
		}
		while (next(old, WAIT_MS) == HF_MQTT_PUBACK)
			;
		hang_up(old);
		hang_up(new);
	}
	assert_int_equal(hf_metric_get(HF_M_TAKEOVER) - from, 2);
	s = stored(w);
	for (unsigned i = 1; i < s->n; i++)
		if (strcmp(s->from[i], s->from[i - 1]) == 0)
			assert_true(s->number[i] > s->number[i - 1]);
	free(s);
}

static void test_rapid_takeover_is_damped(void **state)
{
	struct world *w = *state;
	struct client *c[8];
	int64_t from;

	world_up(w);
	from = hf_metric_get(HF_M_TAKEOVER_DAMPED);
	for (unsigned i = 0; i < HF_ARRAY_LEN(c); i++)
		c[i] = login(w, (int)(i % WORKERS), "dev2", true);
	assert_true(hf_metric_get(HF_M_TAKEOVER_DAMPED) - from >= 3);
	for (unsigned i = 0; i + 1 < HF_ARRAY_LEN(c); i++) {
		expect(c[i], 0);
		hang_up(c[i]);
	}
	hang_up(c[7]);
}

static bool resume(struct world *w, int worker, const char *ident, bool clean)
{
	struct client *c = login(w, worker, ident, clean);
	bool present = c->p.connack.session_present;

	hf_mqtt_put_empty(&c->out, HF_MQTT_DISCONNECT);
	flush(c);
	expect(c, 0);
	hang_up(c);
	return present;
}

static void test_persistent_session(void **state)
{
	struct world *w = *state;
	struct client *c;

	world_up(w);
	assert_false(resume(w, 0, "dev0", false));
	c = login(w, 0, "dev0", false);
	assert_int_equal(subscribe(c, 1, "$iothub/twin/res/#", 0), 0);
	assert_int_equal(subscribe(c, 2, "devices/dev0/messages/devicebound/#", 2), 1);
	assert_int_equal(subscribe(c, 3, "devices/dev1/messages/devicebound/#", 1), 0x80);
	hang_up(c);
	assert_true(resume(w, 1, "dev0", false));
	world_down(w);
	world_up(w);
	c = login(w, 1, "dev0", false);
	assert_true(c->p.connack.session_present);
	publish(c, "$iothub/twin/GET/?$rid=1", 0, 0, hf_span_str(" "));
	flush(c);
	expect(c, HF_MQTT_PUBLISH);	/* nobody subscribed again */
	hang_up(c);
	assert_false(resume(w, 0, "dev0", true));
	assert_false(resume(w, 1, "dev0", false));
	world_down(w);
	world_up(w);
	assert_false(resume(w, 1, "dev0", false));
}

static void test_scope_change_ends_sessions(void **state)
{
	struct world *w = *state;
	struct client *a, *b, *c;
	int64_t from;

	world_up(w);
	from = hf_metric_get(HF_M_CUT_OFF);
	a = login(w, 0, "dev0", true);
	b = login(w, 1, "dev1", true);
	c = login(w, 1, "edge1/mod", true);
	give_scope(w, "dev0", KEY_A);
	expect(a, 0);
	assert_int_equal(hf_metric_get(HF_M_CUT_OFF) - from, 1);
	give_scope(w, "dev0", "bmV3IGtleSBvZiBldmVyeSBkZXZpY2U=");	/* dev1 has a new key */
	expect(b, 0);
	hf_mqtt_put_empty(&c->out, HF_MQTT_PINGREQ);
	flush(c);
	expect(c, HF_MQTT_PINGRESP);
	hf_gw_cut_off(w->gw, "edge1/mod", "test");
	expect(c, 0);
	assert_int_equal(hf_metric_get(HF_M_CUT_OFF) - from, 3);
	hang_up(a);
	hang_up(b);
	hang_up(c);
}

/* --- to the child ---------------------------------------------------------------------------------------------- */
static void test_downlinks(void **state)
{
	struct world *w = *state;
	const char *method = "$iothub/methods/POST/go/?$rid=1", *c2d = "devices/dev3/messages/devicebound/";
	struct test_down t;
	struct client *c;

	world_up(w);
	start_down(w, &t, "dev3", method, 0);
	hf_loop_run(w->loop);
	assert_int_equal(t.down.result, HF_ENOTFOUND);
	c = login(w, 1, "dev3", true);
	start_down(w, &t, "dev3", method, 0);
	hf_loop_run(w->loop);
	assert_int_equal(t.down.result, HF_ENOTFOUND);
	assert_int_equal(subscribe(c, 1, "$iothub/methods/POST/#", 0), 0);
	assert_int_equal(subscribe(c, 2, "devices/dev3/messages/devicebound/#", 1), 1);
	start_down(w, &t, "dev3", method, 1);
	hf_loop_run(w->loop);
	assert_int_equal(t.down.result, 0);
	expect(c, HF_MQTT_PUBLISH);
	assert_int_equal(c->p.publish.qos, 0);
	start_down(w, &t, "dev3", c2d, 1);
	expect(c, HF_MQTT_PUBLISH);
	assert_int_equal(c->p.publish.qos, 1);
	assert_int_equal(t.down.result, 1);
	hf_mqtt_put_ack(&c->out, HF_MQTT_PUBACK, c->p.publish.packet_id);
	flush(c);
	hf_loop_run(w->loop);
	assert_int_equal(t.down.result, 0);
	start_down(w, &t, "dev3", c2d, 1);
	expect(c, HF_MQTT_PUBLISH);
	hang_up(c);
	hf_loop_run(w->loop);
	assert_int_equal(t.down.result, HF_ENOTFOUND);
}

struct test_query {
	struct hf_loop *loop;
	struct hf_gw_children_query q;
};

static void query_back(struct hf_gw_children_query *q)
{
	hf_loop_stop(hf_container_of(q, struct test_query, q)->loop);
}

static json_t *ask(struct world *w, const char *ident, bool disconnect)
{
	struct test_query t = { .loop = w->loop, .q = { .reply_to = w->inbox, .done = query_back,
							.disconnect = disconnect } };

	snprintf(t.q.ident, sizeof t.q.ident, "%s", ident);
	hf_gw_children(w->gw, &t.q);
	hf_loop_run(w->loop);
	return t.q.items;
}

static void test_children(void **state)
{
	struct world *w = *state;
	struct client *a, *b;
	json_t *j;

	world_up(w);
	a = login(w, 0, "dev4", false);
	b = login(w, 1, "dev5", true);
	assert_int_equal(subscribe(a, 1, "$iothub/methods/POST/#", 0), 0);
	j = ask(w, "", false);
	assert_int_equal(json_array_size(j), 2);
	json_decref(j);
	j = ask(w, "dev4", true);
	assert_int_equal(json_array_size(j), 1);
	assert_string_equal(json_string_value(json_object_get(json_array_get(j, 0), "id")), "dev4");
	json_decref(j);
	expect(a, 0);
	j = ask(w, "dev4", false);	/* away, with a stored session */
	assert_int_equal(json_array_size(j), 1);
	assert_true(json_is_false(json_object_get(json_array_get(j, 0), "connected")));
	json_decref(j);
	j = ask(w, "dev6", false);
	assert_int_equal(json_array_size(j), 0);
	json_decref(j);
	hang_up(a);
	hang_up(b);
}

/* What is in hand at a stop is answered before the connection ends. */
static void test_stop_answers_what_is_in_hand(void **state)
{
	struct world *w = *state;
	struct client *c;
	struct hf_store_gauges g;
	unsigned acked = 0;

	world_up(w);
	c = login(w, 0, "dev0", true);
	send_numbers(c, "devices/dev0/messages/events/", 0, 200);
	expect(c, HF_MQTT_PUBACK);
	hf_gw_stop(w->gw);
	hf_store_gauges(w->store, &g);
	do
		acked++;
	while (next(c, WAIT_MS) == HF_MQTT_PUBACK);
	assert_int_equal(acked, g.accepted);
	hang_up(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_connect_codes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refusal_by_evidence, setup, teardown),
		cmocka_unit_test_setup_teardown(test_login_waits_for_a_refresh, setup, teardown),
		cmocka_unit_test_setup_teardown(test_waiting_logins_are_bounded, setup, teardown),
		cmocka_unit_test_setup_teardown(test_connect_limits, setup, teardown),
		cmocka_unit_test_setup_teardown(test_strangers_give_way, setup, teardown),
		cmocka_unit_test_setup_teardown(test_share_of_one_address, setup, teardown),
		cmocka_unit_test_setup_teardown(test_keep_alive, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pubacks_in_order, setup, teardown),
		cmocka_unit_test_setup_teardown(test_twin_keeps_its_place, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad_inputs, setup, teardown),
		cmocka_unit_test_setup_teardown(test_store_full_is_never_acked, setup, teardown),
		cmocka_unit_test_setup_teardown(test_will, setup, teardown),
		cmocka_unit_test_setup_teardown(test_takeover, setup, teardown),
		cmocka_unit_test_setup_teardown(test_rapid_takeover_is_damped, setup, teardown),
		cmocka_unit_test_setup_teardown(test_persistent_session, setup, teardown),
		cmocka_unit_test_setup_teardown(test_scope_change_ends_sessions, setup, teardown),
		cmocka_unit_test_setup_teardown(test_downlinks, setup, teardown),
		cmocka_unit_test_setup_teardown(test_children, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stop_answers_what_is_in_hand, setup, teardown),
	};

	if (getenv("HF_TEST_QUIET"))
		hf_log_set_level(HF_LOG_ERR);
	hf_metrics_init(hf_metric_table, HF_M__COUNT);
	return hf_tls_global_init() ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
