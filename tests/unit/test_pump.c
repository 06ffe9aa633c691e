/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The pump over a real store: order per child, nothing lost, nothing twice without a cut, fair shares, restarts. */
#include "core/util.h"
#include "loop/loop.h"
#include "store/format.h"
#include "upstream/pump/pump.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>
#include <holdfast/err.h>
#include <cmocka.h>

enum { CHILDREN = 7, MAX_N = 40000, LINK = 1 };
static struct {
	char dir[64];
	struct hf_loop *loop;
	struct hf_inbox *inbox;
	struct hf_store *store;
	struct hf_pump *pump;
	struct hf_timer *timer;
	unsigned appended[CHILDREN], next_first[CHILDREN], n_first, n_dup, waiting, stop_at;
	bool up[CHILDREN], auto_ack, acking_random;
	struct { uint32_t child; uint64_t seq; } flight[CHILDREN * HF_PUMP_WINDOW];
	unsigned n_flight, bad_order, sent_by[CHILDREN];
	int64_t highest[CHILDREN];
	unsigned seed;
} t;

static unsigned rnd(unsigned n)
{
	t.seed = t.seed * 1664525u + 1013904223u;
	return (t.seed >> 8) % n;
}

static unsigned index_of(const struct hf_msg *m)
{
	return (unsigned)(hf_msg_from(m).ptr[3] - '0');
}

static int on_send(void *arg, uint32_t child, uint64_t seq, struct hf_msg *msg, bool dup)
{
	unsigned i = index_of(msg);
	struct hf_span body = hf_msg_body(msg);
	int64_t n = 0;

	(void)arg;
	(void)dup;
	assert_true(t.up[i]);
	assert_int_equal(hf_parse_i64(body, 0, MAX_N, &n), 0);
	if (n == t.highest[i] + 1) {	/* a first delivery is always the next one */
		t.highest[i] = n;
		t.n_first++;
	} else if (n <= t.highest[i]) {
		t.n_dup++;
	} else {
		t.bad_order++;
	}
	t.sent_by[i]++;
	assert_true(t.n_flight < HF_ARRAY_LEN(t.flight));
	t.flight[t.n_flight].child = child;
	t.flight[t.n_flight++].seq = seq;
	return 0;
}

static int on_want(void *arg, uint32_t child, const char *ident)
{
	(void)arg;
	t.up[ident[3] - '0'] = true;
	hf_pump_session_up(t.pump, child, LINK);
	return 0;
}

static int on_want_later(void *arg, uint32_t child, const char *ident)
{
	(void)arg;
	(void)child;
	(void)ident;
	return 0;
}

static const struct hf_pump_ops ops = { on_send, on_want };
static const struct hf_pump_ops ops_down = { on_send, on_want_later };

static void ack_some(void)
{
	/* oldest first, as a hub does */
	while (t.n_flight) {
		uint32_t child = t.flight[0].child;
		uint64_t seq = t.flight[0].seq;

		t.n_flight--;
		memmove(&t.flight[0], &t.flight[1], t.n_flight * sizeof t.flight[0]);
		hf_pump_acked(t.pump, child, seq);
		if (t.acking_random && rnd(4) == 0)
			return;
	}
}

static void cut(unsigned i)
{
	char name[8];
	uint32_t child;
	unsigned keep = 0;

	snprintf(name, sizeof name, "dev%u", i);
	child = hf_pump_child(t.pump, hf_span_str(name));
	if (!child || !t.up[i])
		return;
	for (unsigned k = 0; k < t.n_flight; k++)
		if (t.flight[k].child != child)
			t.flight[keep++] = t.flight[k];
	t.n_flight = keep;
	t.up[i] = false;
	hf_pump_session_lost(t.pump, child);
}

static void stop_loop(void *loop)
{
	hf_loop_stop(loop);
}

static void on_tick(void *arg)
{
	(void)arg;
	if (t.auto_ack)
		ack_some();
	if (t.acking_random && rnd(10) == 0)
		cut(rnd(CHILDREN));
	if (t.stop_at && t.n_first >= t.stop_at && t.n_flight == 0)
		hf_loop_stop(t.loop);
}

