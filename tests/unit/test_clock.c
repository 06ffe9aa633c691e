/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Auth time under clocks that are unset, absurd, set late, disciplined; across restarts and boots. */
#include "auth/clock.h"
#include "core/clock.h"
#include "core/util.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#define DAY INT64_C(86400)
#define YEAR (365 * DAY)
static int64_t build_s;		/* the floor of a new appliance */

static void set_clocks(int64_t wall_s, uint64_t boot_s, bool is_disciplined)
{
	hf_clock_fake(&(struct hf_clock_fake){ .wall_ms = wall_s * 1000, .boot_ms = boot_s * 1000, .mono_ms = boot_s * 1000,
					       .is_disciplined = is_disciplined });
}

static struct hf_auth_clock *begin(struct hf_span stored)
{
	struct hf_auth_clock *c;

	assert_int_equal(hf_auth_clock_create(366 * DAY, stored, &c), 0);
	return c;
}

static struct hf_clock_view view(const struct hf_auth_clock *c)
{
	struct hf_clock_view v;

	hf_auth_clock_view(c, &v);
	assert_int_equal(v.now_s, hf_auth_clock_now_s(c));
	return v;
}

static int setup(void **state)
{
	struct hf_auth_clock *c;

	(void)state;
	set_clocks(0, 1, false);
	c = begin(hf_span(NULL, 0));
	build_s = view(c).floor_s;
	hf_auth_clock_destroy(&c);
	return build_s > 1700000000 ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	hf_clock_fake(NULL);
	return 0;
}

static void test_rules(void **state)
{
	const struct { int64_t wall_s; bool by_wall; } cases[] = {
		{ 0, false }, { build_s - 1, false }, { build_s, true }, { build_s + DAY, true }, { build_s + 366 * DAY, true },
		{ build_s + 366 * DAY + 1, false }, { build_s + 73 * YEAR, false },
	};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_LEN(cases); i++) {
		struct hf_auth_clock *c;

		set_clocks(cases[i].wall_s, 100, false);
		c = begin(hf_span(NULL, 0));
		set_clocks(cases[i].wall_s, 160, false);
		assert_int_equal(view(c).by_wall, cases[i].by_wall);
		assert_int_equal(view(c).now_s, cases[i].by_wall ? cases[i].wall_s : build_s + 60);
		assert_int_equal(view(c).floor_from, HF_CLOCK_BUILD);
		hf_auth_clock_destroy(&c);
	}
}

static void test_only_a_trusted_clock_raises_the_floor(void **state)
{
	struct hf_auth_clock *c;

	(void)state;
	set_clocks(build_s + 73 * YEAR, 100, false);	/* absurd, and nobody says that it is right */
	c = begin(hf_span(NULL, 0));
	hf_auth_clock_ask_kernel(c);
	assert_int_equal(view(c).floor_s, build_s);
	hf_auth_clock_trust(c, build_s + 10 * DAY, HF_CLOCK_HUB);
	assert_int_equal(view(c).floor_s, build_s + 10 * DAY);
	assert_int_equal(view(c).floor_from, HF_CLOCK_HUB);
	hf_auth_clock_trust(c, build_s + 5 * DAY, HF_CLOCK_HUB);	/* it never falls */
	assert_int_equal(view(c).floor_s, build_s + 10 * DAY);
	set_clocks(build_s + 20 * DAY, 200, true);
	hf_auth_clock_ask_kernel(c);
	assert_int_equal(view(c).floor_s, build_s + 20 * DAY);
	assert_int_equal(view(c).floor_from, HF_CLOCK_KERNEL);
	assert_true(view(c).by_wall);
	hf_auth_clock_destroy(&c);
}

static void test_restarts_and_boots(void **state)
{
	hf_autobuf struct hf_buf stored = HF_BUF_INIT(1000);
	struct hf_auth_clock *c;

	(void)state;
	set_clocks(build_s + 100 * DAY, 1000, true);
	c = begin(hf_span(NULL, 0));
	hf_auth_clock_save(c, &stored);
	hf_auth_clock_destroy(&c);

	set_clocks(0, 5000, false);	/* the clock falls back to 1970; the same boot: what elapsed counts */
	c = begin(hf_buf_span(&stored));
	assert_int_equal(view(c).now_s, build_s + 100 * DAY + 4000);
	assert_int_equal(view(c).floor_from, HF_CLOCK_STORED);
	hf_auth_clock_destroy(&c);

	set_clocks(0, 10, false);	/* another boot: time began anew, nobody knows for how long it was off */
	c = begin(hf_buf_span(&stored));
	assert_int_equal(view(c).now_s, build_s + 100 * DAY);
	set_clocks(build_s + 101 * DAY, 70, false);	/* somebody sets the clock */
	assert_int_equal(view(c).now_s, build_s + 101 * DAY);
	hf_auth_clock_destroy(&c);
}

static void test_what_is_stored_may_be_damaged(void **state)
{
	hf_autobuf struct hf_buf stored = HF_BUF_INIT(1000);
	struct hf_auth_clock *c;

	(void)state;
	set_clocks(build_s + 100 * DAY, 1000, true);
	c = begin(hf_span(NULL, 0));
	hf_auth_clock_save(c, &stored);
	hf_auth_clock_destroy(&c);
	set_clocks(0, 1000, false);
	for (size_t n = 1; n < hf_buf_len(&stored); n++) {
		c = begin(hf_span(hf_buf_span(&stored).ptr, n));
		assert_int_equal(view(c).floor_s, build_s);
		hf_auth_clock_destroy(&c);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rules), cmocka_unit_test(test_only_a_trusted_clock_raises_the_floor),
		cmocka_unit_test(test_restarts_and_boots), cmocka_unit_test(test_what_is_stored_may_be_damaged),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
