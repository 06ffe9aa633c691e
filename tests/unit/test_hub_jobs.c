/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Scheduled jobs: what they do to whom, their states and times, and that a restart loses and repeats nothing. */
#include "core/clock.h"
#include "hub/jobs/jobs.h"
#include "hub/query/query.h"

#include <holdfast/err.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "hub_world.h"

static int put(struct world *w, const char *id, const char *request, struct hub_error *err)
{
	json_t *o = world_json(request), *doc = NULL;
	int r = hub_job_create(w->m, id, o, &doc, err);

	json_decref(o);
	json_decref(doc);
	return r;
}

static json_int_t stat(struct world *w, const char *id, const char *name)
{
	json_t *o = hub_job_doc(w->m, id);
	json_int_t n = json_integer_value(json_object_get(json_object_get(o, "deviceJobStatistics"), name));

	assert_non_null(o);
	json_decref(o);
	return n;
}

static bool has_status(struct world *w, const char *id, const char *status)
{
	json_t *o = hub_job_doc(w->m, id);
	bool yes = strcmp(json_string_value(json_object_get(o, "status")), status) == 0;

	json_decref(o);
	return yes;
}

static bool completed(struct world *w) { return has_status(w, w->name, "completed"); }
static bool failed(struct world *w) { return has_status(w, w->name, "failed"); }
static bool running(struct world *w) { return stat(w, w->name, "runningCount") > 0; }
static bool none_left(struct world *w) { return stat(w, w->name, "pendingCount") + stat(w, w->name, "runningCount") == 0; }

static unsigned rows(struct world *w, const char *text)
{
	struct hub_query *q = NULL;
	char reason[192], *next = NULL, *token = NULL;
	unsigned n = 0;
	json_t *page;

	if (hub_query_parse(hf_span_str(text), &q, reason, sizeof reason) != 0)
		fail_msg("%s: %s", text, reason);
	do {
		assert_int_equal(hub_query_run(w->m, q, 7, token, &page, &next), 0);
		free(token);
		token = next;
		n += (unsigned)json_array_size(page);
		json_decref(page);
	} while (token);
	hub_query_destroy(&q);
	return n;
}

static void fill(struct world *w, unsigned n)
{
	char id[16], twin[64];

	for (unsigned i = 0; i < n; i++) {
		snprintf(id, sizeof id, "dev%04u", i);
		world_put(w, id, NULL, "{}");
		snprintf(twin, sizeof twin, "{'tags':{'n':%u,'odd':%s}}", i, i % 2 ? "true" : "false");
		world_twin(w, id, twin);
	}
	world_commit(w);
}

static void test_twins(void **state)
{
	struct world *w = *state;
	struct hub_error err;
	json_t *doc = NULL;

	fill(w, 1200);
	world_put(w, "dev0001", "mod", "{}");
	w->name = "j1";
	assert_int_equal(put(w, "j1", "{'jobId':'j1','type':'scheduleUpdateTwin','queryCondition':'tags.odd = true','startTime':null,"
			     "'updateTwin':{'properties':{'desired':{'x':7}},'etag':'*'}}", &err), 0);
	assert_true(has_status(w, "j1", "queued"));
	assert_int_equal(put(w, "j1", "{'type':'scheduleUpdateTwin','queryCondition':'*','updateTwin':{}}", &err), HF_EEXISTS);
	assert_int_equal(err.http_status, 409);
	world_until(w, completed);
	assert_int_equal(stat(w, "j1", "deviceCount"), 600);
	assert_int_equal(stat(w, "j1", "succeededCount"), 600);
	assert_int_equal(rows(w, "SELECT * FROM devices WHERE properties.desired.x = 7"), 600);
	assert_int_equal(rows(w, "SELECT * FROM devices.jobs WHERE devices.jobs.jobId = 'j1'"), 600);
	assert_int_equal(rows(w, "SELECT * FROM devices.jobs WHERE devices.jobs.jobId = 'no'"), 0);
	assert_int_equal(rows(w, "SELECT deviceId FROM devices.jobs WHERE devices.jobs.deviceId = 'dev0003' AND "
				 "devices.jobs.jobType = 'scheduleUpdateTwin' AND devices.jobs.status = 'completed' AND "
				 "devices.jobs.createdTimeUtc > '2016-09-01'"), 1);
	assert_int_equal(rows(w, "SELECT TOP 3 * FROM devices.jobs"), 3);
	world_member(w, "dev0003", "deviceId", &doc);
	assert_int_equal(json_integer_value(world_member(w, "dev0003", "properties.desired.$version", &doc)), 2);
	json_decref(doc);

	w->name = "mods";
	assert_int_equal(put(w, "mods", "{'type':'scheduleUpdateTwin','queryCondition':'FROM devices.modules',"
			     "'updateTwin':{'properties':{'desired':{'y':1}}}}", &err), 0);
	world_until(w, completed);
	assert_int_equal(stat(w, "mods", "deviceCount"), 1);
	assert_int_equal(rows(w, "SELECT * FROM devices.modules WHERE properties.desired.y = 1"), 1);

	w->name = "none";
	assert_int_equal(put(w, "none", "{'type':'scheduleUpdateTwin','queryCondition':'tags.n < 0','updateTwin':{'tags':{}}}", &err), 0);
	world_until(w, completed);
	assert_int_equal(stat(w, "none", "deviceCount"), 0);
}

