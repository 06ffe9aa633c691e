/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Scope snapshots and the decision over them: a table of clients (edgehub-behaviour 3.4, 4.2). */
#include "auth/sas.h"
#include "auth/scope.h"
#include "core/util.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <holdfast/err.h>
#include <cmocka.h>

#define NOW 1700000000
#define SCOPE "ms-azure-iot-edge://edge1-1"
static const char *const keys[] = { "a2V5LW9uZS1rZXktb25lLWtleQ==", "a2V5LXR3by1rZXktdHdvLWtleQ==", "a2V5LXRocmVlLWtleS10aHJlZQ==" };

static void add(struct hf_scope_builder *b, const char *device, const char *module, const char *status, const char *key,
		const char *parent, bool edge)
{
	json_t *r = json_pack("{s:s, s:s, s:s, s:{s:b}, s:{s:s, s:{s:s, s:s}}, s:s, s:[s]}", "deviceId", device, "generationId", "1",
			      "status", status, "capabilities", "iotEdge", edge, "authentication", "type", "sas", "symmetricKey",
			      "primaryKey", key, "secondaryKey", keys[1], "deviceScope", edge ? SCOPE : parent, "parentScopes", parent);

	if (module)
		json_object_set_new(r, "moduleId", json_string(module));
	assert_int_equal(hf_scope_builder_add_json(b, r, module != NULL), 0);
	json_decref(r);
}

static struct hf_scope *make_scope(void)
{
	struct hf_scope_builder *b;
	struct hf_scope *s;

	assert_int_equal(hf_scope_builder_create(&b), 0);
	add(b, "edge1", NULL, "enabled", keys[0], "", true);
	add(b, "edge1", "mod", "enabled", keys[2], "", false);
	add(b, "dev0", NULL, "enabled", keys[0], SCOPE, false);
	add(b, "dev0", "m", "enabled", keys[2], SCOPE, false);
	add(b, "off", NULL, "disabled", keys[0], SCOPE, false);
	add(b, "foreign", NULL, "enabled", keys[0], "ms-azure-iot-edge://other-9", false);
	assert_int_equal(hf_scope_builder_finish(&b, 5, &s), 0);
	return s;
}

static enum hf_auth_verdict decide(const struct hf_scope *s, const char *device, const char *module, const char *audience,
				   const char *key, int64_t expiry)
{
	hf_autobuf struct hf_buf token = HF_BUF_INIT(4096);
	struct hf_auth_request req = { .device = hf_span_str(device), .module = hf_span_str(module ? module : ""), .now_s = NOW,
				       .hub_host = "hub.test", .gateway_host = "gw.test", .edge_id = "edge1" };
	int64_t ends = 0;

	if (key) {
		assert_int_equal(hf_sas_create(audience, key, NULL, expiry, &token), 0);
		req.password = hf_buf_span(&token);
	}
	return hf_auth_decide(s, &req, &ends);
}

static void test_decisions(void **state)
{
	static const struct {
		const char *device, *module, *audience;
		int key;	/* -1 = no token */
		int64_t expiry;
		enum hf_auth_verdict want;
	} cases[] = {
		{ "dev0", NULL, "hub.test/devices/dev0", 0, NOW + 60, HF_ALLOW },
		{ "dev0", NULL, "HUB.test/devices/DEV0", 0, NOW + 60, HF_ALLOW },
		{ "dev0", NULL, "gw.test/devices/dev0", 1, NOW + 60, HF_ALLOW },
		{ "dev0", NULL, "hub.test/devices/dev0", 2, NOW + 60, HF_DENY_SIGNATURE },
		{ "dev0", NULL, "else.test/devices/dev0", 0, NOW + 60, HF_DENY_AUDIENCE },
		{ "dev0", NULL, "hub.test/devices/dev1", 0, NOW + 60, HF_DENY_AUDIENCE },
		{ "dev0", NULL, "hub.test/devices/dev0", 0, NOW - 299, HF_ALLOW },
		{ "dev0", NULL, "hub.test/devices/dev0", 0, NOW - 301, HF_DENY_EXPIRED },
		{ "dev0", NULL, NULL, -1, 0, HF_DENY_NO_CREDENTIALS },
		{ "dev0", "m", "hub.test/devices/dev0/modules/m", 2, NOW + 60, HF_ALLOW },
		{ "dev0", "m", "hub.test/devices/dev0", 0, NOW + 60, HF_ALLOW },	/* the device's key for its module */
		{ "dev0", NULL, "hub.test/devices/dev0/modules/m", 2, NOW + 60, HF_DENY_SIGNATURE },	/* never the reverse */
		{ "edge1", "mod", "hub.test/devices/edge1/modules/mod", 2, NOW + 60, HF_ALLOW },
		{ "off", NULL, "hub.test/devices/off", 0, NOW + 60, HF_DENY_DISABLED },
		{ "foreign", NULL, "hub.test/devices/foreign", 0, NOW + 60, HF_DENY_UNKNOWN },
		{ "nobody", NULL, "hub.test/devices/nobody", 0, NOW + 60, HF_DENY_UNKNOWN },
		{ "edge1", NULL, "hub.test/devices/edge1", 0, NOW + 60, HF_DENY_UNKNOWN },
	};
	struct hf_scope *s = make_scope();

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_LEN(cases); i++) {
		enum hf_auth_verdict v = decide(s, cases[i].device, cases[i].module, cases[i].audience,
						cases[i].key < 0 ? NULL : keys[cases[i].key], cases[i].expiry);

		if (v != cases[i].want)
			fail_msg("case %zu: %s, wanted %s", i, hf_auth_verdict_name(v), hf_auth_verdict_name(cases[i].want));
	}
	hf_scope_unref(&s);
}

