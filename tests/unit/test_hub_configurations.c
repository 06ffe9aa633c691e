/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Automatic configurations: documents and etags, whom they reach, what wins, layers of deployments, metrics, restart. */
#include "hub/jobs/configs.h"
#include "hub/model/content.h"
#include "hub/query/query.h"

#include <holdfast/err.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "hub_world.h"

static int put(struct world *w, const char *id, const char *text, const char *if_match, struct hub_error *err)
{
	json_t *o = world_json(text), *doc = NULL;
	int r = hub_config_put(w->m, id, o, if_match, &doc, err);

	json_decref(o);
	json_decref(doc);
	return r;
}

static void make(struct world *w, const char *id, const char *text)
{
	struct hub_error err;

	if (put(w, id, text, NULL, &err) != 0)
		fail_msg("%s: %s", id, err.message);
}

static bool status_is(struct world *w, const char *ident, const char *config, const char *want)
{
	json_t *doc = NULL;
	char path[160];
	const char *is;
	bool yes;

	snprintf(path, sizeof path, "configurations.%s.status", config);
	is = json_string_value(world_member(w, ident, path, &doc));
	yes = want ? is && strcmp(is, want) == 0 : !is;
	json_decref(doc);
	return yes;
}

static json_int_t number(struct world *w, const char *id, const char *section, const char *name)
{
	json_t *o = hub_config_doc(w->m, id);
	json_int_t n = json_integer_value(json_object_get(json_object_get(json_object_get(o, section), "results"), name));

	assert_non_null(o);
	json_decref(o);
	return n;
}

static json_int_t desired(struct world *w, const char *ident, const char *name)
{
	json_t *doc = NULL;
	char path[160];
	const json_t *v;
	json_int_t n;

	snprintf(path, sizeof path, "properties.desired.%s", name);
	v = world_member(w, ident, path, &doc);
	n = v ? json_integer_value(v) : -1;
	json_decref(doc);
	return n;
}

static unsigned ticks;

static bool waited(struct world *w)
{
	(void)w;
	return ++ticks > 20;
}

/* Some turns, in which everything that is due is done. */
static void settle(struct world *w)
{
	ticks = 0;
	world_until(w, waited);
}

