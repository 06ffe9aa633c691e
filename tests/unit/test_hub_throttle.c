/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The limits of an S1 unit, by a clock that the test moves; and what a connection holds back. */
#include "core/clock.h"
#include "core/metric.h"
#include "core/util.h"
#include "hub/fault/fault_run.h"
#include "hub/metrics.h"
#include "hub/model/model_int.h"

#include <holdfast/err.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static struct hub_model m;	/* of which only the buckets are used */
static struct hf_clock_fake now;

static void at(uint64_t ms)
{
	now.mono_ms = ms;
	hf_clock_fake(&now);
}

static int setup(void **state)
{
	(void)state;
	at(1000);
	hub_throttle_init(&m.throttle, true);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	hf_clock_fake(NULL);
	return 0;
}

static unsigned passes(enum hub_throttle_on on, unsigned amount, unsigned tries)
{
	unsigned n = 0;

	while (tries-- > 0)
		n += hub_throttle_take(&m, on, amount) == 0;
	return n;
}

static void each_bucket_holds_its_period(void **state)
{
	static const struct { enum hub_throttle_on on; unsigned holds, tenth_ms, tenth; } rows[] = {
		{ HUB_THROTTLE_D2C, 100, 100, 10 }, { HUB_THROTTLE_CONNECT, 100, 100, 10 }, { HUB_THROTTLE_C2D, 100, 6000, 10 },
		{ HUB_THROTTLE_TWIN_READ, 100, 100, 10 }, { HUB_THROTTLE_TWIN_UPDATE, 50, 100, 5 },
		{ HUB_THROTTLE_REGISTRY, 100, 6000, 10 }, { HUB_THROTTLE_QUERY, 20, 6000, 2 }, { HUB_THROTTLE_METHOD, 40, 100, 4 },
		{ HUB_THROTTLE_CONFIGURATION, 20, 6000, 2 }, { HUB_THROTTLE_JOB, 100, 6000, 10 },
	};

	(void)state;
	assert_int_equal(HF_ARRAY_LEN(rows), HUB_THROTTLE__COUNT);
	for (unsigned i = 0; i < HF_ARRAY_LEN(rows); i++) {
		uint64_t begin = now.mono_ms;

		assert_int_equal(passes(rows[i].on, 1, 1000), rows[i].holds);
		at(begin + rows[i].tenth_ms);
		assert_int_equal(passes(rows[i].on, 1, 1000), rows[i].tenth);
		at(begin + 10000000);
		assert_int_equal(passes(rows[i].on, 1, 1000), rows[i].holds);
	}
}

static void a_refusal_takes_nothing_and_says_when(void **state)
{
	uint32_t wait;

	(void)state;
	assert_int_equal(passes(HUB_THROTTLE_QUERY, 1, 20), 20);
	wait = hub_throttle_take(&m, HUB_THROTTLE_QUERY, 1);
	assert_int_equal(wait, 3000);
	assert_int_equal(hub_throttle_take(&m, HUB_THROTTLE_QUERY, 2), 6000);
	at(1000 + wait - 1);
	assert_int_equal(hub_throttle_take(&m, HUB_THROTTLE_QUERY, 1), 1);
	at(1000 + wait);
	assert_int_equal(hub_throttle_take(&m, HUB_THROTTLE_QUERY, 1), 0);
}

static void methods_weigh_by_meters(void **state)
{
	(void)state;
	assert_int_equal(hub_throttle_meters(0), 1);
	assert_int_equal(hub_throttle_meters(4096), 1);
	assert_int_equal(hub_throttle_meters(4097), 2);
	assert_int_equal(hub_throttle_meters(128 * 1024), 32);
	assert_int_equal(passes(HUB_THROTTLE_METHOD, 32, 10), 1);
	assert_int_equal(passes(HUB_THROTTLE_METHOD, 8, 10), 1);
}

/* One operation that is larger than the bucket: it needs a full one. */
static void more_than_a_bucket_holds(void **state)
{
	(void)state;
	assert_int_equal(hub_throttle_take(&m, HUB_THROTTLE_METHOD, 64), 0);
	assert_int_equal(hub_throttle_take(&m, HUB_THROTTLE_METHOD, 64), 1000);
}

static void shaping_promises_up_to_a_limit(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(hub_throttle_shape(&m, HUB_THROTTLE_D2C, 1, 500), 0);
	for (unsigned i = 1; i <= 50; i++)
		assert_int_equal(hub_throttle_shape(&m, HUB_THROTTLE_D2C, 1, 500), 10 * i);
	assert_int_equal(hub_throttle_shape(&m, HUB_THROTTLE_D2C, 1, 500), UINT32_MAX);
	at(1000 + 1500);
	assert_int_equal(hub_throttle_shape(&m, HUB_THROTTLE_D2C, 1, 500), 0);
}