static int setup(void **state)
{
	(void)state;
	memset(&t, 0, sizeof t);
	t.seed = 42;
	for (unsigned i = 0; i < CHILDREN; i++)
		t.highest[i] = -1;
	snprintf(t.dir, sizeof t.dir, "/tmp/hf-test-pump-XXXXXX");
	assert_non_null(mkdtemp(t.dir));
	assert_int_equal(hf_loop_create(&t.loop), 0);
	assert_int_equal(hf_timer_create(t.loop, on_tick, NULL, &t.timer), 0);
	hf_timer_start(t.timer, 1, 1);
	return hf_inbox_create(t.loop, false, &t.inbox);
}

static void open_all(const struct hf_pump_ops *o)
{
	struct hf_store_cfg cfg = { .dir = t.dir, .max_bytes = 128 << 20, .state_bytes = 16 << 20 };

	assert_int_equal(hf_store_create(&cfg, &t.store), 0);
	if (o)
		assert_int_equal(hf_pump_create(t.loop, t.store, t.inbox, o, NULL, &t.pump), 0);
}

static void stop_when_idle(void *arg)
{
	(void)arg;
	if (hf_pump_idle(t.pump))
		hf_loop_stop(t.loop);
}

static void close_all(void)
{
	struct hf_timer *timer;

	if (t.pump) {
		hf_pump_stop(t.pump);
		hf_timer_stop(t.timer);
		hf_timer_create(t.loop, stop_when_idle, NULL, &timer);
		hf_timer_start(timer, 1, 1);
		hf_loop_run(t.loop);
		hf_timer_destroy(&timer);
		hf_pump_destroy(&t.pump);
		hf_timer_start(t.timer, 1, 1);
	}
	hf_store_destroy(&t.store);
}

static int teardown(void **state)
{
	pid_t pid;

	(void)state;
	close_all();
	hf_timer_destroy(&t.timer);
	hf_inbox_destroy(&t.inbox);
	hf_loop_destroy(&t.loop);
	pid = fork();
	if (pid == 0) {
		execlp("rm", "rm", "-rf", t.dir, (char *)NULL);
		_exit(1);
	}
	waitpid(pid, NULL, 0);
	return 0;
}

static void on_appended(struct hf_store_append *req)
{
	assert_int_equal(req->err, 0);
	hf_msg_unref(&req->msg);
	free(req);
	if (--t.waiting == 0 && t.stop_at == 0)
		hf_loop_stop(t.loop);
}

static void append(unsigned i)
{
	struct hf_store_append *req = calloc(1, sizeof *req);
	char from[8], body[16];

	snprintf(from, sizeof from, "dev%u", i);
	snprintf(body, sizeof body, "%u", t.appended[i]++);
	*req = (struct hf_store_append){ .reply_to = t.inbox, .done = on_appended,
		.msg = hf_msg_create(hf_span_str(from), hf_span(NULL, 0), hf_span_str(body), 0) };
	t.waiting++;
	hf_store_append(t.store, req);
}

static void append_all(unsigned n)
{
	t.stop_at = 0;
	for (unsigned k = 0; k < n; k++)
		append(rnd(CHILDREN));
	hf_loop_run(t.loop);
}

static void deliver(unsigned total)
{
	t.stop_at = total;
	t.auto_ack = true;
	hf_loop_run(t.loop);
}

static void test_live_messages(void **state)
{
	(void)state;
	open_all(&ops);
	t.auto_ack = true;
	append_all(2000);
	deliver(2000);
	assert_int_equal(t.bad_order + t.n_dup, 0);
}

static void test_backlog_is_read_in_order(void **state)
{
	struct hf_store_gauges g;

	(void)state;
	open_all(NULL);
	append_all(30000);
	close_all();
	open_all(&ops_down);
	for (unsigned i = 0; i < CHILDREN; i++) {
		char name[8];

		snprintf(name, sizeof name, "dev%u", i);
		t.up[i] = true;
		hf_pump_session_up(t.pump, hf_pump_child(t.pump, hf_span_str(name)), LINK);
	}
	for (unsigned i = 0; i < 1000; i++)	/* live ones meanwhile must not overtake */
		append(rnd(CHILDREN));
	deliver(31000);
	assert_int_equal(t.bad_order + t.n_dup, 0);
	close_all();
	open_all(NULL);
	hf_store_gauges(t.store, &g);
	assert_int_equal(g.pending, 0);
	assert_int_equal(g.delivered, 31000);
}