static void test_refused(void **state)
{
	static const struct { const char *request, *text; } cases[] = {
		{ "{'type':'export','queryCondition':'*'}", "type" },
		{ "{'type':'scheduleUpdateTwin','updateTwin':{}}", "queryCondition" },
		{ "{'type':'scheduleUpdateTwin','queryCondition':'tags.x =','updateTwin':{}}", "position" },
		{ "{'type':'scheduleUpdateTwin','queryCondition':'FROM devices.jobs','updateTwin':{}}", "devices" },
		{ "{'type':'scheduleUpdateTwin','queryCondition':'SELECT deviceId FROM devices','updateTwin':{}}", "*" },
		{ "{'type':'scheduleUpdateTwin','queryCondition':'*'}", "updateTwin" },
		{ "{'type':'scheduleUpdateTwin','queryCondition':'*','updateTwin':{'tags':7}}", "objects" },
		{ "{'type':'scheduleUpdateTwin','queryCondition':'*','updateTwin':{},'startTime':'soon'}", "startTime" },
		{ "{'type':'scheduleUpdateTwin','queryCondition':'*','updateTwin':{},'maxExecutionTimeInSeconds':-1}", "max" },
		{ "{'type':'scheduleDeviceMethod','queryCondition':'*','cloudToDeviceMethod':{}}", "methodName" },
		{ "{'type':'scheduleDeviceMethod','queryCondition':'*','cloudToDeviceMethod':{'methodName':'m',"
		  "'responseTimeoutInSeconds':1}}", "responseTimeout" },
		{ "{'jobId':'other','type':'scheduleUpdateTwin','queryCondition':'*','updateTwin':{}}", "id" },
	};
	struct world *w = *state;
	struct hub_error err;
	json_t *doc;

	for (size_t i = 0; i < HF_ARRAY_LEN(cases); i++) {
		assert_int_equal(put(w, "bad", cases[i].request, &err), HF_EINVALID);
		assert_int_equal(err.http_status, 400);
		if (!strstr(err.message, cases[i].text))
			fail_msg("%s: %s", cases[i].request, err.message);
		assert_null(hub_job_doc(w->m, "bad"));
	}
	assert_int_equal(hub_job_cancel(w->m, "bad", &doc, &err), HF_ENOTFOUND);
	assert_int_equal(err.code, 404002);
}

/* A device head that answers at once, or keeps quiet. */
struct device {
	struct hub_method_sink sink;
	struct world *w;
	bool quiet;
	unsigned calls;
};

static void on_call(void *arg, const char *name, const char *rid, struct hf_span payload)
{
	struct device *d = arg;

	assert_string_equal(name, "doIt");
	assert_true(hf_span_is(payload, "{\"a\":1}"));
	d->calls++;
	if (!d->quiet)
		hub_method_answer(d->w->m, d->sink.id, hf_span_str(rid), 201, hf_span_str("\"fine\""));
}

static const char *method = "{'type':'scheduleDeviceMethod','queryCondition':'*','cloudToDeviceMethod':"
			    "{'methodName':'doIt','payload':{'a':1},'responseTimeoutInSeconds':30}}";

