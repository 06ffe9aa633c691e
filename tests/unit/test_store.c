/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The store against the real file system: answers, order, ledger, expiry, budget, state, kill -9. */
#include "core/clock.h"
#include "core/util.h"
#include "loop/loop.h"
#include "store/store_int.h"
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/wait.h>
#include <holdfast/err.h>
#include <cmocka.h>

static struct {
	char dir[64];
	struct hf_loop *loop;
	struct hf_inbox *inbox;
	struct hf_store *store;
	unsigned answered, wanted, refused, gone, noticed;
} t;

static void open_store(uint64_t max_bytes, enum hf_when_full full, int64_t ttl_s)
{
	struct hf_store_cfg cfg = { .dir = t.dir, .max_bytes = max_bytes, .state_bytes = 16 << 20, .when_full = full, .ttl_s = ttl_s };

	memset(cfg.seal_key, 7, sizeof cfg.seal_key);
	assert_int_equal(hf_store_create(&cfg, &t.store), 0);
}

static int setup(void **state)
{
	(void)state;
	memset(&t, 0, sizeof t);
	snprintf(t.dir, sizeof t.dir, "/tmp/hf-test-store-XXXXXX");
	assert_non_null(mkdtemp(t.dir));
	assert_int_equal(hf_loop_create(&t.loop), 0);
	return hf_inbox_create(t.loop, false, &t.inbox);
}

static int teardown(void **state)
{
	char cmd[128];

	(void)state;
	hf_store_destroy(&t.store);
	hf_inbox_destroy(&t.inbox);
	hf_loop_destroy(&t.loop);
	snprintf(cmd, sizeof cmd, "/bin/rm");
	pid_t pid = fork();
	if (pid == 0) {
		execl(cmd, "rm", "-rf", t.dir, (char *)NULL);
		_exit(1);
	}
	waitpid(pid, NULL, 0);
	return 0;
}

static void one_answered(void)
{
	if (++t.answered == t.wanted)
		hf_loop_stop(t.loop);
}

static void on_appended(struct hf_store_append *req)
{
	if (req->err)
		t.refused++;
	hf_msg_unref(&req->msg);
	free(req);
	one_answered();
}

static void append(const char *from, unsigned n, size_t size)
{
	struct hf_store_append *req = calloc(1, sizeof *req);
	uint8_t *body = calloc(1, size + 16);

	snprintf((char *)body, 16, "%u", n);
	*req = (struct hf_store_append){ .reply_to = t.inbox, .done = on_appended,
		.msg = hf_msg_create(hf_span_str(from), hf_span_str("a=b"), hf_span(body, size), 0) };
	free(body);
	hf_store_append(t.store, req);
}

static void wait_for(unsigned n)
{
	t.wanted = n;
	t.answered = 0;
	hf_loop_run(t.loop);
}

struct seen { unsigned n; uint64_t last; uint64_t seq[4096]; size_t body_len; };

static void on_record(void *arg, struct hf_record *rec)
{
	struct seen *s = arg;

	assert_true(rec->seq > s->last || s->n == 0);
	s->last = rec->seq;
	s->body_len = rec->msg->body_len;
	if (s->n < 4096)
		s->seq[s->n] = rec->seq;
	s->n++;
	hf_msg_unref(&rec->msg);
}

static void read_all(struct seen *s)
{
	const struct hf_store_reader reader = { .fn = on_record, .arg = s };
	uint64_t from = 0;

	memset(s, 0, sizeof *s);
	while (from < 1u << 30)
		assert_int_equal(hf_store_read(t.store, HF_CLASS_DEFAULT, from, 1u << 30, 1000, &reader, &from), 0);
}

static void on_resolved(struct hf_store_resolve *req)
{
	assert_int_equal(req->err, 0);
	one_answered();
}

static void resolve(const struct seen *s, unsigned n, enum hf_outcome outcome)
{
	struct hf_resolved items[4096];
	struct hf_store_resolve req = { .reply_to = t.inbox, .done = on_resolved, .items = items, .n = n };

	for (unsigned i = 0; i < n; i++)
		items[i] = (struct hf_resolved){ .seq = s->seq[i], .cls = HF_CLASS_DEFAULT, .outcome = (uint8_t)outcome };
	hf_store_resolve(t.store, &req);
	wait_for(1);
}

static void check_ledger(void *arg, const char *child, const struct hf_ledger *l)
{
	struct hf_ledger *sum = arg;

	(void)child;
	assert_int_equal(l->accepted, l->delivered + l->expired + l->evicted + l->refused + l->purged + l->pending);
	sum->accepted += l->accepted;
	sum->pending += l->pending;
	sum->delivered += l->delivered;
	sum->expired += l->expired;
	sum->evicted += l->evicted;
}

