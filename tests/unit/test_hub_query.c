/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The query language: what matches, what it yields, pages, and what is refused. */
#include "core/util.h"
#include "hub/query/query.h"

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
	json_t *rep = json_pack("{si ss s{sssisfsbsbs[ssi]sos{ss}}}", "x", 60, "odd-name", "v", "t", "text", "Aé b", "int", -7,
				"real", 2.5, "yes", 1, "no", 0, "list", "a", "b", 3, "empty", json_array(), "deep", "er", "z");
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
	static const char *const files[] = { "state.mdb", "state.mdb-lock", "events.mdb", "events.mdb-lock", "lock" };
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

/* On dev03, which has every type: t, f, or u (undefined: neither it nor its NOT matches). */
static const struct { const char *expr; char want; } values[] = {
	/* comparison */
	{ "R.int = -7", 't' }, { "R.int = -7.0", 't' }, { "R.int != -7", 'f' }, { "R.int <> 1", 't' }, { "R.int < 0", 't' },
	{ "R.int <= -7", 't' }, { "R.int > -7", 'f' }, { "R.int >= -7.5", 't' }, { "R.text = 'Aé b'", 't' },
	{ "R.text = \"aé b\"", 'f' }, { "R.text > 'A'", 't' }, { "R.text < 'B'", 't' }, { "R.yes = true", 't' },
	{ "R.yes != false", 't' }, { "R.no = FALSE", 't' }, { "R.text = 1", 'f' }, { "R.text != 1", 't' },
	{ "R.text < 1", 'u' }, { "R.yes < true", 'u' }, { "R.none = 1", 'u' }, { "R.none != 1", 'u' }, { "R.none < 1", 'u' },
	{ "R.none = undefined", 't' }, { "R.int = undefined", 'f' }, { "R.int != undefined", 't' }, { "null = null", 't' },
	{ "R.int = null", 'f' }, { "R.list = ['a','b',3]", 't' }, { "R.list = ['a']", 'f' }, { "R.int", 'u' },
	{ "R.yes", 't' }, { "R.no", 'f' }, { "undefined", 'u' }, { "null", 'u' },
	/* logic of three values */
	{ "R.yes AND R.yes", 't' }, { "R.yes and R.no", 'f' }, { "R.none AND R.no", 'f' }, { "R.none AND R.yes", 'u' },
	{ "R.none OR R.yes", 't' }, { "R.none or R.no", 'u' }, { "R.no OR R.no OR R.yes", 't' }, { "NOT R.no", 't' },
	{ "not not R.no", 'f' }, { "NOT R.none", 'u' }, { "R.no AND R.no OR R.yes", 't' }, { "R.no AND (R.no OR R.yes)", 'f' },
	{ "NOT R.no = false", 'f' }, { "R.no = false AND NOT R.yes = false", 't' },
	/* lists */
	{ "R.int IN [1, -7]", 't' }, { "R.int IN [-7.0]", 't' }, { "R.text IN ['x', 'Aé b', 4]", 't' }, { "R.text IN ['x', 4]", 'f' },
	{ "R.int in ['-7']", 'f' }, { "R.int IN []", 'f' }, { "R.none IN [1]", 'u' }, { "'a' IN R.list", 't' }, { "'c' IN R.list", 'f' },
	{ "'c' IN R.none", 'u' }, { "'c' IN R.int", 'u' }, { "R.int NIN [1]", 't' }, { "R.int nin [-7]", 'f' }, { "R.none NIN [1]", 'u' },
	{ "R.text NOT IN ['x']", 't' }, { "R.text NOT IN ['Aé b']", 'f' }, { "R.yes IN [true]", 't' }, { "null IN [null]", 't' },
	{ "R.int IN [3, -7, 9, 0, -7]", 't' }, { "R.int IN [3, -8, -6, 0]", 'f' }, { "R.int IN [1, 2.5, -7]", 't' },
	{ "R.real IN [1, 2.5]", 't' }, { "2.0 IN [1, 2, 3]", 't' }, { "R.int NIN [-9, -8, 7]", 't' },
	{ "R.int IN [R.x, R.int]", 't' }, { "R.int IN [R.none, 1]", 'f' },
	/* arithmetic */
	{ "R.int + 8 = 1", 't' }, { "R.int - 8 = -15", 't' }, { "R.int * 2 = -14", 't' }, { "R.int / 2 = -3.5", 't' },
	{ "R.int % 4 = -3", 't' }, { "R.real * 2 = 5", 't' }, { "2 + 3 * 4 = 14", 't' }, { "(2 + 3) * 4 = 20", 't' },
	{ "10 - 3 - 2 = 5", 't' }, { "-R.int = 7", 't' }, { "- - 7 = 7", 't' }, { "R.int / 0 = 1", 'u' }, { "R.int % 0 = 1", 'u' },
	{ "R.text + 1 = 1", 'u' }, { "R.none * 1 = 1", 'u' }, { "-R.text = 1", 'u' }, { "0x1F = 31", 't' }, { "1.5e2 = 150", 't' },
	/* types */
	{ "IS_DEFINED(R.no)", 't' }, { "is_defined(R.none)", 'f' }, { "is_defined(R.deep.none.x)", 'f' }, { "is_defined(undefined)", 'f' },
	{ "IS_NULL(null)", 't' }, { "is_null(R.int)", 'f' }, { "is_null(R.none)", 'f' },
	{ "IS_BOOL(R.no)", 't' }, { "is_bool(R.int)", 'f' }, { "is_bool(R.none)", 'f' },
	{ "IS_NUMBER(R.real)", 't' }, { "is_number(R.int)", 't' }, { "is_number(R.text)", 'f' }, { "is_number(R.none)", 'f' },
	{ "IS_STRING(R.text)", 't' }, { "is_string(R.int)", 'f' }, { "is_string(R.none)", 'f' },
	{ "IS_OBJECT(R.deep)", 't' }, { "is_object(R.list)", 'f' }, { "is_object(R.none)", 'f' },
	{ "IS_ARRAY(R.empty)", 't' }, { "is_array(R.deep)", 'f' }, { "is_array(R.none)", 'f' }, { "is_array(parentScopes)", 't' },
	{ "IS_PRIMITIVE(R.yes)", 't' }, { "is_primitive(null)", 't' }, { "is_primitive(R.deep)", 'f' }, { "is_primitive(R.none)", 'f' },
	/* texts */
	{ "STARTSWITH(R.text, 'Aé')", 't' }, { "starts_with(R.text, 'a')", 'f' }, { "startswith(R.text, '')", 't' },
	{ "startswith(R.text, 'Aé b and more')", 'f' }, { "startswith(R.int, '-')", 'u' }, { "startswith(R.text, 1)", 'u' },
	{ "ENDSWITH(R.text, ' b')", 't' }, { "ends_with(R.text, 'B')", 'f' }, { "endswith(R.none, 'b')", 'u' },
	{ "CONTAINS(R.text, 'é ')", 't' }, { "contains(R.text, 'x')", 'f' }, { "contains(R.list, 'a')", 'u' },
	{ "LENGTH(R.text) = 4", 't' }, { "length('') = 0", 't' }, { "length(R.int) = 2", 'u' },
	{ "LOWER(R.text) = 'aé b'", 't' }, { "lower(R.text) = R.text", 'f' }, { "lower(R.int) = 'x'", 'u' },
	{ "UPPER(R.text) = 'Aé B'", 't' }, { "upper(R.text) = R.text", 'f' }, { "upper(R.none) = 'X'", 'u' },
	{ "CONCAT(R.text, '-', deviceId) = 'Aé b-dev03'", 't' }, { "concat('a', 'b') = 'a'", 'f' }, { "concat('a', R.int) = 'a'", 'u' },
	{ "ABS(R.int) = 7", 't' }, { "abs(2.5) = 2", 'f' }, { "abs(R.text) = 1", 'u' },
	/* lists and paths */
	{ "ARRAY_CONTAINS(R.list, 'b')", 't' }, { "array_contains(R.list, 3.0)", 't' }, { "array_contains(R.list, '3')", 'f' },
	{ "array_contains(R.empty, 1)", 'f' }, { "array_contains(R.text, 'A')", 'u' }, { "array_contains(R.list, R.none)", 'u' },
	{ "R.deep.er = 'z'", 't' }, { "R.[[deep]].[[er]] = 'z'", 't' }, { "R.deep.er.more = 'z'", 'u' },
	{ "properties.reported.[[odd-name]] = 'v'", 't' }, { "[[properties]].reported.x = 60", 't' }, { "devices.R.int = -7", 't' },
	{ "properties.desired.$version = 2", 'f' }, { "properties.reported.$version = 2", 't' }, { "version = 4", 't' },
	{ "is_defined(properties.reported.$metadata.x.$lastUpdated)", 't' }, { "is_object(properties)", 't' },
	{ "deviceId = 'dev03'", 't' }, { "status = 'enabled'", 't' }, { "connectionState = 'Disconnected'", 't' },
	{ "authenticationType = 'sas'", 't' }, { "lastActivityTime > '2020'", 't' }, { "capabilities.iotEdge = false", 't' },
	{ "array_contains(parentScopes, deviceScope)", 't' }, { "is_string(etag)", 't' }, { "moduleId = 'x'", 'u' },
	{ "nothing.here = 1", 'u' }, { "tags.location.region = 'US'", 't' }, { "'it\\'s' = \"it's\"", 't' },
};