static void test_documents(void **state)
{
	static const struct { const char *id, *doc, *text; } bad[] = {
		{ "Upper", "{}", "id" }, { "c", "{'id':'d'}", "id" }, { "c", "{'priority':-1}", "priority" },
		{ "c", "{'targetCondition':'tags.x ='}", "position" },
		{ "c", "{'targetCondition':'FROM devices.modules','content':{'deviceContent':{'properties.desired.x':1}}}", "devices" },
		{ "c", "{'targetCondition':'*','content':{'moduleContent':{'properties.desired.x':1}}}", "FROM devices.modules" },
		{ "c", "{'content':{'deviceContent':{'properties.reported.x':1}}}", "properties.desired" },
		{ "c", "{'content':{'deviceContent':{'properties.desired.x':1},'modulesContent':{'m':{}}}}", "either" },
		{ "c", "{'metrics':{'queries':{'m':'SELECT'}}}", "metric m" },
		{ "c", "{'metrics':{'queries':{'m':'SELECT COUNT() AS n FROM devices'}}}", "aggregates" },
		{ "c", "{'metrics':{'queries':{'a':'x','b':'x','c':'x','d':'x','e':'x','f':'x'}}}", "at most" },
		{ "c", "{'labels':{'a':1}}", "label a" },
	};
	struct world *w = *state;
	struct hub_error err;
	json_t *doc, *o;

	for (size_t i = 0; i < HF_ARRAY_LEN(bad); i++) {
		assert_int_equal(put(w, bad[i].id, bad[i].doc, NULL, &err), HF_EINVALID);
		assert_int_equal(err.http_status, 400);
		if (!strstr(err.message, bad[i].text))
			fail_msg("%s: %s", bad[i].doc, err.message);
	}
	assert_int_equal(put(w, "c1", "{}", "*", &err), HF_ENOTFOUND);
	make(w, "c1", "{'id':'c1','content':{'deviceContent':{'properties.desired.x':1}},'targetCondition':'*','priority':10,"
		      "'schemaVersion':'1.0','labels':{'env':'lab'}}");
	assert_int_equal(put(w, "c1", "{}", NULL, &err), HF_EEXISTS);
	doc = hub_config_doc(w->m, "c1");
	assert_string_equal(json_string_value(json_object_get(doc, "etag")), "MQ==");
	assert_string_equal(json_string_value(json_object_get(json_object_get(doc, "labels"), "env")), "lab");
	assert_string_equal(json_string_value(json_object_get(json_object_get(json_object_get(doc, "systemMetrics"), "queries"),
							      "appliedCount")),
			    "select deviceId from devices where configurations.[[c1]].status = 'Applied'");
	json_decref(doc);
	assert_int_equal(put(w, "c1", "{'targetCondition':'*'}", "\"bad\"", &err), HF_ESTALE);
	assert_int_equal(put(w, "c1", "{'content':{'deviceContent':{'properties.desired.x':2}},'targetCondition':'*'}", "\"MQ==\"", &err),
			 HF_EINVALID);
	assert_int_equal(put(w, "c1", "{'targetCondition':'tags.a = 1','priority':11}", "\"MQ==\"", &err), 0);
	doc = hub_config_doc(w->m, "c1");
	assert_string_equal(json_string_value(json_object_get(doc, "etag")), "Mg==");
	assert_int_equal(json_integer_value(json_object_get(doc, "priority")), 11);
	json_decref(doc);
	make(w, "b1", "{}");
	assert_string_equal(hub_config_next(w->m, NULL), "b1");
	assert_string_equal(hub_config_next(w->m, "b1"), "c1");
	assert_null(hub_config_next(w->m, "c1"));
	assert_int_equal(hub_config_delete(w->m, "b1", "\"x\"", &err), HF_ESTALE);
	assert_int_equal(hub_config_delete(w->m, "b1", NULL, &err), 0);
	assert_int_equal(hub_config_delete(w->m, "b1", NULL, &err), HF_ENOTFOUND);
	assert_int_equal(err.code, 404301);

	o = world_json("{'targetCondition':'tags.x =','customMetricQueries':{'ok':'SELECT deviceId FROM devices','no':'SELECT'}}");
	doc = hub_config_test(o);
	assert_non_null(strstr(json_string_value(json_object_get(doc, "targetConditionError")), "position"));
	assert_int_equal(json_object_size(json_object_get(doc, "customMetricQueryErrors")), 1);
	json_decref(o);
	json_decref(doc);
	o = world_json("{'targetCondition':'FROM devices.modules WHERE moduleId = \\'m\\''}");
	doc = hub_config_test(o);
	assert_true(json_is_null(json_object_get(doc, "targetConditionError")));
	json_decref(o);
	json_decref(doc);
}

