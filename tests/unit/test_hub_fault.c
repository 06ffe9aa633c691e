/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Fault rules of the emulator: what is valid, whom they hit, how often, and when they end. */
#include "core/util.h"
#include "hub/fault/fault.h"

#include <holdfast/err.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static int setup(void **state)
{
	return hub_faults_create((struct hub_faults **)state);
}

static int teardown(void **state)
{
	hub_faults_destroy((struct hub_faults **)state);
	return 0;
}

static unsigned add(struct hub_faults *f, const char *on, const char *action, const char *device, unsigned rate, uint64_t count)
{
	struct hub_fault_rule rule = { .device = device, .rate = rate, .left = count };
	char why[256];
	unsigned id;

	assert_int_equal(hub_fault_parse(on, action, &rule, why, sizeof why), 0);
	assert_int_equal(hub_fault_add(f, &rule, &id), 0);
	return id;
}

static unsigned hits(struct hub_faults *f, enum hub_fault_on on, const char *id, unsigned tries)
{
	struct hub_fault fault;
	unsigned n = 0;

	while (tries-- > 0)
		n += hub_fault_hit(f, on, id, &fault);
	return n;
}

static const char *refusal(const char *on, const char *action)
{
	static char why[256];
	struct hub_fault_rule rule = { 0 };

	assert_int_equal(hub_fault_parse(on, action, &rule, why, sizeof why), HF_EINVALID);
	return why;
}

static void each_operation_has_its_actions(void **state)
{
	static const char *const ons[] = { "connect", "telemetry", "twin", "method", "scope", "c2d" };
	static const struct { const char *action, *valid; } rows[] = {	/* a letter per operation */
		{ "delay=5", "xxxxxx" }, { "hang", "xxxxxx" }, { "drop-connection", "xxxxxx" }, { "reject=503", "-xxxxx" },
		{ "reject=3", "x-----" }, { "throttle", "xxxxxx" }, { "ack-late=5", "-xxx-x" }, { "ack-twice", "-x----" },
		{ "ack-never", "-xxx-x" },
	};
	char why[256];

	(void)state;
	for (unsigned i = 0; i < HF_ARRAY_LEN(rows); i++)
		for (unsigned on = 0; on < HF_ARRAY_LEN(ons); on++) {
			struct hub_fault_rule rule = { 0 };
			int r = hub_fault_parse(ons[on], rows[i].action, &rule, why, sizeof why);

			assert_int_equal(r, rows[i].valid[on] == 'x' ? 0 : HF_EINVALID);
			if (r == 0)
				assert_int_equal(rule.on, on);
		}
}

static void refusals_name_what_is_valid(void **state)
{
	(void)state;
	assert_string_equal(refusal("scope", "ack-twice"),
			    "\"ack-twice\" cannot happen on scope; valid there: delay=MS, hang, drop-connection, reject=CODE, throttle");
	assert_non_null(strstr(refusal("sleep", "hang"), "connect, telemetry, twin, method, scope, c2d"));
	assert_non_null(strstr(refusal("twin", "explode"), "ack-never"));
	assert_non_null(strstr(refusal("twin", "delay"), "delay=500"));
	assert_non_null(strstr(refusal("twin", "delay=0"), "delay=500"));
	assert_non_null(strstr(refusal("twin", "delay=99999999999999999999"), "delay=500"));
	assert_non_null(strstr(refusal("twin", "reject=200"), "400 to 599"));
	assert_non_null(strstr(refusal("connect", "reject=6"), "1 to 5"));
	assert_non_null(strstr(refusal("twin", "hang=1"), "no value"));
}

static void a_device_filter_includes_modules(void **state)
{
	struct hub_faults *f = *state;

	add(f, "telemetry", "hang", "dev1", 100, 0);
	add(f, "telemetry", "hang", "edge1/mod1", 100, 0);
	assert_int_equal(hits(f, HUB_ON_TELEMETRY, "dev1", 2), 2);
	assert_int_equal(hits(f, HUB_ON_TELEMETRY, "dev1/mod1", 1), 1);
	assert_int_equal(hits(f, HUB_ON_TELEMETRY, "dev10", 1), 0);
	assert_int_equal(hits(f, HUB_ON_TELEMETRY, "dev", 1), 0);
	assert_int_equal(hits(f, HUB_ON_TELEMETRY, "edge1", 1), 0);
	assert_int_equal(hits(f, HUB_ON_TELEMETRY, "edge1/mod10", 1), 0);
	assert_int_equal(hits(f, HUB_ON_TELEMETRY, "edge1/mod1", 1), 1);
	assert_int_equal(hits(f, HUB_ON_TWIN, "dev1", 1), 0);
}