static void test_values(void **state)
{
	char text[512], expr[256];

	for (size_t i = 0; i < HF_ARRAY_LEN(values); i++) {
		bool got[2];

		expr[0] = '\0';
		for (const char *c = values[i].expr; *c; c++) {		/* R. stands for the member t of reported */
			bool here = c[0] == 'R' && c[1] == '.' && (c == values[i].expr || strchr(" ([.-", c[-1]));

			snprintf(expr + strlen(expr), sizeof expr - strlen(expr), here ? "properties.reported.t" : "%c", *c);
		}
		for (int not = 0; not < 2; not++) {
			json_t *rows;

			snprintf(text, sizeof text, "SELECT deviceId FROM devices WHERE deviceId = 'dev03' AND %s(%s)",
				 not ? "NOT " : "", expr);
			rows = run(*state, text);
			got[not] = json_array_size(rows) == 1;
			json_decref(rows);
		}
		if (got[0] != (values[i].want == 't') || got[1] != (values[i].want == 'f'))
			fail_msg("%s: %s and not %s, should be %c", values[i].expr, got[0] ? "matches" : "no match",
				 got[1] ? "matches" : "no match", values[i].want);
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

/* A missing member, an empty object, null and their texts are groups of their own. */
static void test_groups(void **state)
{
	struct world *w = *state;
	static const char *const texts[] = { "{}", "{}", "[]", "\"\"", "\"[]\"", "\"{}\"", "0", "false" };
	char id[16], text[64];

	for (unsigned i = 0; i < HF_ARRAY_LEN(texts); i++) {
		snprintf(id, sizeof id, "g%u", i);
		snprintf(text, sizeof text, "{\"tags\":{\"g\":%s,\"grp\":true}}", texts[i]);
		put(w, id, NULL, json_object(), json_loads(text, 0, NULL));
	}
	put(w, "g8", NULL, json_object(), json_loads("{\"tags\":{\"grp\":true}}", 0, NULL));
	put(w, "g9", NULL, json_object(), json_loads("{\"tags\":{\"grp\":true}}", 0, NULL));
	expect(w, "SELECT tags.g, COUNT() AS n FROM devices WHERE tags.grp GROUP BY tags.g",
	       "[{\"g\":{},\"n\":2},{\"g\":[],\"n\":1},{\"g\":\"\",\"n\":1},{\"g\":\"[]\",\"n\":1},"
	       "{\"g\":\"{}\",\"n\":1},{\"g\":0,\"n\":1},{\"g\":false,\"n\":1},{\"n\":2}]");
}

static void refuse(const char *text, const char *why)
{
	struct hub_query *q = NULL;
	char reason[192];

	if (hub_query_parse(hf_span_str(text), &q, reason, sizeof reason) != HF_EINVALID)
		fail_msg("taken: %.200s", text);
	if (!*reason || !hf_utf8_ok(hf_span_str(reason)) || !strstr(reason, why))
		fail_msg("%.200s: %s", text, reason);
}

static void test_refused(void **state)
{
	static const struct { const char *text, *why; } cases[] = {
		{ "", "expected SELECT at position 1" }, { "SELECT", "" }, { "SELECT * FROM", "" }, { "SELECT * FROM things", "devices" },
		{ "SELECT * devices", "expected FROM at position 10" }, { "DELETE FROM devices", "expected SELECT" },
		{ "SELECT * FROM devices WHERE", "expected a value" }, { "SELECT * FROM devices WHERE deviceId =", "expected a value" },
		{ "SELECT * FROM devices WHERE a = 'x", "text without an end" }, { "SELECT * FROM devices WHERE a == 1", "" },
		{ "SELECT * FROM devices WHERE (a = 1", "expected ')'" }, { "SELECT * FROM devices WHERE a IN [1", "']'" },
		{ "SELECT * FROM devices WHERE nonsense(a)", "unknown function" }, { "SELECT * FROM devices x y", "unexpected text" },
		{ "SELECT * FROM devices WHERE a = 1 1", "unexpected text" }, { "SELECT * FROM devices WHERE count() = 1", "aggregate" },
		{ "SELECT a. FROM devices", "" }, { "SELECT a, COUNT() FROM devices", "neither grouped" },
		{ "SELECT * FROM devices GROUP BY a", "GROUP BY" }, { "SELECT * FROM devices WHERE a = 12x", "bad number" },
		{ "SELECT * FROM devices WHERE a = ;", "unexpected character" }, { "SELECT * FROM devices WHERE [[a = 1", "[[ without ]]" },
		{ "SELECT COUNT() + 1 FROM devices", "aggregate" }, { "SELECT * FROM devices WHERE a = 99999999999999999999", "bad number" },
		{ "SELECT * FROM devices WHERE a NOT 1", "expected IN" }, { "SELECT ,", "expected a value" },
		{ "SELECT * FROM devices WHERE a IN [,]", "expected a value" }, { "SELECT TOP x * FROM devices", "after TOP" },
		{ "SELECT TOP -1 * FROM devices", "after TOP" }, { "SELECT TOP (1 * FROM devices", "" }, { "SELECT a AS FROM devices", "" },
		{ "SELECT a AS 'x' FROM devices", "after AS" }, { "SELECT a FROM devices GROUP a", "expected BY" },
		{ "SELECT a FROM devices GROUP BY 1", "paths" }, { "SELECT COUNT() AS n, MAX(a) AS n FROM devices", "one name" },
		{ "SELECT SUM(MAX(a)) FROM devices", "aggregate" }, { "SELECT * FROM devices WHERE a ! b", "unexpected character" },
		{ "SELECT * FROM devices WHERE a AND", "expected a value" }, { "SELECT * FROM devices WHERE OR a", "" },
		{ "SELECT * FROM devices WHERE a = 0x", "bad number" }, { "SELECT * FROM devices WHERE a = 1e999", "bad number" },
		{ "SELECT * FROM devices WHERE f('\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9"
		  "\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9", "unknown function" },
		{ "SELECT * FROM devices WHERE a = '\xff'", "UTF-8" },
	};
	static const struct { const char *name; unsigned n; } functions[] = {
		{ "IS_DEFINED", 1 }, { "IS_NULL", 1 }, { "IS_BOOL", 1 }, { "IS_NUMBER", 1 }, { "IS_STRING", 1 }, { "IS_OBJECT", 1 },
		{ "IS_ARRAY", 1 }, { "IS_PRIMITIVE", 1 }, { "STARTSWITH", 2 }, { "STARTS_WITH", 2 }, { "ENDSWITH", 2 }, { "ENDS_WITH", 2 },
		{ "CONTAINS", 2 }, { "ARRAY_CONTAINS", 2 }, { "LENGTH", 1 }, { "LOWER", 1 }, { "UPPER", 1 }, { "ABS", 1 },
	};
	static const char *const binary[] = { "=", "!=", "<>", "<", "<=", ">", ">=", "IN", "NIN", "AND", "OR", "+", "-", "*", "/", "%" };
	char text[128];

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_LEN(cases); i++)
		refuse(cases[i].text, cases[i].why);
	for (size_t i = 0; i < HF_ARRAY_LEN(functions); i++) {
		static const char *const args[] = { "", "a", "a, b", "a, b, c" };

		for (unsigned n = 0; n < HF_ARRAY_LEN(args); n++) {
			snprintf(text, sizeof text, "SELECT * FROM devices WHERE %s(%s)", functions[i].name, args[n]);
			if (n != functions[i].n)
				refuse(text, "wrong number of arguments");
		}
		snprintf(text, sizeof text, "SELECT * FROM devices WHERE %s(a", functions[i].name);
		refuse(text, "expected ',' or ')'");
	}
	refuse("SELECT * FROM devices WHERE concat('a')", "wrong number of arguments");
	for (size_t i = 0; i < HF_ARRAY_LEN(binary); i++) {
		snprintf(text, sizeof text, "SELECT * FROM devices WHERE a %s", binary[i]);
		refuse(text, "expected a value");
		snprintf(text, sizeof text, "SELECT * FROM devices WHERE %s a", binary[i]);
		if (strcmp(binary[i], "-") != 0)
			refuse(text, "");
	}
}

/* part times n between head and tail. */
static char *repeat(const char *head, const char *part, unsigned n, const char *tail)
{
	hf_autobuf struct hf_buf b = HF_BUF_INIT(1 << 20);

	hf_buf_put(&b, head, strlen(head));
	for (unsigned i = 0; i < n; i++)
		hf_buf_put(&b, part, strlen(part));
	hf_buf_put(&b, tail, strlen(tail));
	return strdup(hf_buf_cstr(&b));
}

static void test_bounds(void **state)
{
#define ALL "SELECT * FROM devices WHERE "
	static const struct { const char *head, *part; unsigned n; const char *tail, *why; } cases[] = {
		{ ALL, "(", 1500, "", "nested too deep" }, { ALL, "-", 1500, "", "nested too deep" },
		{ ALL, "NOT ", 1500, "a", "nested too deep" }, { ALL, "[", 1500, "", "" }, { ALL, "lower(", 1500, "", "nested too deep" },
		{ ALL, "a + ", 10000, "a", "too large" }, { ALL, "a * ", 10000, "a", "too large" }, { ALL "a", " OR a", 10000, "", "too large" },
		{ ALL "a", ".a", 70000, " = 1", "too long" }, { ALL "a = '", "x", 70000, "'", "too long" },
		{ "SELECT a", ", a", 10000, " FROM devices", "too large" },
	}, taken[] = {
		{ ALL, "(", 50, "true", NULL }, { ALL "true", " AND true", 6000, "", NULL }, { ALL "false", " OR true", 6000, "", NULL },
		{ ALL "NOT deviceId IN ['x'", ", 'abcdefgh'", 5000, "]", NULL }, { ALL "1", " + 1", 3000, " = 3001", NULL },
		{ ALL "deviceId != '", "x", 60000, "'", NULL },
	};

	for (size_t i = 0; i < HF_ARRAY_LEN(cases); i++) {
		hf_autofree char *text = repeat(cases[i].head, cases[i].part, cases[i].n, cases[i].tail);

		refuse(text, cases[i].why);
	}
	for (size_t i = 0; i < HF_ARRAY_LEN(taken); i++) {
		hf_autofree char *close = repeat("", taken[i].part[0] == '(' ? ")" : "", taken[i].n, "");
		hf_autofree char *open = repeat(taken[i].head, taken[i].part, taken[i].n, taken[i].tail);
		hf_autofree char *text = repeat(open, close, 1, "");
		json_t *rows = run(*state, text);

		assert_int_equal(json_array_size(rows), 21);
		json_decref(rows);
	}
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
	assert_int_equal(hub_query_parse(hf_span_str("SELECT TOP 17 tags.n, COUNT() AS c FROM devices GROUP BY tags.n"), &q, reason,
					 sizeof reason), 0);
	for (n = pages = 0; pages == 0 || token; pages++) {
		assert_int_equal(hub_query_run(w->m, q, 5, token, &rows, &next), 0);
		n += (unsigned)json_array_size(rows);
		json_decref(rows);
		free(token);
		token = next;
	}
	assert_int_equal(n, 17);
	assert_int_equal(pages, 4);
	hub_query_destroy(&q);
}

/* Much work makes short pages, even empty ones; all of them together are complete. */
static void test_work(void **state)
{
	struct world *w = *state;
	hf_autofree char *text = repeat("SELECT deviceId FROM devices WHERE false", " OR tags.n = 1.5", 1900, " OR deviceId = 'many'");
	char id[32], reason[192], *token = NULL, *next = NULL;
	struct hub_query *q = NULL;
	unsigned n = 0, pages = 0;
	json_t *rows;

	for (unsigned i = 0; i < 1500; i++) {
		snprintf(id, sizeof id, "e%04u", i);
		put(w, id, NULL, json_object(), NULL);
	}
	put(w, "many", NULL, json_object(), NULL);
	assert_int_equal(hub_query_parse(hf_span_str(text), &q, reason, sizeof reason), 0);
	do {
		assert_int_equal(hub_query_run(w->m, q, 1000, token, &rows, &next), 0);
		n += (unsigned)json_array_size(rows);
		json_decref(rows);
		free(token);
		token = next;
		pages++;
	} while (token);
	assert_int_equal(n, 1);
	assert_in_range(pages, 3, 10);
	hub_query_destroy(&q);
}

/* An aggregate is one page: it must not take long. */
static void test_work_of_aggregates(void **state)
{
	struct world *w = *state;
	static const struct { unsigned n; int want; } cases[] = { { 1000, 0 }, { 1950, HF_ELIMIT } };
	char id[32], reason[192], *next = NULL;

	for (unsigned i = 0; i < 2600; i++) {
		snprintf(id, sizeof id, "e%04u", i);
		put(w, id, NULL, json_object(), NULL);
	}
	for (unsigned i = 0; i < HF_ARRAY_LEN(cases); i++) {
		hf_autofree char *text = repeat("SELECT COUNT() AS n FROM devices WHERE true", " OR tags.n = 1.5", cases[i].n, "");
		struct hub_query *q = NULL;
		json_t *rows = NULL;

		assert_int_equal(hub_query_parse(hf_span_str(text), &q, reason, sizeof reason), 0);
		assert_int_equal(hub_query_run(w->m, q, 1000, NULL, &rows, &next), cases[i].want);
		if (rows)
			assert_int_equal(json_integer_value(json_object_get(json_array_get(rows, 0), "n")), 2621);
		json_decref(rows);
		hub_query_destroy(&q);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_matches, setup, teardown),
		cmocka_unit_test_setup_teardown(test_columns, setup, teardown),
		cmocka_unit_test_setup_teardown(test_values, setup, teardown),
		cmocka_unit_test_setup_teardown(test_groups, setup, teardown),
		cmocka_unit_test(test_refused),
		cmocka_unit_test_setup_teardown(test_bounds, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pages, setup, teardown),
		cmocka_unit_test_setup_teardown(test_work, setup, teardown),
		cmocka_unit_test_setup_teardown(test_work_of_aggregates, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
