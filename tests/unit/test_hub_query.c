/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The query language: what matches, what it yields, pages, and what is refused. */
#include "core/util.h"
#include "hub/query.h"

#include <holdfast/err.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

struct world {
	char dir[64];
	struct hf_loop *loop;
	struct hub_model *m;
};

static void put(struct world *w, const char *device, const char *module, json_t *doc, json_t *twin)
{
	struct hub_error err;
	char id[HF_IDENT_MAX + 1];

	assert_non_null(doc);
	assert_int_equal(hub_ident_put(w->m, device, module, doc, NULL, NULL, &err), 0);
	snprintf(id, sizeof id, "%s%s%s", device, module ? "/" : "", module ? module : "");
	if (twin)
		assert_int_equal(hub_twin_update(w->m, hub_ident_find(w->m, hf_span_str(id)), twin, false, NULL, NULL, &err),
				 0);
	json_decref(doc);
	json_decref(twin);
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof *w);
	struct hub_model_cfg cfg = { .dir = w->dir, .host = "hub.test" };
	struct hub_error err;
	json_t *rep = json_pack("{si ss}", "x", 60, "odd-name", "v");
	int64_t version;
	char id[32];

	snprintf(w->dir, sizeof w->dir, "/tmp/holdfast-query-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	assert_int_equal(hf_loop_create(&w->loop), 0);
	assert_int_equal(hub_model_open(w->loop, &cfg, &w->m), 0);
	put(w, "edge1", NULL, json_pack("{s{sb}}", "capabilities", "iotEdge", 1), NULL);
	for (unsigned i = 0; i < 20; i++) {
		snprintf(id, sizeof id, "dev%02u", i);
		put(w, id, NULL, json_pack("{ss ss}", "status", i % 4 ? "enabled" : "disabled", "deviceScope",
					   i < 5 ? hub_ident_find(w->m, hf_span_str("edge1"))->device_scope : ""),
		    json_pack("{s{s{ss} si sn}}", "tags", "location", "region", i % 2 ? "US" : "EU", "n", i, "gone"));
	}
	put(w, "dev00", "mod", json_object(), NULL);
	assert_int_equal(hub_twin_report(w->m, hub_ident_find(w->m, hf_span_str("dev03")), rep, 10, -1, &version, &err), 0);
	json_decref(rep);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	static const char *const files[] = { "state.mdb", "state.mdb-lock", "events.mdb", "events.mdb-lock" };
	struct world *w = *state;
	char path[128];

	hub_model_close(&w->m);
	hf_loop_destroy(&w->loop);
	for (unsigned i = 0; i < HF_ARRAY_LEN(files); i++) {
		snprintf(path, sizeof path, "%s/%s", w->dir, files[i]);
		unlink(path);
	}
	rmdir(w->dir);
	free(w);
	return 0;
}

static json_t *run(struct world *w, const char *text)
{
	struct hub_query *q = NULL;
	char reason[192], *next = NULL;
	json_t *rows = NULL;

	if (hub_query_parse(hf_span_str(text), &q, reason, sizeof reason) != 0)
		fail_msg("%s: %s", text, reason);
	assert_int_equal(hub_query_run(w->m, q, 1000, NULL, &rows, &next), 0);
	assert_null(next);
	hub_query_destroy(&q);
	return rows;
}