static void test_devices(void **state)
{
	struct world *w = *state;
	struct hub_error err;
	json_int_t version;

	for (unsigned i = 0; i < 300; i++) {
		char id[16], twin[64];

		snprintf(id, sizeof id, "dev%03u", i);
		world_put(w, id, NULL, "{}");
		snprintf(twin, sizeof twin, "{'tags':{'env':'%s'},'properties':{'desired':{'own':1}}}", i % 3 ? "prod" : "test");
		world_twin(w, id, twin);
	}
	make(w, "low", "{'content':{'deviceContent':{'properties.desired.a.b':1,'properties.desired.c':5}},'targetCondition':'*','priority':1}");
	make(w, "high", "{'content':{'deviceContent':{'properties.desired.a.b':2}},'targetCondition':'tags.env = \\'prod\\'','priority':5}");
	settle(w);
	assert_int_equal(desired(w, "dev000", "a.b"), 1);
	assert_int_equal(desired(w, "dev000", "c"), 5);
	assert_int_equal(desired(w, "dev001", "a.b"), 2);
	assert_int_equal(desired(w, "dev001", "own"), 1);
	assert_true(status_is(w, "dev001", "high", "Applied"));
	assert_true(status_is(w, "dev001", "low", "Targeted"));
	assert_true(status_is(w, "dev000", "low", "Applied"));
	assert_true(status_is(w, "dev000", "high", NULL));
	assert_int_equal(number(w, "high", "systemMetrics", "targetedCount"), 200);
	assert_int_equal(number(w, "high", "systemMetrics", "appliedCount"), 200);
	assert_int_equal(number(w, "low", "systemMetrics", "targetedCount"), 300);
	assert_int_equal(number(w, "low", "systemMetrics", "appliedCount"), 100);

	world_twin(w, "dev000", "{'tags':{'env':'prod'}}");	/* comes into scope, leaves it; a new device */
	world_twin(w, "dev001", "{'tags':{'env':'test'}}");
	world_put(w, "new", NULL, "{}");
	settle(w);
	assert_int_equal(desired(w, "dev000", "a.b"), 2);
	assert_int_equal(desired(w, "dev000", "c"), 5);		/* nobody takes it away */
	assert_true(status_is(w, "dev001", "high", NULL));
	assert_int_equal(desired(w, "dev001", "a.b"), 1);
	assert_int_equal(desired(w, "new", "c"), 5);
	assert_int_equal(number(w, "low", "systemMetrics", "targetedCount"), 301);
	version = desired(w, "dev000", "$version");
	world_twin(w, "dev000", "{'properties':{'desired':{'a':{'b':9}}}}");	/* what a configuration holds, it holds */
	settle(w);
	assert_int_equal(desired(w, "dev000", "a.b"), 2);
	assert_int_equal(desired(w, "dev000", "$version"), version + 2);
	settle(w);
	assert_int_equal(desired(w, "dev000", "$version"), version + 2);

	assert_int_equal(hub_ident_delete(w->m, "dev002", NULL, NULL, &err), 0);
	assert_int_equal(number(w, "high", "systemMetrics", "appliedCount"), 199);
	assert_int_equal(hub_config_delete(w->m, "high", NULL, &err), 0);
	settle(w);
	assert_true(status_is(w, "dev000", "high", NULL));
	assert_true(status_is(w, "dev000", "low", "Applied"));
	assert_int_equal(desired(w, "dev000", "a.b"), 1);
	assert_int_equal(number(w, "low", "systemMetrics", "appliedCount"), 300);
	assert_int_equal(hub_config_delete(w->m, "low", NULL, &err), 0);
	settle(w);
	assert_true(status_is(w, "dev000", "low", NULL));
	assert_int_equal(desired(w, "dev000", "a.b"), 1);
	make(w, "nobody", "{'content':{'deviceContent':{'properties.desired.a.b':7}},'targetCondition':''}");
	settle(w);
	assert_int_equal(desired(w, "dev000", "a.b"), 1);
	assert_int_equal(number(w, "nobody", "systemMetrics", "targetedCount"), 0);
}

static void test_modules(void **state)
{
	struct world *w = *state;

	world_put(w, "dev1", NULL, "{}");
	world_put(w, "dev1", "cam", "{}");
	world_put(w, "dev1", "mic", "{}");
	make(w, "m1", "{'content':{'moduleContent':{'properties.desired.rate':5}},'targetCondition':"
		      "'FROM devices.modules WHERE moduleId = \\'cam\\''}");
	settle(w);
	assert_int_equal(desired(w, "dev1/cam", "rate"), 5);
	assert_int_equal(desired(w, "dev1/mic", "rate"), -1);
	assert_true(status_is(w, "dev1/cam", "m1", "Applied"));
	assert_true(status_is(w, "dev1", "m1", NULL));
	assert_int_equal(number(w, "m1", "systemMetrics", "targetedCount"), 1);
}

#define AGENT(modules) "'$edgeAgent':{'properties.desired':{'schemaVersion':'1.1','modules':{" modules "}}}"

