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
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_decisions), cmocka_unit_test(test_records_survive_encoding),
					    cmocka_unit_test(test_bad_records) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