static void test_matches(void **state)
{
	static const struct { const char *where; unsigned n; } cases[] = {
		{ "", 21 },
		{ "WHERE capabilities.iotEdge = false", 20 },
		{ "where CAPABILITIES.iotEdge = true", 0 },	/* names are case-sensitive */
		{ "where capabilities.iotEdge = true", 1 },
		{ "WHERE deviceId IN ['dev01','dev02', \"no\"]", 2 },
		{ "WHERE deviceId NIN ['dev01']", 20 },
		{ "WHERE NOT deviceId = 'dev01'", 20 },
		{ "WHERE devices.deviceId = 'dev01'", 1 },
		{ "WHERE tags.location.region = 'US' AND properties.reported.x >= 60", 1 },
		{ "WHERE tags.location.region = 'US' AND properties.reported.x > 60", 0 },
		{ "WHERE properties.reported.x != 1", 1 },	/* the others are undefined */
		{ "WHERE NOT (properties.reported.x = 1)", 1 },
		{ "WHERE properties.reported.x = undefined", 20 },
		{ "WHERE is_defined(properties.reported.x) OR deviceId = 'dev07'", 2 },
		{ "WHERE properties.reported.x = 1 OR true", 21 },
		{ "WHERE properties.reported.[[odd-name]] = 'v'", 1 },
		{ "WHERE properties.reported.$version = 2", 1 },
		{ "WHERE startswith(deviceId, 'dev1')", 10 },
		{ "WHERE ends_with(deviceId, '0') AND contains(deviceId, 'v1')", 1 },
		{ "WHERE array_contains(parentScopes, deviceScope)", 5 },
		{ "WHERE status = 'disabled'", 5 },
		{ "WHERE tags.n + 1 = 0x10", 1 },
		{ "WHERE tags.n % 5 = 0 and tags.n / 5 < 2", 2 },
		{ "WHERE tags.n > -1 AND tags.n <= 2.5", 3 },
		{ "WHERE is_null(tags.gone) OR tags.gone = null", 0 },
		{ "WHERE is_number(tags.n) and length(deviceId) = 5", 20 },
		{ "WHERE lower(tags.location.region) = 'us'", 10 },
		{ "WHERE concat('dev', '01') = deviceId", 1 },
		{ "WHERE deviceId = 'it\\'s'", 0 },
	};
	char text[256];

	for (size_t i = 0; i < HF_ARRAY_LEN(cases); i++) {
		json_t *rows;

		snprintf(text, sizeof text, "SELECT * FROM devices %s", cases[i].where);
		rows = run(*state, text);
		if (json_array_size(rows) != cases[i].n)
			fail_msg("%s: %zu rows, not %u", text, json_array_size(rows), cases[i].n);
		json_decref(rows);
	}
}

static void expect(struct world *w, const char *text, const char *want)
{
	json_t *rows = run(w, text), *should = json_loads(want, 0, NULL);

	assert_non_null(should);
	if (!json_equal(rows, should)) {
		char *got = json_dumps(rows, JSON_COMPACT);

		fail_msg("%s: %s", text, got);
	}
	json_decref(rows);
	json_decref(should);
}

static void test_columns(void **state)
{
	expect(*state, "SELECT deviceId, tags.n AS num, properties.reported.x FROM devices WHERE tags.n = 3",
	       "[{\"deviceId\":\"dev03\",\"num\":3,\"x\":60}]");
	expect(*state, "SELECT TOP 2 deviceId FROM devices", "[{\"deviceId\":\"dev00\"},{\"deviceId\":\"dev01\"}]");
	expect(*state, "SELECT moduleId FROM devices.modules WHERE devices.deviceId = 'dev00'", "[{\"moduleId\":\"mod\"}]");
	expect(*state, "SELECT deviceId, moduleId FROM devices.modules WHERE devices.modules.moduleId = '$edgeHub'",
	       "[{\"deviceId\":\"edge1\",\"moduleId\":\"$edgeHub\"}]");
	expect(*state, "SELECT COUNT() AS n FROM devices WHERE deviceId = 'none'", "[{\"n\":0}]");
	expect(*state, "SELECT COUNT(*) AS n, SUM(tags.n) AS s, AVG(tags.n) AS a, MIN(tags.n) AS lo, MAX(tags.n) AS hi "
		       "FROM devices", "[{\"n\":21,\"s\":190,\"a\":9.5,\"lo\":0,\"hi\":19}]");
	expect(*state, "SELECT tags.location.region AS r, COUNT() AS n FROM devices WHERE is_defined(tags.n) "
		       "GROUP BY tags.location.region", "[{\"r\":\"EU\",\"n\":10},{\"r\":\"US\",\"n\":10}]");
}