static void test_edge(void **state)
{
	struct world *w = *state;
	struct hub_error err;
	json_t *doc = NULL;

	world_put(w, "edge1", NULL, "{'capabilities':{'iotEdge':true}}");
	world_put(w, "leaf", NULL, "{}");
	world_put(w, "edge1", "own", "{}");
	make(w, "base", "{'content':{'modulesContent':{" AGENT("'a':{'version':1}") ",'$edgeHub':{'properties.desired':{'ttl':1}},"
			"'a':{'properties.desired':{'x':1,'y':1}}}},'targetCondition':'*','priority':5}");
	make(w, "layer", "{'content':{'modulesContent':{'$edgeAgent':{'properties.desired.modules.b':{'version':2}},"
			 "'a':{'properties.desired.x':2},'b':{'properties.desired':{'z':3}}}},'targetCondition':'*','priority':6}");
	make(w, "top", "{'content':{'modulesContent':{'$edgeAgent':{'properties.desired.modules.b.version':3},"
		       "'a':{'properties.desired.x':4}}},'targetCondition':'*','priority':7}");
	make(w, "below", "{'content':{'modulesContent':{'$edgeAgent':{'properties.desired.modules.c':{}}}},'targetCondition':'*',"
			 "'priority':5}");
	settle(w);
	assert_non_null(world_find(w, "edge1/a"));
	assert_non_null(world_find(w, "edge1/b"));
	assert_null(world_find(w, "edge1/c"));
	assert_non_null(world_find(w, "edge1/own"));	/* not managed */
	assert_int_equal(desired(w, "edge1/a", "x"), 4);
	assert_int_equal(desired(w, "edge1/a", "y"), 1);
	assert_int_equal(desired(w, "edge1/b", "z"), 3);
	assert_int_equal(desired(w, "edge1/$edgeAgent", "modules.b.version"), 3);
	assert_int_equal(desired(w, "edge1/$edgeHub", "ttl"), 1);
	assert_true(status_is(w, "edge1", "base", "Applied"));
	assert_true(status_is(w, "edge1/$edgeAgent", "base", "Applied"));
	assert_true(status_is(w, "edge1", "layer", "Applied"));
	assert_true(status_is(w, "edge1", "top", "Applied"));
	assert_true(status_is(w, "edge1", "below", "Targeted"));
	assert_true(status_is(w, "leaf", "base", NULL) || status_is(w, "leaf", "base", "Targeted"));
	assert_int_equal(number(w, "base", "systemMetrics", "appliedCount"), 1);
	assert_int_equal(number(w, "below", "systemMetrics", "appliedCount"), 0);

	assert_int_equal(hub_config_delete(w->m, "layer", NULL, &err), 0);	/* b is listed still, by top */
	settle(w);
	assert_non_null(world_find(w, "edge1/b"));
	assert_int_equal(hub_config_delete(w->m, "top", NULL, &err), 0);
	settle(w);
	assert_null(world_find(w, "edge1/b"));
	assert_int_equal(desired(w, "edge1/a", "x"), 1);
	assert_int_equal(hub_config_delete(w->m, "base", NULL, &err), 0);	/* what it set stays */
	settle(w);
	assert_non_null(world_find(w, "edge1/a"));
	assert_true(status_is(w, "edge1", "below", "Targeted"));	/* a layer alone stands on nothing */
	assert_null(world_member(w, "edge1", "configurations.base", &doc));
	json_decref(doc);
}

static bool five_counted(struct world *w) { return number(w, "all", "metrics", "done") == 5; }
static bool two_reported(struct world *w) { return number(w, "c", "metrics", "done") == 2; }

static void test_metrics(void **state)
{
	struct world *w = *state;
	struct hub_error err;
	json_t *rep = json_pack("{ss}", "state", "done");
	int64_t version;

	for (unsigned i = 0; i < 5; i++) {
		char id[16];

		snprintf(id, sizeof id, "dev%u", i);
		world_put(w, id, NULL, "{}");
	}
	make(w, "c", "{'targetCondition':'*','metrics':{'queries':{'done':'SELECT deviceId FROM devices WHERE "
		     "properties.reported.state = \\'done\\' AND configurations.[[c]].status = \\'Applied\\''}},"
		     "'content':{'deviceContent':{'properties.desired.x':1}}}");
	settle(w);
	assert_int_equal(number(w, "c", "metrics", "done"), 0);
	assert_int_equal(hub_twin_report(w->m, world_find(w, "dev1"), rep, 10, -1, &version, &err), 0);
	assert_int_equal(hub_twin_report(w->m, world_find(w, "dev3"), rep, 10, -1, &version, &err), 0);
	json_decref(rep);
	world_until(w, two_reported);
	make(w, "all", "{'targetCondition':'*','metrics':{'queries':{'done':'select * from devices'}}}");
	world_until(w, five_counted);
}

static void test_labels_that_are_not_given(void **state)
{
	static const char *const docs[] = { "{'targetCondition':'*'}", "{'targetCondition':'*','labels':null}" };
	struct world *w = *state;

	for (unsigned i = 0; i < HF_ARRAY_LEN(docs); i++) {
		char id[2] = { (char)('a' + i), 0 };
		json_t *doc;

		make(w, id, docs[i]);
		doc = hub_config_doc(w->m, id);
		assert_true(json_is_null(json_object_get(doc, "labels")));
		json_decref(doc);
	}
}