static struct hf_ledger ledger(void)
{
	struct hf_ledger sum = { 0 };

	assert_int_equal(hf_store_ledger(t.store, check_ledger, &sum), 0);
	return sum;
}

static void test_accepted_survives_reopen_in_order(void **state)
{
	struct seen s;

	(void)state;
	open_store(64 << 20, HF_FULL_REFUSE, 0);
	for (unsigned i = 0; i < 1000; i++)
		append(i & 1 ? "dev1" : "dev0", i, 100);
	wait_for(1000);
	assert_int_equal(t.refused, 0);
	hf_store_destroy(&t.store);
	open_store(64 << 20, HF_FULL_REFUSE, 0);
	read_all(&s);
	assert_int_equal(s.n, 1000);
	resolve(&s, 600, HF_DELIVERED);
	resolve(&s, 600, HF_DELIVERED);	/* again: ignored, the ledger stays exact */
	read_all(&s);
	assert_int_equal(s.n, 400);
	assert_int_equal(ledger().delivered, 600);
	hf_store_destroy(&t.store);
	open_store(64 << 20, HF_FULL_REFUSE, 0);
	append("dev0", 1, 10);
	wait_for(1);
	struct hf_store_gauges g;
	hf_store_gauges(t.store, &g);
	assert_int_equal(g.pending, 401);
	assert_int_equal(g.next_seq, 1002);	/* numbers are never used again */
}

static void test_large_bodies_in_parts(void **state)
{
	struct seen s;

	(void)state;
	open_store(64 << 20, HF_FULL_REFUSE, 0);
	append("dev0", 1, 200000);
	append("dev0", 2, 1901);
	wait_for(2);
	read_all(&s);
	assert_int_equal(s.n, 2);
	assert_int_equal(s.body_len, 1901);
	resolve(&s, 2, HF_DELIVERED);
	struct hf_ledger l = ledger();
	assert_int_equal(l.pending, 0);
}

static void test_blocks_and_backlog(void **state);
struct bl { uint64_t n; };
static void on_backlog(void *arg, uint32_t child, uint8_t cls, uint64_t block, uint32_t n, uint64_t bytes)
{
	(void)child;
	(void)cls;
	(void)block;
	(void)bytes;
	((struct bl *)arg)->n += n;
}

static void test_blocks_and_backlog(void **state)
{
	struct bl b = { 0 };
	uint64_t end;

	(void)state;
	open_store(128 << 20, HF_FULL_REFUSE, 0);
	for (unsigned i = 0; i < 20000; i++)
		append(i % 3 ? "dev1" : "dev0", i, 50);
	wait_for(20000);
	hf_store_destroy(&t.store);
	open_store(128 << 20, HF_FULL_REFUSE, 0);
	assert_int_equal(hf_store_backlog(t.store, on_backlog, &b, &end), 0);
	assert_int_equal(b.n, 20000);
	assert_int_equal(end, 20001);
}

static void test_expiry_by_store_time(void **state)
{
	struct hf_store_gauges g;

	(void)state;
	open_store(64 << 20, HF_FULL_REFUSE, 1);
	for (unsigned i = 0; i < 700; i++)
		append("dev0", i, 50);
	wait_for(700);
	hf_store_set_ttl(t.store, 3600);
	for (unsigned i = 0; i < 10; i++)
		append("dev1", i, 50);
	wait_for(10);
	uint64_t give_up = hf_clock_mono_ms() + 20000;
	do {
		hf_store_gauges(t.store, &g);
		usleep(10000);
	} while (g.expired < 700 && hf_clock_mono_ms() < give_up);
	assert_int_equal(g.expired, 700);
	assert_int_equal(ledger().pending, 10);
}

static void test_full_refuses_then_accepts_again(void **state)
{
	static struct seen s;
	unsigned accepted;

	(void)state;
	open_store(8 << 20, HF_FULL_REFUSE, 0);
	for (unsigned i = 0; i < 6000; i++)
		append("dev0", i, 1500);
	wait_for(6000);
	accepted = 6000 - t.refused;
	assert_true(t.refused > 0 && accepted > 2000);
	read_all(&s);
	assert_int_equal(s.n, accepted);
	resolve(&s, accepted < 4096 ? accepted : 4096, HF_DELIVERED);
	append("dev0", 1, 100);
	wait_for(1);
	t.refused = 0;
	append("dev0", 2, 100);
	wait_for(1);
	assert_int_equal(t.refused, 0);
}