static void test_methods(void **state)
{
	struct world *w = *state;
	struct device d = { .w = w, .sink = { .id = "dev0000", .send = on_call, .arg = &d } };
	struct hub_error err;
	json_t *page;
	struct hub_query *q;
	char reason[192], *next;

	fill(w, 250);
	hub_method_sink_add(w->m, &d.sink);
	w->name = "j1";
	assert_int_equal(put(w, "j1", method, &err), 0);
	world_until(w, completed);
	hub_method_sink_remove(w->m, &d.sink);
	assert_int_equal(d.calls, 1);
	assert_int_equal(stat(w, "j1", "succeededCount"), 1);
	assert_int_equal(stat(w, "j1", "failedCount"), 249);
	assert_int_equal(hub_query_parse(hf_span_str("SELECT * FROM devices.jobs"), &q, reason, sizeof reason), 0);
	assert_string_equal(hub_query_item_type(q), "DeviceJob");
	assert_int_equal(hub_query_run(w->m, q, 2, NULL, &page, &next), 0);
	assert_int_equal(json_integer_value(json_object_get(json_object_get(json_object_get(json_array_get(page, 0), "outcome"),
									  "deviceMethodResponse"), "status")), 201);
	assert_string_equal(json_string_value(json_object_get(json_object_get(json_array_get(page, 1), "error"), "code")), "404103");
	free(next);
	json_decref(page);
	hub_query_destroy(&q);
}

static void test_cancel(void **state)
{
	static struct device all[300];
	static char ids[300][16];
	struct world *w = *state;
	struct device d = { .w = w, .quiet = true, .sink = { .id = "dev0000", .send = on_call, .arg = &d } };
	struct hub_error err;
	json_t *doc;

	fill(w, 300);
	for (unsigned i = 0; i < 300; i++) {	/* nobody answers: calls are in flight up to their bound */
		snprintf(ids[i], sizeof ids[i], "dev%04u", i);
		all[i] = d;
		all[i].sink.id = ids[i];
		all[i].sink.arg = &all[i];
		hub_method_sink_add(w->m, &all[i].sink);
	}
	w->name = "j1";
	assert_int_equal(put(w, "j1", method, &err), 0);
	world_until(w, running);
	assert_true(stat(w, "j1", "runningCount") <= 100);
	assert_int_equal(hub_job_cancel(w->m, "j1", &doc, &err), 0);
	assert_string_equal(json_string_value(json_object_get(doc, "status")), "cancelled");
	json_decref(doc);
	assert_int_equal(hub_job_cancel(w->m, "j1", &doc, &err), HF_EINVALID);
	for (unsigned i = 0; i < 300; i++)	/* those in flight end with their clients: 404104 */
		hub_method_sink_remove(w->m, &all[i].sink);
	world_until(w, none_left);
	assert_true(rows(w, "SELECT * FROM devices.jobs WHERE devices.jobs.status = 'canceled'") >= 200);
	assert_int_equal(rows(w, "SELECT * FROM devices.jobs WHERE devices.jobs.status = 'pending'"), 0);
}

