/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The pump over a real store, under random loads and faults: sizes from a few bytes to the largest message, sessions
 * that end, children that are disabled, records that the hub refuses or that cannot be sent, sessions that take nothing
 * for a while, reads that fail. Whatever happens: each child's order holds, nothing that was answered is sent again, the
 * memory budget is kept, and once the faults end everything leaves but what belongs to disabled children.
 *
 * HOLDFAST_SEED=N repeats one run; HOLDFAST_LONG=1 makes many. */
#include "core/util.h"
#include "loop/loop.h"
#include "store/format.h"
#include "upstream/pump/pump.h"
#include <errno.h>
#include <holdfast/err.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

enum { CHILDREN = 10, RECORDS = 2000, TICKS = 400, SETTLE_S = 60 };

struct child {
	uint32_t id;			/* the pump's number, 0 = not known yet */
	bool disabled, up, wanted, slow, kick, closing;
	int poison, unsendable;		/* record that the hub ends the session for; that cannot be sent; -1 none */
	int appended, highest, n_done;
	bool done[RECORDS];		/* answered, or given up */
	struct { uint64_t seq; int n; } flight[HF_PUMP_WINDOW];
	unsigned n_flight;
};
static struct {
	unsigned seed, start_seed, link, ticks;
	char dir[64];
	struct hf_loop *loop;
	struct hf_inbox *inbox;
	struct hf_store *store;
	struct hf_pump *pump;
	struct hf_timer *timer;
	struct child child[CHILDREN];
	unsigned waiting;
	bool read_errors, settling;
	time_t deadline;
} t;

static unsigned rnd(unsigned n)
{
	t.seed = t.seed * 1664525u + 1013904223u;
	return (t.seed >> 8) % n;
}

/* Linked in place of the store's own (see the Makefile). */
int __real_hf_store_read(struct hf_store *store, uint8_t cls, uint64_t from, uint64_t to, unsigned max,
			 const struct hf_store_reader *reader, uint64_t *ret_next);
int __wrap_hf_store_read(struct hf_store *store, uint8_t cls, uint64_t from, uint64_t to, unsigned max,
			 const struct hf_store_reader *reader, uint64_t *ret_next);
int __wrap_hf_store_read(struct hf_store *store, uint8_t cls, uint64_t from, uint64_t to, unsigned max,
			 const struct hf_store_reader *reader, uint64_t *ret_next)
{
	if (t.read_errors && rnd(2))
		return -EIO;
	return __real_hf_store_read(store, cls, from, to, max, reader, ret_next);
}

/* --- the hub's side ----------------------------------------------------------------------------------------- */

static int index_of(const char *ident)
{
	return ident[3] - '0';
}

static void check_budget(void)
{
	struct hf_pump_stats s;

	hf_pump_stats(t.pump, &s);
	assert_true(s.held_bytes <= HF_PUMP_BYTES);
}

static int on_send(void *arg, uint32_t id, uint64_t seq, struct hf_msg *msg, bool dup)
{
	struct child *c = &t.child[index_of((const char *)hf_msg_from(msg).ptr)];
	int64_t n = -1;

	(void)arg;
	assert_true(c->up && c->id == id && !c->disabled);
	check_budget();
	if (c->slow && !t.settling && rnd(20) == 0) {
		c->kick = true;
		return HF_EFULL;
	}
	if (!t.settling && rnd(2000) == 0)
		return -ENOMEM;
	assert_int_equal(hf_parse_i64(hf_span(hf_msg_body(msg).ptr, 6), 0, RECORDS, &n), 0);
	assert_true(n <= c->highest + 1);	/* a record never comes before those ahead of it */
	assert_false(c->done[n]);		/* nor again once it was answered */
	assert_true(n > c->highest || dup);	/* one that was sent before says so */
	for (unsigned i = 0; i < c->n_flight; i++)
		assert_true(c->flight[i].n < n);
	c->highest = hf_max(c->highest, (int)n);
	if (n == c->unsendable) {
		c->done[n] = true;
		c->n_done++;
		return HF_ELIMIT;
	}
	assert_true(c->n_flight < HF_PUMP_WINDOW);
	c->flight[c->n_flight].seq = seq;
	c->flight[c->n_flight++].n = (int)n;
	c->closing = c->closing || n == c->poison;
	return 0;
}