static void off_means_no_limit(void **state)
{
	(void)state;
	hub_throttle_init(&m.throttle, false);
	assert_int_equal(passes(HUB_THROTTLE_QUERY, 1, 100000), 100000);
	assert_int_equal(hub_throttle_shape(&m, HUB_THROTTLE_D2C, 1000000, 1), 0);
}

/* --- hub_hold ------------------------------------------------------------------------------------------------- */

struct world {
	struct hf_loop *loop;
	struct hub_faults *faults;
	struct hub_hold hold;
	char seen[64];
};

static void note(void *arg, struct hf_span data)
{
	struct world *w = arg;
	size_t n = strlen(w->seen);

	snprintf(w->seen + n, sizeof w->seen - n, "%.*s", (int)data.len, (const char *)data.ptr);
	if (data.ptr[0] == '.')
		hf_loop_stop(w->loop);
}

static int open_hold(void **state)
{
	struct world *w = calloc(1, sizeof *w);

	assert_int_equal(hf_loop_create(&w->loop), 0);
	assert_int_equal(hub_faults_create(&w->faults), 0);
	hub_hold_init(&w->hold, w->loop, w->faults);
	*state = w;
	return 0;
}

static int close_hold(void **state)
{
	struct world *w = *state;

	hub_hold_fini(&w->hold);
	assert_true(hub_faults_hold(w->faults, (size_t)64 << 20));	/* all of it was given back */
	hub_faults_destroy(&w->faults);
	hf_loop_destroy(&w->loop);
	free(w);
	return 0;
}

static void add(struct world *w, uint64_t ms, bool in_order, const char *text)
{
	assert_int_equal(hub_hold_add(&w->hold, ms, in_order, note, w, hf_span_str(text)), 0);
}

static void what_is_in_order_stays_in_order(void **state)
{
	struct world *w = *state;

	assert_false(hub_hold_waits(&w->hold));
	add(w, 40, true, "a");
	add(w, 0, true, "b");
	add(w, 10, true, "c");
	add(w, 5, false, "x");
	add(w, 60, false, "y");
	add(w, 80, true, ".");
	assert_true(hub_hold_waits(&w->hold));
	hf_loop_run(w->loop);
	assert_string_equal(w->seen, "xabcy.");
	assert_false(hub_hold_waits(&w->hold));
	add(w, 1, true, ".");
	hf_loop_run(w->loop);
	assert_string_equal(w->seen, "xabcy..");
}

static void what_is_held_is_bounded_and_freed(void **state)
{
	static const uint8_t big[1 << 20];
	struct world *w = *state;
	unsigned n = 0;

	while (hub_hold_add(&w->hold, 1000000, true, note, w, hf_span(big, sizeof big)) == 0)
		n++;
	assert_in_range(n, 60, 64);
	assert_int_equal(hub_hold_add(&w->hold, 1, false, note, w, hf_span(big, sizeof big)), HF_ELIMIT);
}

static void errors_of_rules(void **state)
{
	struct hub_error err;

	(void)state;
	hub_fault_error(&(struct hub_fault){ .action = HUB_DO_THROTTLE }, &err);
	assert_int_equal(err.http_status, 429);
	assert_int_equal(err.code, 429001);
	assert_string_equal(err.name, "ThrottlingException");
	hub_fault_error(&(struct hub_fault){ .action = HUB_DO_REJECT, .code = 503 }, &err);
	assert_int_equal(err.code, 503001);
	hub_fault_error(&(struct hub_fault){ .action = HUB_DO_REJECT, .code = 599 }, &err);
	assert_int_equal(err.http_status, 599);
	assert_string_equal(err.name, "ServerError");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(each_bucket_holds_its_period, setup, teardown),
		cmocka_unit_test_setup_teardown(a_refusal_takes_nothing_and_says_when, setup, teardown),
		cmocka_unit_test_setup_teardown(methods_weigh_by_meters, setup, teardown),
		cmocka_unit_test_setup_teardown(more_than_a_bucket_holds, setup, teardown),
		cmocka_unit_test_setup_teardown(shaping_promises_up_to_a_limit, setup, teardown),
		cmocka_unit_test_setup_teardown(off_means_no_limit, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_in_order_stays_in_order, open_hold, close_hold),
		cmocka_unit_test_setup_teardown(what_is_held_is_bounded_and_freed, open_hold, close_hold),
		cmocka_unit_test(errors_of_rules),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