static void test_failing(void **state)
{
	hf_autobuf struct hf_buf b = HF_BUF_INIT(1 << 20);
	struct world *w = *state;

	world_put(w, "big", NULL, "{}");
	world_put(w, "small", NULL, "{}");
	hf_buf_puts(&b, "{'properties':{'desired':{");
	for (unsigned i = 0; i < 8; i++)
		hf_buf_printf(&b, "%s'k%u':'%04000d'", i ? "," : "", i, 0);
	hf_buf_puts(&b, "}}}");
	world_twin(w, "big", hf_buf_cstr(&b));
	hf_buf_reset(&b);
	hf_buf_printf(&b, "{'content':{'deviceContent':{'properties.desired.more':'%04000d'}},'targetCondition':'*'}", 0);
	make(w, "c", hf_buf_cstr(&b));
	settle(w);
	assert_true(status_is(w, "big", "c", "Targeted"));	/* it would be too large */
	assert_true(status_is(w, "small", "c", "Applied"));
	assert_int_equal(number(w, "c", "systemMetrics", "appliedCount"), 1);
}

/* Two configurations that chase each other cost one change per device and second, not the loop. */
static void test_chase(void **state)
{
	struct world *w = *state;

	world_put(w, "dev1", NULL, "{}");
	world_twin(w, "dev1", "{'properties':{'desired':{'x':1}}}");
	make(w, "a", "{'content':{'deviceContent':{'properties.desired.x':2}},'targetCondition':'properties.desired.x = 1'}");
	make(w, "b", "{'content':{'deviceContent':{'properties.desired.x':1}},'targetCondition':'properties.desired.x = 2'}");
	settle(w);
	assert_in_range(desired(w, "dev1", "$version"), 3, 4);
}

static void test_restart(void **state)
{
	struct world *w = *state;
	struct hub_error err;

	for (unsigned i = 0; i < 400; i++) {
		char id[16];

		snprintf(id, sizeof id, "dev%03u", i);
		world_put(w, id, NULL, "{}");
	}
	world_commit(w);
	make(w, "c", "{'content':{'deviceContent':{'properties.desired.x':1}},'targetCondition':'*','priority':3}");
	world_commit(w);	/* not everybody has it yet */
	world_close(w);
	world_open(w);
	settle(w);
	assert_int_equal(desired(w, "dev000", "x"), 1);
	assert_int_equal(desired(w, "dev399", "x"), 1);
	assert_int_equal(desired(w, "dev399", "$version"), 2);
	assert_int_equal(number(w, "c", "systemMetrics", "appliedCount"), 400);
	world_close(w);
	world_open(w);
	assert_int_equal(number(w, "c", "systemMetrics", "appliedCount"), 400);
	assert_int_equal(hub_config_delete(w->m, "c", NULL, &err), 0);
	world_commit(w);
	world_close(w);		/* the statuses are left behind */
	world_open(w);
	settle(w);
	assert_true(status_is(w, "dev399", "c", NULL));
	assert_int_equal(desired(w, "dev399", "x"), 1);
}

/* What applyConfigurationContent refuses, it refuses before anything changed. */
static void test_content(void **state)
{
	static const char *const bad[] = {
		"{'$edgeAgent':{'properties.desired':{'modules':{'m1':{}}}},'m2':{'properties.desired':{}}}",
		"{'$edgeAgent':{'properties.desired':{'modules':{'m1':{}}}},'m1':{'properties.desired.':1}}",
		"{'$edgeAgent':{'properties.desired':{'modules':{'m1':{}}}},'m1':{'properties.desired':{'a b':1}}}",
		"{'$edgeAgent':{'properties.desired':{'modules':{'m 1':{}}}}}",
		"{'$edgeAgent':{'properties.desired':{'modules':7}}}",
		"{'$edgeAgent':{'properties.desired':{'modules':{'m1':{}}}},'m1':{'properties.desired..x':1}}",
		"{'$edgeAgent':{'properties.desired':{'modules':{'m1':{}}}},'m1':{'properties.desiredx':1}}",
	};
	struct world *w = *state;
	struct hub_error err;

	world_put(w, "edge1", NULL, "{'capabilities':{'iotEdge':true}}");
	for (size_t i = 0; i < HF_ARRAY_LEN(bad); i++) {
		json_t *o = world_json(bad[i]);

		if (hub_content_apply(w->m, world_find(w, "edge1"), o, false, &err) != HF_EINVALID)
			fail_msg("taken: %s", bad[i]);
		assert_int_equal(err.http_status, 400);
		assert_null(world_find(w, "edge1/m1"));
		json_decref(o);
	}
}