static void rates_are_even_and_counts_end(void **state)
{
	struct hub_faults *f = *state;

	add(f, "twin", "reject=500", NULL, 50, 0);
	assert_int_equal(hits(f, HUB_ON_TWIN, "d", 1), 0);
	assert_int_equal(hits(f, HUB_ON_TWIN, "d", 1), 1);
	assert_int_equal(hits(f, HUB_ON_TWIN, "d", 100), 50);
	hub_fault_clear(f, 0);
	add(f, "twin", "reject=500", NULL, 7, 0);
	assert_int_equal(hits(f, HUB_ON_TWIN, "d", 1000), 70);
	hub_fault_clear(f, 0);
	add(f, "twin", "reject=500", NULL, 100, 3);
	assert_int_equal(hits(f, HUB_ON_TWIN, "d", 10), 3);
	assert_int_equal(hub_fault_clear(f, 0), 0);
}

static void the_oldest_rule_decides(void **state)
{
	struct hub_faults *f = *state;
	struct hub_fault fault;

	add(f, "connect", "reject=3", "d", 100, 1);
	add(f, "connect", "delay=7", NULL, 100, 0);
	assert_true(hub_fault_hit(f, HUB_ON_CONNECT, "d", &fault));
	assert_int_equal(fault.action, HUB_DO_REJECT);
	assert_int_equal(fault.code, 3);
	assert_true(hub_fault_hit(f, HUB_ON_CONNECT, "d", &fault));
	assert_int_equal(fault.action, HUB_DO_DELAY);
	assert_int_equal(fault.ms, 7);
}

static void rules_are_listed_and_cleared(void **state)
{
	struct hub_faults *f = *state;
	unsigned a = add(f, "telemetry", "ack-late=9", "d/m", 30, 4), b = add(f, "connect", "reject=5", NULL, 100, 0);
	json_t *doc, *first;

	hits(f, HUB_ON_CONNECT, "x", 2);
	doc = hub_faults_doc(f);
	assert_int_equal(json_array_size(doc), 2);
	first = json_pack("{si ss ss ss si si si}", "id", (int)a, "on", "telemetry", "action", "ack-late=9", "device", "d/m", "rate", 30,
			  "count", 4, "hits", 0);
	assert_true(json_equal(json_array_get(doc, 0), first));
	assert_int_equal(json_integer_value(json_object_get(json_array_get(doc, 1), "hits")), 2);
	assert_true(json_is_null(json_object_get(json_array_get(doc, 1), "count")));
	json_decref(first);
	json_decref(doc);
	assert_int_equal(hub_fault_clear(f, a), 1);
	assert_int_equal(hub_fault_clear(f, a), 0);
	assert_int_equal(hub_fault_clear(f, b + 1), 0);
	assert_int_equal(hub_fault_clear(f, 0), 1);
}

static void limits(void **state)
{
	struct hub_faults *f = *state;
	struct hub_fault_rule rule = { .rate = 0 };
	char name[400];
	unsigned id, n = 0;
	int r;

	assert_int_equal(hub_fault_add(f, &rule, &id), HF_EINVALID);
	rule.rate = 101;
	assert_int_equal(hub_fault_add(f, &rule, &id), HF_EINVALID);
	rule.rate = 1;
	memset(name, 'x', sizeof name - 1);
	name[sizeof name - 1] = '\0';
	rule.device = name;
	assert_int_equal(hub_fault_add(f, &rule, &id), HF_EINVALID);
	rule.device = NULL;
	while ((r = hub_fault_add(f, &rule, &id)) == 0)
		assert_int_equal(id, ++n);
	assert_int_equal(r, HF_ELIMIT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_operation_has_its_actions),
		cmocka_unit_test(refusals_name_what_is_valid),
		cmocka_unit_test_setup_teardown(a_device_filter_includes_modules, setup, teardown),
		cmocka_unit_test_setup_teardown(rates_are_even_and_counts_end, setup, teardown),
		cmocka_unit_test_setup_teardown(the_oldest_rule_decides, setup, teardown),
		cmocka_unit_test_setup_teardown(rules_are_listed_and_cleared, setup, teardown),
		cmocka_unit_test_setup_teardown(limits, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