static void test_time(void **state)
{
	struct world *w = *state;
	struct hf_clock_fake now = { .mono_ms = 1000, .boot_ms = 1000, .wall_ms = 1767225600000 };	/* 2026-01-01T00:00:00Z */
	struct device d = { .w = w, .quiet = true, .sink = { .id = "dev0000", .send = on_call, .arg = &d } };
	struct hub_error err;
	uint64_t seq = 0;
	json_t *doc;

	fill(w, 2);
	hf_clock_fake(&now);
	assert_int_equal(put(w, "later", "{'type':'scheduleUpdateTwin','queryCondition':'*','startTime':'2026-01-01T01:00:00.000Z',"
			     "'updateTwin':{'tags':{'late':true}}}", &err), 0);
	assert_true(has_status(w, "later", "scheduled"));
	assert_int_equal(rows(w, "SELECT * FROM devices WHERE tags.late = true"), 0);
	now.wall_ms += 3600001;
	hf_clock_fake(&now);
	w->name = "later";
	world_until(w, completed);
	assert_int_equal(rows(w, "SELECT * FROM devices WHERE tags.late = true"), 2);

	hub_method_sink_add(w->m, &d.sink);
	w->name = "slow";
	assert_int_equal(put(w, "slow", "{'type':'scheduleDeviceMethod','queryCondition':'*','maxExecutionTimeInSeconds':60,"
			     "'cloudToDeviceMethod':{'methodName':'doIt','payload':{'a':1}}}", &err), 0);
	world_until(w, running);
	now.wall_ms += 61000;
	hf_clock_fake(&now);
	world_until(w, failed);
	doc = hub_job_next(w->m, &seq, "scheduleDeviceMethod", "FAILED");
	assert_string_equal(json_string_value(json_object_get(doc, "jobId")), "slow");
	assert_non_null(strstr(json_string_value(json_object_get(doc, "failureReason")), "execution time"));
	json_decref(doc);
	hub_method_sink_remove(w->m, &d.sink);	/* the call in flight ends */
	world_until(w, none_left);

	now.wall_ms += 31ll * 86400 * 1000;	/* finished jobs are forgotten after 30 days, with their results */
	hf_clock_fake(&now);
	seq = 0;
	assert_null(hub_job_next(w->m, &seq, NULL, NULL));
	assert_int_equal(rows(w, "SELECT * FROM devices.jobs"), 0);
	assert_int_equal(put(w, "later", "{'type':'scheduleUpdateTwin','queryCondition':'*','updateTwin':{}}", &err), 0);
	w->name = "later";
	world_until(w, completed);
	assert_int_equal(rows(w, "SELECT * FROM devices.jobs"), 2);
	hf_clock_fake(NULL);
}

static void connect_all(struct world *w, struct device *all, unsigned n, bool quiet)
{
	static char ids[200][16];

	for (unsigned i = 0; i < n; i++) {
		snprintf(ids[i], sizeof ids[i], "dev%04u", i);
		all[i].w = w;
		all[i].quiet = quiet && i >= 20;
		all[i].sink = (struct hub_method_sink){ .id = ids[i], .send = on_call, .arg = &all[i] };
		hub_method_sink_add(w->m, &all[i].sink);
	}
}

static bool calls_out(struct world *w) { return stat(w, w->name, "runningCount") >= 80; }

/* The model is closed in the midst, as by a stop: what was not answered is called again, what was done is not. */
static void test_restart(void **state)
{
	struct world *w = *state;
	static struct device all[150];
	struct hub_error err;

	memset(all, 0, sizeof all);
	fill(w, 150);
	connect_all(w, all, 150, true);		/* the first 20 answer */
	w->name = "j1";
	assert_int_equal(put(w, "j1", method, &err), 0);
	world_until(w, calls_out);
	world_commit(w);
	world_close(w);
	world_open(w);
	assert_int_equal(stat(w, "j1", "deviceCount"), 150);
	connect_all(w, all, 150, false);
	world_until(w, completed);
	assert_int_equal(stat(w, "j1", "succeededCount"), 150);
	assert_int_equal(stat(w, "j1", "failedCount") + stat(w, "j1", "runningCount") + stat(w, "j1", "pendingCount"), 0);
	for (unsigned i = 0; i < 150; i++)
		if (all[i].calls > (i < 20 ? 1 : 2))
			fail_msg("%u: %u calls", i, all[i].calls);
	assert_int_equal(rows(w, "SELECT * FROM devices.jobs WHERE devices.jobs.status = 'completed'"), 150);
}

static bool selected(struct world *w) { return stat(w, w->name, "deviceCount") > 0; }

/* A twin update goes on where it was: no twin has two new versions. */
static void test_restart_twins(void **state)
{
	struct world *w = *state;
	struct hub_error err;

	fill(w, 1500);
	w->name = "j1";
	assert_int_equal(put(w, "j1", "{'type':'scheduleUpdateTwin','queryCondition':'*',"
			     "'updateTwin':{'properties':{'desired':{'x':1}}}}", &err), 0);
	for (unsigned round = 0; !completed(w); round++) {
		world_until(w, round < 3 ? selected : completed);
		world_close(w);
		world_open(w);
	}
	assert_int_equal(stat(w, "j1", "succeededCount"), 1500);
	assert_int_equal(rows(w, "SELECT * FROM devices WHERE properties.desired.$version = 2"), 1500);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_twins, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_refused, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_methods, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_cancel, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_time, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_restart, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_restart_twins, world_setup, world_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