static int on_want(void *arg, uint32_t id, const char *ident)
{
	struct child *c = &t.child[index_of(ident)];

	(void)arg;
	c->id = id;
	if (!t.settling && rnd(50) == 0)
		return -ENOMEM;
	c->wanted = true;
	return 0;
}

static const struct hf_pump_ops ops = { on_send, on_want };

static void ack(struct child *c, unsigned i)
{
	uint64_t seq = c->flight[i].seq;
	int n = c->flight[i].n;

	c->n_flight--;
	memmove(&c->flight[i], &c->flight[i + 1], (c->n_flight - i) * sizeof c->flight[0]);
	assert_false(c->done[n]);
	c->done[n] = true;
	c->n_done++;
	hf_pump_acked(t.pump, c->id, seq);
}

static void session_ends(struct child *c, bool by_hub)
{
	if (!c->up)
		return;
	c->up = c->closing = c->kick = false;
	c->n_flight = 0;
	if (by_hub)
		hf_pump_closed_by_hub(t.pump, c->id, t.link);
	hf_pump_session_lost(t.pump, c->id);
}

/* The hub takes what came before the record that it does not like, then ends the session. */
static void close_on_poison(struct child *c)
{
	while (c->n_flight && c->flight[0].n < c->poison)
		ack(c, 0);
	session_ends(c, true);
}

static void link_down(void)
{
	for (int i = 0; i < CHILDREN; i++)
		session_ends(&t.child[i], rnd(2));
	t.link++;
}

/* --- the children's side ------------------------------------------------------------------------------------ */

static void on_appended(struct hf_store_append *req)
{
	assert_int_equal(req->err, 0);
	hf_msg_unref(&req->msg);
	free(req);
	t.waiting--;
}

static void append(int i)
{
	static const size_t sizes[] = { 6, 6, 60, 600, 6000, 60000, 100000, 250000 };
	static uint8_t body[250000];
	struct child *c = &t.child[i];
	struct hf_store_append *req;
	char from[8];

	if (c->appended == RECORDS)
		return;
	req = calloc(1, sizeof *req);
	snprintf(from, sizeof from, "dev%d", i);
	snprintf((char *)body, 7, "%06d", c->appended++);
	*req = (struct hf_store_append){
		.reply_to = t.inbox, .done = on_appended,
		.msg = hf_msg_create(hf_span_str(from), hf_span(NULL, 0), hf_span(body, sizes[rnd(HF_ARRAY_LEN(sizes))]), 0),
	};
	t.waiting++;
	hf_store_append(t.store, req);
}

/* --- a run -------------------------------------------------------------------------------------------------- */

static void act(struct child *c)
{
	if (c->closing) {
		close_on_poison(c);
		return;
	}
	if (c->wanted && !c->up && !c->disabled && (t.settling || rnd(5) == 0)) {
		c->up = true;
		c->wanted = false;
		hf_pump_session_up(t.pump, c->id, t.link);
	}
	if (c->kick && (t.settling || rnd(3) == 0)) {
		c->kick = false;
		hf_pump_kick(t.pump, c->id);
	}
	while (c->n_flight && (t.settling || rnd(3)))
		ack(c, t.settling || rnd(4) ? 0 : rnd(c->n_flight));
	if (!t.settling && rnd(60) == 0)
		session_ends(c, rnd(2));
}

static bool is_drained(void)
{
	for (int i = 0; i < CHILDREN; i++) {
		const struct child *c = &t.child[i];

		if (!c->disabled && c->n_done + (c->poison >= 0 && !c->done[c->poison]) < c->appended)
			return false;
	}
	return t.waiting == 0;
}