static void reopen_sessions(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < CHILDREN; i++) {
		char name[8];
		uint32_t child;

		snprintf(name, sizeof name, "dev%u", i);
		child = hf_pump_child(t.pump, hf_span_str(name));
		if (child && !t.up[i] && rnd(3) == 0) {
			t.up[i] = true;
			hf_pump_session_up(t.pump, child, LINK);
		}
	}
}

static void test_random_cuts_lose_nothing(void **state)
{
	struct hf_timer *timer;

	(void)state;
	open_all(&ops_down);
	append_all(9000);
	assert_int_equal(hf_timer_create(t.loop, reopen_sessions, NULL, &timer), 0);
	hf_timer_start(timer, 2, 2);
	t.acking_random = true;
	deliver(9000);
	assert_int_equal(t.bad_order, 0);
	assert_int_equal(t.n_first, 9000);
	assert_true(t.n_dup > 0);
	hf_timer_destroy(&timer);
}

static void test_a_hog_does_not_starve_others(void **state)
{
	(void)state;
	open_all(NULL);
	t.stop_at = 0;
	for (unsigned k = 0; k < 5000; k++)
		append(0);
	for (unsigned k = 0; k < 50; k++)
		append(1);
	hf_loop_run(t.loop);
	close_all();
	open_all(&ops_down);
	for (unsigned i = 0; i < 2; i++) {
		char name[8];

		snprintf(name, sizeof name, "dev%u", i);
		t.up[i] = true;
		hf_pump_session_up(t.pump, hf_pump_child(t.pump, hf_span_str(name)), LINK);
	}
	t.auto_ack = true;
	t.stop_at = 200;
	hf_loop_run(t.loop);
	assert_int_equal(t.sent_by[1], 50);	/* all of the small one within the first few hundred */
	assert_true(t.sent_by[0] < 1000);
	deliver(5050);
}

static void run_for(unsigned ms)
{
	struct hf_timer *once;

	hf_timer_stop(t.timer);
	assert_int_equal(hf_timer_create(t.loop, stop_loop, t.loop, &once), 0);
	hf_timer_start(once, ms, 0);
	hf_loop_run(t.loop);
	hf_timer_destroy(&once);
}

/* One message; its session is opened and ended by the hub so often, on these links. Returns what was counted refused. */
static uint64_t refused_after_closes(const unsigned *links, unsigned n)
{
	struct hf_store_gauges g;
	uint32_t child;

	open_all(&ops_down);
	t.stop_at = 0;
	append(0);
	hf_loop_run(t.loop);
	child = hf_pump_child(t.pump, hf_span_str("dev0"));
	for (unsigned k = 0; k < n; k++) {
		t.up[0] = true;
		hf_pump_session_up(t.pump, child, links[k]);
		run_for(20);
		if (t.n_flight == 0)
			break;
		assert_int_equal(t.n_flight, 1);
		t.n_flight = 0;
		t.up[0] = false;
		hf_pump_closed_by_hub(t.pump, child, links[k]);
		hf_pump_session_lost(t.pump, child);
	}
	hf_store_gauges(t.store, &g);
	return g.refused;
}

static void test_a_poisoned_head_is_given_up(void **state)
{
	static const unsigned links[] = { 1, 1, 1, 1, 1, 1 };
	struct hf_store_gauges g;

	(void)state;
	refused_after_closes(links, HF_ARRAY_LEN(links));
	close_all();
	open_all(NULL);
	hf_store_gauges(t.store, &g);
	assert_int_equal(g.refused, 1);
	assert_int_equal(g.pending, 0);
	assert_int_equal(t.sent_by[0], 5);
}

/* A hub that restarts ends all sessions: that says nothing about the message. */
static void test_closes_with_the_uplink_do_not_count(void **state)
{
	static const unsigned links[] = { 1, 2, 3, 4, 5, 6, 7, 8 };

	(void)state;
	assert_int_equal(refused_after_closes(links, HF_ARRAY_LEN(links)), 0);
	assert_int_equal(t.sent_by[0], HF_ARRAY_LEN(links));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_live_messages, setup, teardown),
		cmocka_unit_test_setup_teardown(test_backlog_is_read_in_order, setup, teardown),
		cmocka_unit_test_setup_teardown(test_random_cuts_lose_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_hog_does_not_starve_others, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_poisoned_head_is_given_up, setup, teardown),
		cmocka_unit_test_setup_teardown(test_closes_with_the_uplink_do_not_count, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