/* durability "interval" answers before the commit: what it admitted must still be there when the store is full. */
static void test_interval_keeps_what_it_answered(void **state)
{
	struct hf_store_cfg cfg = { .dir = t.dir, .max_bytes = 8 << 20, .state_bytes = 16 << 20, .interval_ms = 20 };
	static struct seen s;

	(void)state;
	memset(cfg.seal_key, 7, sizeof cfg.seal_key);
	assert_int_equal(hf_store_create(&cfg, &t.store), 0);
	for (unsigned i = 0; i < 6000; i++)
		append("dev0", i, 1500);
	wait_for(6000);
	assert_true(t.refused > 0);
	hf_store_destroy(&t.store);
	open_store(8 << 20, HF_FULL_REFUSE, 0);
	read_all(&s);
	assert_int_equal(s.n, 6000 - t.refused);
}

static void test_drop_oldest_evicts_and_counts(void **state)
{
	struct seen s;

	(void)state;
	open_store(8 << 20, HF_FULL_DROP_OLDEST, 0);
	for (unsigned i = 0; i < 6000; i++)
		append("dev0", i, 1500);
	wait_for(6000);
	assert_int_equal(t.refused, 0);
	read_all(&s);
	struct hf_ledger l = ledger();
	assert_int_equal(l.evicted + s.n, 6000);
	assert_true(l.evicted > 0);
	assert_int_equal(s.last, 6000);	/* the newest stay */
}

static void on_state(struct hf_store_state *req)
{
	assert_int_equal(req->err, 0);
	one_answered();
}

static void on_loaded(void *arg, struct hf_span key, struct hf_span value)
{
	assert_true(hf_span_is(key, "dev0"));
	assert_true(hf_span_is(value, "{\"secret\":1}"));
	(*(unsigned *)arg)++;
}

static void test_state_is_sealed(void **state)
{
	struct hf_state_op op = { HF_STATE_TWIN, true, hf_span_str("dev0"), hf_span_str("{\"secret\":1}") };
	struct hf_store_state req = { .reply_to = t.inbox, .done = on_state, .ops = &op, .n = 1 };
	hf_autobuf struct hf_buf file = HF_BUF_INIT(32 << 20);
	struct hf_store_cfg cfg = { .dir = t.dir, .max_bytes = 64 << 20, .state_bytes = 16 << 20 };
	char path[96];
	unsigned n = 0;

	(void)state;
	open_store(64 << 20, HF_FULL_REFUSE, 0);
	hf_store_state(t.store, &req);
	wait_for(1);
	hf_store_destroy(&t.store);
	snprintf(path, sizeof path, "%s/state.mdb", t.dir);
	assert_int_equal(hf_read_file(path, 32 << 20, &file), 0);
	assert_null(memmem(hf_buf_span(&file).ptr, hf_buf_len(&file), "secret", 6));
	assert_int_equal(hf_store_create(&cfg, &t.store), HF_EDENIED);	/* another key: told, nothing deleted */
	open_store(64 << 20, HF_FULL_REFUSE, 0);
	assert_int_equal(hf_store_state_load(t.store, HF_STATE_TWIN, on_loaded, &n), 0);
	assert_int_equal(n, 1);
}

/* Twins on a pile: appends that come meanwhile wait for one turn of them, not for the pile. */
static void test_a_pile_of_states_is_cut_into_turns(void **state)
{
	static struct hf_store_state reqs[2000];
	static struct hf_state_op ops[2000];
	static char keys[2000][8], value[4096];
	struct hf_store_gauges g;

	(void)state;
	memset(value, 'v', sizeof value);
	open_store(64 << 20, HF_FULL_REFUSE, 0);
	for (unsigned i = 0; i < 2000; i++) {
		snprintf(keys[i], sizeof keys[i], "dev%u", i);
		ops[i] = (struct hf_state_op){ HF_STATE_TWIN, true, hf_span_str(keys[i]), hf_span(value, sizeof value) };
		reqs[i] = (struct hf_store_state){ .reply_to = t.inbox, .done = on_state, .ops = &ops[i], .n = 1 };
		hf_store_state(t.store, &reqs[i]);
	}
	wait_for(2000);
	hf_store_gauges(t.store, &g);
	assert_int_equal(g.state_writes, 2000);
	assert_in_range(g.state_commits, 2000 * sizeof value / (300 * 1024), 2000);
	hf_store_destroy(&t.store);	/* and none of a pile is left behind by the end */
	open_store(64 << 20, HF_FULL_REFUSE, 0);
	for (unsigned i = 0; i < 2000; i++)
		hf_store_state(t.store, &reqs[i]);
	hf_store_destroy(&t.store);
	wait_for(2000);
}