static void on_tick(void *arg)
{
	(void)arg;
	t.ticks++;
	if (t.ticks < TICKS) {
		for (unsigned k = rnd(10); k > 0; k--)
			append((int)rnd(rnd(2) ? CHILDREN : 2));
		t.read_errors = t.ticks / 50 % 3 == 1;
		if (rnd(150) == 0)
			link_down();
	} else if (!t.settling) {
		t.settling = true;
		t.read_errors = false;
		t.deadline = time(NULL) + SETTLE_S;
	}
	for (int i = 0; i < CHILDREN; i++)
		act(&t.child[i]);
	check_budget();
	if (t.settling && is_drained())
		hf_loop_stop(t.loop);
	if (t.settling && time(NULL) > t.deadline) {
		for (int i = 0; i < CHILDREN; i++)
			fprintf(stderr, "dev%d: %d of %d done, up %d, in flight %u, disabled %d\n", i, t.child[i].n_done,
				t.child[i].appended, t.child[i].up, t.child[i].n_flight, t.child[i].disabled);
		fail_msg("seed %u: not drained", t.start_seed);
	}
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

	hf_timer_destroy(&t.timer);
	hf_pump_stop(t.pump);
	assert_int_equal(hf_timer_create(t.loop, stop_when_idle, NULL, &timer), 0);
	hf_timer_start(timer, 1, 1);
	hf_loop_run(t.loop);
	hf_timer_destroy(&timer);
	hf_pump_destroy(&t.pump);
}

static void remove_dir(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		execlp("rm", "rm", "-rf", t.dir, (char *)NULL);
		_exit(1);
	}
	waitpid(pid, NULL, 0);
}

static void make_children(void)
{
	for (int i = 0; i < CHILDREN; i++) {
		struct child *c = &t.child[i];

		c->highest = -1;
		c->disabled = i > 0 && rnd(5) == 0;
		c->slow = rnd(3) == 0;
		c->poison = rnd(3) ? -1 : (int)rnd(40);
		c->unsendable = rnd(3) ? -1 : (int)rnd(40);
		if (c->unsendable == c->poison)
			c->unsendable = -1;
	}
}

/* What the ledger says in the end. A poisoned record was refused only if its child sent so many. */
static void check_ledger(void)
{
	struct hf_store_gauges g;
	uint64_t pending = 0, accepted = 0, refused = 0;

	for (int i = 0; i < CHILDREN; i++) {
		const struct child *c = &t.child[i];

		accepted += (uint64_t)c->appended;
		if (c->disabled)
			pending += (uint64_t)c->appended;
		else
			refused += (c->poison >= 0 && c->poison < c->appended && !c->done[c->poison]) +
				   (c->unsendable >= 0 && c->unsendable < c->appended);
	}
	hf_store_gauges(t.store, &g);
	assert_int_equal(g.accepted, accepted);
	assert_int_equal(g.pending, pending);
	assert_int_equal(g.refused, refused);
	assert_int_equal(g.delivered, accepted - pending - refused);
}

static void run_seed(unsigned seed)
{
	struct hf_store_cfg cfg = { .dir = t.dir, .max_bytes = 1u << 30, .state_bytes = 16 << 20, .interval_ms = 5 };

	memset(&t, 0, sizeof t);
	t.seed = t.start_seed = seed;
	t.link = 1;
	make_children();
	snprintf(t.dir, sizeof t.dir, "/tmp/hf-prop-pump-XXXXXX");
	assert_non_null(mkdtemp(t.dir));
	assert_int_equal(hf_loop_create(&t.loop), 0);
	assert_int_equal(hf_inbox_create(t.loop, false, &t.inbox), 0);
	assert_int_equal(hf_store_create(&cfg, &t.store), 0);
	assert_int_equal(hf_pump_create(t.loop, t.store, t.inbox, &ops, NULL, &t.pump), 0);
	assert_int_equal(hf_timer_create(t.loop, on_tick, NULL, &t.timer), 0);
	hf_timer_start(t.timer, 1, 1);
	hf_loop_run(t.loop);
	close_all();
	check_ledger();
	hf_store_destroy(&t.store);
	hf_inbox_destroy(&t.inbox);
	hf_loop_destroy(&t.loop);
	remove_dir();
}

static void test_random_runs(void **state)
{
	const char *given = getenv("HOLDFAST_SEED"), *is_long = getenv("HOLDFAST_LONG");
	unsigned n = given ? 1 : is_long && *is_long == '1' ? 100 : 6;
	unsigned first = given ? (unsigned)strtoul(given, NULL, 10) : (unsigned)time(NULL);

	(void)state;
	for (unsigned i = 0; i < n; i++) {
		print_message("seed %u\n", first + i);
		run_seed(first + i);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_random_runs) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