static void test_refused(void **state)
{
	static const char *const texts[] = {
		"", "SELECT", "SELECT * FROM", "SELECT * FROM things", "SELECT * devices", "DELETE FROM devices",
		"SELECT * FROM devices WHERE", "SELECT * FROM devices WHERE deviceId =", "SELECT * FROM devices WHERE a = 'x",
		"SELECT * FROM devices WHERE a == 1", "SELECT * FROM devices WHERE (a = 1", "SELECT * FROM devices WHERE a IN [1",
		"SELECT * FROM devices WHERE nonsense(a)", "SELECT * FROM devices WHERE startswith(a)", "SELECT * FROM devices x y",
		"SELECT * FROM devices WHERE a = 1 1", "SELECT * FROM devices WHERE count() = 1", "SELECT a. FROM devices",
		"SELECT a, COUNT() FROM devices", "SELECT * FROM devices GROUP BY a", "SELECT * FROM devices WHERE a = 12x",
		"SELECT * FROM devices WHERE a = ;", "SELECT * FROM devices WHERE [[a = 1", "SELECT COUNT() + 1 FROM devices",
		"SELECT * FROM devices WHERE a = 99999999999999999999", "SELECT * FROM devices WHERE a NOT 1", "SELECT ,",
		"SELECT * FROM devices WHERE a IN [,]", "SELECT TOP x * FROM devices", "SELECT * FROM devices.jobs",
	};
	struct hub_query *q = NULL;
	char reason[192];
	static char deep[2048] = "SELECT * FROM devices WHERE ";

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_LEN(texts); i++) {
		if (hub_query_parse(hf_span_str(texts[i]), &q, reason, sizeof reason) != HF_EINVALID)
			fail_msg("taken: %s", texts[i]);
		assert_true(strlen(reason) > 0);
	}
	memset(deep + strlen(deep), '(', 1500);
	assert_int_equal(hub_query_parse(hf_span_str(deep), &q, reason, sizeof reason), HF_EINVALID);
	memset(strchr(deep, '('), '-', 1500);
	assert_int_equal(hub_query_parse(hf_span_str(deep), &q, reason, sizeof reason), HF_EINVALID);
}

static void test_pages(void **state)
{
	struct world *w = *state;
	struct hub_query *q = NULL;
	char reason[192], last[64] = "", *token = NULL, *next = NULL;
	unsigned n = 0, pages = 0;
	json_t *rows;

	assert_int_equal(hub_query_parse(hf_span_str("SELECT TOP 17 deviceId FROM devices WHERE capabilities.iotEdge=false"),
					 &q, reason, sizeof reason), 0);
	do {
		assert_int_equal(hub_query_run(w->m, q, 5, token, &rows, &next), 0);
		for (size_t i = 0; i < json_array_size(rows); i++, n++) {
			const char *id = json_string_value(json_object_get(json_array_get(rows, i), "deviceId"));

			assert_true(strcmp(id, last) > 0);
			snprintf(last, sizeof last, "%s", id);
		}
		json_decref(rows);
		free(token);
		token = next;
		pages++;
	} while (token);
	assert_int_equal(n, 17);
	assert_int_equal(pages, 4);
	assert_int_equal(hub_query_run(w->m, q, 5, "not a token", &rows, &next), HF_EINVALID);
	hub_query_destroy(&q);
	assert_int_equal(hub_query_parse(hf_span_str("SELECT * FROM devices.modules"), &q, reason, sizeof reason), 0);
	n = 0;
	do {
		assert_int_equal(hub_query_run(w->m, q, 1, token, &rows, &next), 0);
		assert_int_equal(json_array_size(rows), 1);
		json_decref(rows);
		free(token);
		token = next;
		n++;
	} while (token);
	assert_int_equal(n, 3);
	hub_query_destroy(&q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_matches, setup, teardown),
		cmocka_unit_test_setup_teardown(test_columns, setup, teardown),
		cmocka_unit_test(test_refused),
		cmocka_unit_test_setup_teardown(test_pages, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