/* A pump that does not come to take its notices: what they keep in memory is bounded, and nothing is left out. */
struct taken {
	struct hf_loop *loop;
	unsigned items, wanted;
	size_t held;
};

static void on_test_notice(struct hf_mail *mail)
{
	struct hf_store_notice *n = hf_container_of(mail, struct hf_store_notice, mail);
	struct taken *taken = n->arg;

	for (unsigned i = 0; i < n->n; i++)
		taken->held += n->items[i].msg ? n->items[i].bytes : 0;
	taken->items += n->n;
	hf_store_notice_free(n);
	if (taken->items == taken->wanted)
		hf_loop_stop(taken->loop);
}

static void test_notices_are_bounded(void **state)
{
	struct taken taken = { .wanted = 100 };
	struct hf_inbox *pump;

	(void)state;
	open_store(64 << 20, HF_FULL_REFUSE, 0);
	assert_int_equal(hf_loop_create(&taken.loop), 0);
	assert_int_equal(hf_inbox_create(taken.loop, false, &pump), 0);
	hf_store_set_pump(t.store, pump, on_test_notice, &taken);
	for (unsigned i = 0; i < 100; i++)
		append("dev0", i, 200 * 1024);
	wait_for(100);
	assert_int_equal(t.refused, 0);
	hf_loop_run(taken.loop);
	assert_in_range(taken.held, 1, 4 << 20);
	taken.wanted++;
	taken.held = 0;
	append("dev0", 100, 200 * 1024);
	wait_for(1);
	hf_loop_run(taken.loop);
	assert_in_range(taken.held, 200 * 1024, 4 << 20);
	hf_store_destroy(&t.store);
	hf_inbox_destroy(&pump);
	hf_loop_destroy(&taken.loop);
}

static int kill_pipe[2];
static void on_kill_appended(struct hf_store_append *req)
{
	uint64_t seq = req->seq;

	if (req->err == 0 && write(kill_pipe[1], &seq, sizeof seq) != sizeof seq)
		_exit(2);
	hf_msg_unref(&req->msg);
	free(req);
}

static void child_appends_for_ever(void)
{
	for (unsigned i = 0;; i++) {
		struct hf_store_append *req = calloc(1, sizeof *req);

		*req = (struct hf_store_append){ .reply_to = t.inbox, .done = on_kill_appended,
			.msg = hf_msg_create(hf_span_str("dev0"), hf_span(NULL, 0), hf_span_str("x"), 0) };
		hf_store_append(t.store, req);
		if (i % 64 == 63) {
			struct hf_timer *timer;

			hf_timer_create(t.loop, (hf_timer_fn)(void (*)(void))hf_loop_stop, t.loop, &timer);
			hf_timer_start(timer, 1, 0);
			hf_loop_run(t.loop);
			hf_timer_destroy(&timer);
		}
	}
}

static void test_kill_9_keeps_what_was_answered(void **state)
{
	uint64_t seq, acked = 0;
	struct seen s;
	pid_t pid;

	(void)state;
	assert_int_equal(pipe(kill_pipe), 0);
	pid = fork();
	if (pid == 0) {
		hf_loop_destroy(&t.loop);
		hf_loop_create(&t.loop);
		hf_inbox_create(t.loop, false, &t.inbox);
		open_store(64 << 20, HF_FULL_REFUSE, 0);
		child_appends_for_ever();
	}
	close(kill_pipe[1]);
	while (acked < 2000 && read(kill_pipe[0], &seq, sizeof seq) == sizeof seq)
		acked++;
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	while (read(kill_pipe[0], &seq, sizeof seq) == sizeof seq)
		acked++;
	close(kill_pipe[0]);
	open_store(64 << 20, HF_FULL_REFUSE, 0);
	read_all(&s);
	assert_true(acked >= 2000);
	assert_true(s.n >= acked);
	assert_int_equal(ledger().pending, s.n);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_accepted_survives_reopen_in_order, setup, teardown),
		cmocka_unit_test_setup_teardown(test_large_bodies_in_parts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_blocks_and_backlog, setup, teardown),
		cmocka_unit_test_setup_teardown(test_expiry_by_store_time, setup, teardown),
		cmocka_unit_test_setup_teardown(test_full_refuses_then_accepts_again, setup, teardown),
		cmocka_unit_test_setup_teardown(test_interval_keeps_what_it_answered, setup, teardown),
		cmocka_unit_test_setup_teardown(test_drop_oldest_evicts_and_counts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_pile_of_states_is_cut_into_turns, setup, teardown),
		cmocka_unit_test_setup_teardown(test_notices_are_bounded, setup, teardown),
		cmocka_unit_test_setup_teardown(test_state_is_sealed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_kill_9_keeps_what_was_answered, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