static json_int_t applied(struct world *w, const char *id)
{
	json_t *doc = hub_config_doc(w->m, id);
	json_int_t n = json_integer_value(json_object_get(json_object_get(json_object_get(doc, "systemMetrics"), "results"), "appliedCount"));

	json_decref(doc);
	return n;
}

/* Whatever a configuration asks for, a turn of the loop does little of it. */
static void test_work_per_turn(void **state)
{
	struct world *w = *state;
	hf_autobuf struct hf_buf longer = HF_BUF_INIT(1 << 16);
	const char *const conditions[] = { "tags.a = 1", "" };
	const json_int_t most[] = { 250, 20 };
	struct hub_error err;
	char id[16];

	for (unsigned i = 0; i < 1000; i++) {
		snprintf(id, sizeof id, "dev%04u", i);
		world_put(w, id, NULL, "{}");
		world_twin(w, id, "{'tags':{'a':1}}");
	}
	world_commit(w);
	hf_buf_puts(&longer, "tags.a = 1");
	for (unsigned i = 0; i < 1200; i++)
		hf_buf_puts(&longer, " OR tags.b = 1");
	for (unsigned k = 0; k < HF_ARRAY_LEN(conditions); k++) {
		const char *target = *conditions[k] ? conditions[k] : hf_buf_cstr(&longer);
		json_t *request = json_pack("{s{s{si}} ss si}", "content", "deviceContent", "properties.desired.q", (int)k,
					    "targetCondition", target, "priority", (int)k), *doc = NULL;
		json_int_t was = 0, now = 0;

		snprintf(id, sizeof id, "c%u", k);
		assert_int_equal(hub_config_put(w->m, id, request, NULL, &doc, &err), 0);
		json_decref(request);
		json_decref(doc);
		for (unsigned turns = 0; now < 1000; was = now, turns++) {
			world_commit(w);
			now = applied(w, id);
			assert_in_range(now - was, 0, most[k]);
			assert_true(turns < 2000);
		}
	}
}

static void keep_patch(void *arg, const char *id, const json_t *patch, int64_t version)
{
	json_t **kept = arg;

	(void)id;
	(void)version;
	json_decref(*kept);
	*kept = json_deep_copy(patch);
}

/* Who merges the notification of a replacement ends where the hub is: null for what went, at every depth. */
static void test_removal_is_told(void **state)
{
	struct world *w = *state;
	struct hub_error err;
	json_t *first = world_json("{\"tags\":{\"t\":1},\"properties\":{\"desired\":{\"a\":1,\"b\":2,\"o\":{\"p\":1,\"q\":{\"r\":1}}}}}");
	json_t *then = world_json("{\"properties\":{\"desired\":{\"a\":1,\"c\":3,\"o\":{\"q\":{}}}}}");
	json_t *want = world_json("{\"a\":1,\"b\":null,\"c\":3,\"o\":{\"p\":null,\"q\":{\"r\":null}},\"$version\":3}");
	json_t *bad = world_json("{\"tags\":{\"x\":{\"y\":null}}}"), *none = world_json("{\"tags\":{\"t\":null}}"), *kept = NULL, *doc = NULL;

	hub_on_desired(w->m, keep_patch, &kept);
	world_put(w, "d", NULL, "{}");
	assert_int_equal(hub_twin_update(w->m, world_find(w, "d"), first, false, NULL, NULL, &err), 0);
	assert_int_equal(hub_twin_update(w->m, world_find(w, "d"), then, true, NULL, NULL, &err), 0);
	world_commit(w);
	assert_true(json_equal(kept, want));
	/* Tags: a replacement holds no null; none left, none shown. */
	assert_int_equal(hub_twin_update(w->m, world_find(w, "d"), bad, true, NULL, NULL, &err), HF_EINVALID);
	assert_int_equal(hub_twin_update(w->m, world_find(w, "d"), none, false, NULL, &doc, &err), 0);
	assert_null(json_object_get(doc, "tags"));
	world_commit(w);
	json_decref(first);
	json_decref(then);
	json_decref(want);
	json_decref(bad);
	json_decref(none);
	json_decref(kept);
	json_decref(doc);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_removal_is_told, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_documents, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_devices, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_modules, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_edge, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_metrics, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_labels_that_are_not_given, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_failing, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_chase, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_restart, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_content, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_work_per_turn, world_setup, world_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