struct change {
	const char *id;
	bool gone;
};

static void expect_changes(const struct hf_scope *old, const struct hf_scope *now, const struct change *want, size_t n)
{
	const struct hf_scope_ident *ident;
	const char *id;
	size_t pos = 0, got = 0;

	while (hf_scope_next_change(old, now, &pos, &id, &ident)) {
		size_t k = 0;

		while (k < n && strcmp(want[k].id, id) != 0)
			k++;
		assert_true(k < n && want[k].gone == !ident);
		got++;
	}
	assert_int_equal(got, n);
}

static size_t walk(const struct hf_scope *s)
{
	const struct hf_scope_ident *i;
	size_t pos = 0, n = 0;

	while (hf_scope_next(s, &pos, &i)) {
		assert_ptr_equal(hf_scope_find(s, hf_span_str(i->id)), i);
		n++;
	}
	return n;
}

/* A snapshot over another one shares all that did not change, and outlives it. */
static void test_changes_of_single_records(void **state)
{
	struct hf_scope *first = make_scope(), *second, *third;
	const struct hf_scope_ident *same = hf_scope_find(first, hf_span_str("dev0"));
	struct hf_scope_builder *b;

	(void)state;
	assert_int_equal(hf_scope_builder_create_over(first, &b), 0);
	add(b, "dev0", NULL, "enabled", keys[0], SCOPE, false);	/* says what it said */
	add(b, "off", NULL, "enabled", keys[0], SCOPE, false);
	add(b, "new", NULL, "enabled", keys[2], SCOPE, false);
	assert_int_equal(hf_scope_builder_remove(b, "foreign"), 0);
	assert_int_equal(hf_scope_builder_finish(&b, 5, &second), 0);
	assert_ptr_equal(hf_scope_find(second, hf_span_str("dev0")), same);
	expect_changes(first, second, (struct change[]){ { "off", false }, { "new", false }, { "foreign", true } }, 3);
	assert_int_equal(hf_scope_count(second), 6);
	assert_int_equal(walk(second), 6);
	assert_int_equal(walk(first), 6);
	assert_null(hf_scope_find(second, hf_span_str("foreign")));
	assert_int_equal(decide(second, "off", NULL, "hub.test/devices/off", keys[0], NOW + 60), HF_ALLOW);
	assert_int_equal(decide(first, "off", NULL, "hub.test/devices/off", keys[0], NOW + 60), HF_DENY_DISABLED);
	hf_scope_unref(&first);

	assert_int_equal(hf_scope_builder_create_over(second, &b), 0);
	assert_int_equal(hf_scope_builder_remove(b, "new"), 0);
	add(b, "foreign", NULL, "enabled", keys[0], SCOPE, false);
	assert_int_equal(hf_scope_builder_finish(&b, 5, &third), 0);
	expect_changes(second, third, (struct change[]){ { "new", true }, { "foreign", false } }, 2);
	hf_scope_unref(&second);
	assert_int_equal(walk(third), 6);
	assert_int_equal(hf_scope_count(third), 6);

	assert_int_equal(hf_scope_builder_create_over(third, &b), 0);
	assert_int_equal(hf_scope_builder_remove(b, "nobody"), 0);
	assert_int_equal(hf_scope_builder_finish(&b, 5, &first), 0);
	expect_changes(third, first, NULL, 0);
	assert_int_equal(hf_scope_count(first), 6);
	hf_scope_unref(&third);
	hf_scope_unref(&first);
}

static void test_records_survive_encoding(void **state)
{
	struct hf_scope *s = make_scope(), *again;
	const struct hf_scope_ident *i;
	struct hf_scope_builder *b;
	size_t pos = 0;

	(void)state;
	assert_int_equal(hf_scope_builder_create(&b), 0);
	while (hf_scope_next(s, &pos, &i)) {
		hf_autobuf struct hf_buf r = HF_BUF_INIT(65536);

		assert_int_equal(hf_scope_ident_encode(i, &r), 0);
		for (size_t n = 0; n < hf_buf_len(&r); n++)	/* cut anywhere: refused, never misread */
			assert_int_equal(hf_scope_builder_add_encoded(b, hf_span(hf_buf_span(&r).ptr, n)), HF_ECORRUPT);
		assert_int_equal(hf_scope_builder_add_encoded(b, hf_buf_span(&r)), 0);
	}
	assert_int_equal(hf_scope_builder_finish(&b, 0, &again), 0);
	assert_int_equal(hf_scope_count(again), hf_scope_count(s));
	pos = 0;
	while (hf_scope_next(s, &pos, &i))
		assert_true(hf_scope_ident_equal(i, hf_scope_find(again, hf_span_str(i->id))));
	hf_scope_unref(&again);
	hf_scope_unref(&s);
}

static void test_bad_records(void **state)
{
	static const char *const bad[] = { "{}", "{\"deviceId\":\"\"}", "{\"deviceId\":5}", "[]" };
	struct hf_scope_builder *b;

	(void)state;
	assert_int_equal(hf_scope_builder_create(&b), 0);
	for (size_t i = 0; i < HF_ARRAY_LEN(bad); i++) {
		json_t *v = json_loads(bad[i], 0, NULL);

		assert_int_equal(hf_scope_builder_add_json(b, v, false), HF_EINVALID);
		json_decref(v);
	}
	hf_scope_builder_destroy(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_decisions), cmocka_unit_test(test_changes_of_single_records),
					    cmocka_unit_test(test_records_survive_encoding),
					    cmocka_unit_test(test_bad_records) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
