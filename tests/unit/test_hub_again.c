/* SPDX-License-Identifier: GPL-3.0-or-later */
/* An id that is used again gets nothing of the identity before; numbers never go back; what a failed commit leaves. */
#include "core/clock.h"
#include "hub/jobs/configs_int.h"
#include "hub/jobs/jobs.h"
#include "hub/model/clients.h"
#include "hub/model/model_int.h"
#include "hub/query/query.h"

#include <holdfast/err.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "hub_world.h"

static void reopen(struct world *w)
{
	world_close(w);
	world_open(w);
}

static void delete(struct world *w, const char *device)
{
	struct hub_error err;

	assert_int_equal(hub_ident_delete(w->m, device, NULL, NULL, &err), 0);
}

/* The changes of this turn cannot be stored. */
static void commit_fails(struct world *w)
{
	static char long_key[4096];
	struct hf_txn *txn;

	memset(long_key, 'k', sizeof long_key - 1);
	assert_int_equal(hub_state_txn(w->m, &txn), 0);
	assert_int_not_equal(hf_txn_put(txn, HUB_T_META, hf_span_str(long_key), hf_span_str("")), 0);
	hub_commit_wait(w->m, &w->wait, world_committed, w);
	hf_loop_run(w->loop);
	assert_int_not_equal(w->err, 0);
}

static bool is_stored_late(struct world *w)
{
	return hf_map_count(w->m->late_idents) + hf_map_count(w->m->late_twins) == 0;
}

static void send_c2d(struct world *w, const char *device, int64_t expiry_ms)
{
	json_t *props = json_pack("{sI}", "expiryTimeUtc", (json_int_t)expiry_ms);
	struct hub_error err;

	assert_int_equal(hub_c2d_send(w->m, device, props, hf_span_str("body"), &err), 0);
	json_decref(props);
}

static char *twin_etag(struct world *w, const char *id)
{
	json_t *doc = NULL;
	char *etag = strdup(json_string_value(world_member(w, id, "etag", &doc)));

	json_decref(doc);
	return etag;
}

static void test_twin_etags_are_never_used_again(void **state)
{
	struct world *w = *state;
	char *before, *after;

	world_put(w, "d", NULL, "{}");
	world_twin(w, "d", "{'tags':{'a':1}}");
	before = twin_etag(w, "d");
	delete(w, "d");
	world_commit(w);
	reopen(w);
	world_put(w, "d", NULL, "{}");
	world_twin(w, "d", "{'tags':{'a':2}}");
	after = twin_etag(w, "d");
	assert_string_not_equal(before, after);
	world_put(w, "other", NULL, "{}");
	assert_true(world_find(w, "other") != NULL);
	free(before);
	free(after);
}

static void test_sequence_numbers_go_on(void **state)
{
	struct world *w = *state;
	const struct hub_c2d *msg;
	struct hub_feedback batch;
	json_t *record = json_object();
	uint64_t seq, feedback;

	world_put(w, "d", NULL, "{}");
	send_c2d(w, "d", 0);
	world_commit(w);
	assert_int_equal(hub_c2d_receive(w->m, "d", w, 0, &msg), 0);
	seq = msg->seq;
	assert_int_equal(hub_c2d_settle_seq(w->m, "d", w, seq, HUB_COMPLETE), 0);
	assert_int_equal(hub_feedback_add(w->m, HUB_FEEDBACK_FILES, record), 0);
	assert_int_equal(hub_feedback_receive(w->m, HUB_FEEDBACK_FILES, w, &batch), 0);
	feedback = batch.seq;
	free(batch.json);
	assert_int_equal(hub_feedback_settle(w->m, HUB_FEEDBACK_FILES, batch.lock, HUB_COMPLETE), 0);
	world_commit(w);
	reopen(w);
	send_c2d(w, "d", 0);
	world_commit(w);
	assert_int_equal(hub_c2d_receive(w->m, "d", w, 0, &msg), 0);
	assert_true(msg->seq > seq);
	assert_int_equal(hub_feedback_add(w->m, HUB_FEEDBACK_FILES, record), 0);
	assert_int_equal(hub_feedback_receive(w->m, HUB_FEEDBACK_FILES, w, &batch), 0);
	assert_true(batch.seq > feedback);
	free(batch.json);
	json_decref(record);
}

/* The deletion is stored later than it was tried; then the id is used again. */
static void test_a_deletion_stored_late(void **state)
{
	struct world *w = *state;
	json_t *filters = world_json("{'f':1}");

	world_put(w, "d", NULL, "{}");
	world_put(w, "d2", NULL, "{}");
	send_c2d(w, "d", 0);
	send_c2d(w, "d2", 0);
	assert_int_equal(hub_session_save(w->m, "d", filters), 0);
	json_decref(filters);
	world_commit(w);
	delete(w, "d");
	commit_fails(w);
	world_until(w, is_stored_late);
	world_put(w, "d", NULL, "{}");
	world_commit(w);
	reopen(w);
	assert_int_equal(hub_c2d_count(w->m, "d"), 0);
	assert_int_equal(hub_c2d_count(w->m, "d2"), 1);
	assert_null(hub_session_load(w->m, "d"));
}

/* Used again before the deletion is stored. */
static void test_a_deletion_stored_with_what_came_after(void **state)
{
	struct world *w = *state;
	json_t *filters = world_json("{'f':1}");

	world_put(w, "d", NULL, "{}");
	send_c2d(w, "d", 0);
	assert_int_equal(hub_session_save(w->m, "d", filters), 0);
	json_decref(filters);
	world_commit(w);
	delete(w, "d");
	commit_fails(w);
	world_put(w, "d", NULL, "{}");
	send_c2d(w, "d", 0);
	world_commit(w);
	reopen(w);
	assert_int_equal(hub_c2d_count(w->m, "d"), 1);
	assert_null(hub_session_load(w->m, "d"));
}

struct told { unsigned desired; int64_t version; };

static void on_desired(void *arg, const char *id, const json_t *patch, int64_t version)
{
	struct told *t = arg;

	(void)id;
	(void)patch;
	t->desired++;
	t->version = version;
}

/* Who was refused for want of a commit finds nothing of it, and nobody else was told; what is stored late is told late. */
static void test_nobody_is_told_what_is_not_stored(void **state)
{
	struct world *w = *state;
	struct told told = { 0 };
	const struct hub_c2d *msg;

	hub_on_desired(w->m, on_desired, &told);
	world_put(w, "d", NULL, "{}");
	world_put(w, "d2", NULL, "{}");
	world_commit(w);
	world_twin(w, "d", "{'properties':{'desired':{'a':1}}}");
	send_c2d(w, "d", 0);
	commit_fails(w);
	assert_int_equal(told.desired, 0);
	assert_int_equal(hub_c2d_count(w->m, "d"), 0);
	assert_int_equal(hub_c2d_receive(w->m, "d", w, 0, &msg), HF_ENOTFOUND);
	world_until(w, is_stored_late);
	world_commit(w);
	assert_int_equal(told.desired, 1);
	assert_int_equal(told.version, 2);

	/* the same record, changed again before it is stored: in order, none left out */
	world_twin(w, "d", "{'properties':{'desired':{'a':2}}}");
	commit_fails(w);
	assert_int_equal(told.desired, 1);
	world_twin(w, "d", "{'properties':{'desired':{'a':3}}}");
	world_commit(w);
	assert_int_equal(told.desired, 3);
	assert_int_equal(told.version, 4);

	send_c2d(w, "d2", 0);
	assert_int_equal(hub_c2d_receive(w->m, "d2", w, 0, &msg), HF_ENOTFOUND);	/* not stored yet */
	world_commit(w);
	assert_int_equal(hub_c2d_receive(w->m, "d2", w, 0, &msg), 0);
}

/* The events of a turn are lost, its twins are not: nothing of these is kept back. */
static void test_stored_twins_are_told_when_events_fail(void **state)
{
	struct world *w = *state;
	struct told told = { 0 };

	hub_on_desired(w->m, on_desired, &told);
	world_put(w, "d", NULL, "{}");
	world_commit(w);
	world_twin(w, "d", "{'properties':{'desired':{'a':1}}}");
	w->m->turn_err = HF_EFULL;
	hub_commit_wait(w->m, &w->wait, world_committed, w);
	hf_loop_run(w->loop);
	assert_int_equal(w->err, HF_EFULL);
	assert_int_equal(told.desired, 1);
}

static void set_format(struct world *w, const uint8_t *format)
{
	struct hf_txn *txn;

	assert_int_equal(hub_state_txn(w->m, &txn), 0);
	if (format)
		assert_int_equal(hf_txn_put(txn, HUB_T_META, hf_span_str("format"), hf_span(format, 1)), 0);
	else
		assert_int_equal(hf_txn_del(txn, HUB_T_META, hf_span_str("format")), 0);
	world_commit(w);
}

/* Without the hub. */
static void write_format(struct world *w, uint8_t format)
{
	static const char *const tables[] = { "meta", NULL };
	struct hf_db *db;
	struct hf_txn *txn;
	char path[128];

	snprintf(path, sizeof path, "%s/state.mdb", w->dir);
	assert_int_equal(hf_db_open(&(struct hf_db_cfg){ .path = path, .map_size = (size_t)1 << 30, .tables = tables }, &db), 0);
	assert_int_equal(hf_txn_begin(db, true, &txn), 0);
	assert_int_equal(hf_txn_put(txn, 0, hf_span_str("format"), hf_span(&format, 1)), 0);
	assert_int_equal(hf_txn_commit(&txn), 0);
	hf_db_close(&db);
}

static void test_format_of_the_databases(void **state)
{
	struct hub_model_cfg cfg = { .host = "hub.test" };
	static const uint8_t later = HUB_FORMAT + 1;
	struct world *w = *state;

	world_put(w, "d", NULL, "{}");
	world_commit(w);
	set_format(w, NULL);	/* as it was before there was a version */
	reopen(w);
	assert_non_null(world_find(w, "d"));
	set_format(w, &later);
	world_close(w);
	cfg.dir = w->dir;
	assert_int_equal(hf_loop_create(&w->loop), 0);
	assert_int_equal(hub_model_open(w->loop, &cfg, &w->m), HF_EUNSUPPORTED);
	hf_loop_destroy(&w->loop);
	write_format(w, HUB_FORMAT);
	world_open(w);
	assert_non_null(world_find(w, "d"));	/* nothing was touched */
}

/* An id that an older version took, with a wildcard in it, serves to its end; a new one is refused. */
static void test_ids_of_an_older_version(void **state)
{
	static const char old[] = "old+id#1", record[] = "{\"deviceId\":\"old+id#1\",\"generationId\":\"g\",\"etag\":\"e\",\"status\":\"enabled\","
		"\"authentication\":{\"type\":\"sas\",\"symmetricKey\":{\"primaryKey\":\"MDEyMzQ1Njc4OWFiY2RlZg==\","
		"\"secondaryKey\":\"MDEyMzQ1Njc4OWFiY2RlZg==\"}}}";
	struct world *w = *state;
	struct hub_error err;
	struct hf_txn *txn;
	json_t *doc = world_json("{'status':'disabled'}");

	assert_int_equal(hub_state_txn(w->m, &txn), 0);
	assert_int_equal(hf_txn_put(txn, HUB_T_IDENT, hf_span_str(old), hf_span_str(record)), 0);
	world_commit(w);
	reopen(w);
	assert_non_null(world_find(w, old));
	assert_int_equal(hub_ident_put(w->m, old, NULL, doc, "*", NULL, &err), 0);
	assert_false(world_find(w, old)->enabled);
	assert_int_equal(hub_ident_put(w->m, old, "m", doc, NULL, NULL, &err), 0);
	assert_int_equal(hub_ident_put(w->m, old, "m+", doc, NULL, NULL, &err), HF_EINVALID);
	assert_int_equal(hub_ident_put(w->m, "new+id", NULL, doc, NULL, NULL, &err), HF_EINVALID);
	world_twin(w, old, "{'tags':{'a':1}}");
	world_commit(w);
	delete(w, old);
	world_commit(w);
	reopen(w);
	assert_null(world_find(w, old));
	assert_int_equal(hub_ident_put(w->m, old, NULL, doc, NULL, NULL, &err), HF_EINVALID);
	json_decref(doc);
}

static bool configs_are_stored(struct world *w)
{
	return !w->m->configs->unstored;
}

/* Refused or not: what a configuration is in memory, it is after a restart. */
static void test_configurations_stored_late(void **state)
{
	struct world *w = *state;
	json_t *request = world_json("{'content':{'deviceContent':{'properties.desired.a':1}},'targetCondition':'*','priority':1}");
	json_t *doc = NULL;
	struct hub_error err;

	assert_int_equal(hub_config_put(w->m, "kept", request, NULL, &doc, &err), 0);
	json_decref(doc);
	world_commit(w);
	assert_int_equal(hub_config_put(w->m, "late", request, NULL, &doc, &err), 0);
	json_decref(doc);
	assert_int_equal(hub_config_delete(w->m, "kept", NULL, &err), 0);
	commit_fails(w);
	world_until(w, configs_are_stored);
	reopen(w);
	assert_null(hub_config_doc(w->m, "kept"));
	doc = hub_config_doc(w->m, "late");
	assert_non_null(doc);
	json_decref(doc);
	json_decref(request);
}

/* A message that expires while its device's record waits to be stored: the record does not open a second transaction. */
static void test_late_records_do_not_wait_for_themselves(void **state)
{
	struct world *w = *state;
	struct hf_clock_fake clock = { .mono_ms = hf_clock_mono_ms(), .boot_ms = hf_clock_mono_ms(), .wall_ms = hf_clock_wall_ms() };

	hf_clock_fake(&clock);
	world_put(w, "d", NULL, "{}");
	send_c2d(w, "d", clock.wall_ms + 1000);
	world_commit(w);
	hub_dirty_ident(w->m, "d");
	commit_fails(w);
	hf_timer_stop(w->m->tick);	/* as when the retry comes first */
	clock.wall_ms += 2000;
	clock.mono_ms += 2000;
	clock.boot_ms += 2000;
	hf_clock_fake(&clock);
	alarm(20);
	world_until(w, is_stored_late);
	alarm(0);
	hf_clock_fake(NULL);
	assert_int_equal(hub_c2d_count(w->m, "d"), 0);
}

static void test_no_session_without_an_identity(void **state)
{
	struct world *w = *state;
	json_t *filters = world_json("{'f':1}");

	world_put(w, "d", NULL, "{}");
	world_commit(w);
	delete(w, "d");
	assert_int_equal(hub_session_save(w->m, "d", filters), HF_ENOTFOUND);
	json_decref(filters);
	world_commit(w);
	world_put(w, "d", NULL, "{}");
	assert_null(hub_session_load(w->m, "d"));
}

/* --- methods -------------------------------------------------------------------------------------------------- */

struct calls { unsigned sent, done; int http, status; char rid[24]; };

static void on_send(void *arg, const char *name, const char *rid, struct hf_span payload)
{
	struct calls *c = arg;

	(void)name;
	(void)payload;
	c->sent++;
	snprintf(c->rid, sizeof c->rid, "%s", rid);
}

static void on_done(void *arg, int status, struct hf_span payload, const struct hub_error *err)
{
	struct calls *c = arg;

	(void)payload;
	c->done++;
	c->status = status;
	c->http = err ? err->http_status : 0;
}

static void invoke(struct world *w, struct calls *c, uint32_t connect_s)
{
	struct hub_method_call call = { .target = "d", .name = "m", .response_timeout_s = 30, .connect_timeout_s = connect_s,
					.done = on_done, .arg = c };

	assert_int_equal(hub_method_invoke(w->m, &call), 0);
}

static void test_a_call_does_not_reach_the_next_of_that_id(void **state)
{
	struct world *w = *state;
	struct calls c = { 0 }, dev = { 0 };
	struct hub_method_sink sink = { .id = "d", .send = on_send, .arg = &dev };

	world_put(w, "d", NULL, "{}");
	invoke(w, &c, 300);
	delete(w, "d");
	world_put(w, "d", NULL, "{}");
	hub_method_sink_add(w->m, &sink);
	assert_int_equal(dev.sent, 0);
	assert_int_equal(c.done, 1);
	assert_int_equal(c.http, 404);
	hub_method_sink_remove(w->m, &sink);
}

/* Two clients of one identity, over different protocols: the newer one is called; when it goes, the older one is. */
static void test_methods_fall_back_to_the_older_client(void **state)
{
	struct world *w = *state;
	struct calls a = { 0 }, b = { 0 }, first = { 0 }, second = { 0 }, third = { 0 };
	struct hub_method_sink mqtt = { .id = "d", .send = on_send, .arg = &a }, amqp = { .id = "d", .send = on_send, .arg = &b };

	world_put(w, "d", NULL, "{}");
	hub_method_sink_add(w->m, &mqtt);
	invoke(w, &first, 0);
	assert_int_equal(a.sent, 1);
	hub_method_sink_add(w->m, &amqp);
	invoke(w, &second, 0);
	assert_int_equal(b.sent, 1);
	hub_method_sink_remove(w->m, &amqp);
	assert_int_equal(first.done, 0);	/* its client is still there */
	assert_int_equal(second.done, 1);
	assert_int_equal(second.http, 404);
	invoke(w, &third, 0);
	assert_int_equal(a.sent, 2);
	hub_method_answer(w->m, "d", hf_span_str(a.rid), 7, hf_span_str("{}"));
	assert_int_equal(third.status, 7);
	hub_method_sink_add(w->m, &amqp);
	hub_method_sink_remove(w->m, &mqtt);	/* not the one that is called */
	assert_int_equal(first.done, 1);
	assert_int_equal(first.http, 404);
	invoke(w, &third, 0);
	assert_int_equal(b.sent, 2);
	hub_method_sink_remove(w->m, &amqp);
	assert_int_equal(third.done, 2);
}

/* --- faults, messages -------------------------------------------------------------------------------------------- */

static void test_a_cut_off_device_leaves_no_switch(void **state)
{
	struct world *w = *state;
	struct hub_fault fault;

	world_put(w, "d", NULL, "{}");
	assert_int_equal(hub_client_cut_off(w->m, world_find(w, "d"), true), 0);
	assert_true(hub_fault_hit(hub_model_faults(w->m), HUB_ON_CONNECT, "d", &fault));
	delete(w, "d");
	world_put(w, "d", NULL, "{}");
	assert_false(hub_fault_hit(hub_model_faults(w->m), HUB_ON_CONNECT, "d", &fault));
}

static bool job_ended(struct world *w)
{
	json_t *doc = hub_job_doc(w->m, "j");
	bool yes = strcmp(json_string_value(json_object_get(doc, "status")), "completed") == 0;

	json_decref(doc);
	return yes;
}

static bool job_selected(struct world *w)
{
	json_t *doc = hub_job_doc(w->m, "j");
	bool yes = json_integer_value(json_object_get(json_object_get(doc, "deviceJobStatistics"), "deviceCount")) == 1;

	json_decref(doc);
	return yes;
}

/* The job was for the identity that it chose. */
static void test_a_job_passes_over_the_next_of_that_id(void **state)
{
	struct world *w = *state;
	json_t *request = world_json("{'type':'scheduleUpdateTwin','queryCondition':'*','updateTwin':{'tags':{'job':1}}}");
	json_t *doc = NULL, *page = NULL;
	struct hub_query *q = NULL;
	struct hub_error err;
	char reason[192], *next = NULL;

	world_put(w, "d", NULL, "{}");
	world_commit(w);
	assert_int_equal(hub_job_create(w->m, "j", request, &doc, &err), 0);
	json_decref(request);
	json_decref(doc);
	while (!job_selected(w))
		world_commit(w);	/* turn by turn */
	assert_false(job_ended(w));
	delete(w, "d");
	world_put(w, "d", NULL, "{}");
	world_until(w, job_ended);
	doc = NULL;
	assert_null(world_member(w, "d", "tags.job", &doc));
	json_decref(doc);
	assert_int_equal(hub_query_parse(hf_span_str("SELECT * FROM devices.jobs"), &q, reason, sizeof reason), 0);
	assert_int_equal(hub_query_run(w->m, q, 10, NULL, &page, &next), 0);
	hub_query_destroy(&q);
	assert_string_equal(json_string_value(json_object_get(json_object_get(json_array_get(page, 0), "error"), "code")), "404001");
	assert_null(json_object_get(json_array_get(page, 0), "generationId"));	/* the hub's own note */
	json_decref(page);
}

/* A message must be able to end whatever its sender named it. */
static void test_long_message_ids(void **state)
{
	struct world *w = *state;
	char mid[5001];
	json_t *props;
	struct hub_error err;

	world_put(w, "d", NULL, "{}");
	memset(mid, 'm', sizeof mid - 1);
	mid[sizeof mid - 1] = '\0';
	props = json_pack("{ss ss}", "messageId", mid, "ack", "full");
	assert_int_equal(hub_c2d_send(w->m, "d", props, hf_span_str("x"), &err), HF_EINVALID);
	assert_int_equal(err.http_status, 400);
	mid[128] = '\0';
	json_object_set_new(props, "messageId", json_string(mid));
	assert_int_equal(hub_c2d_send(w->m, "d", props, hf_span_str("x"), &err), 0);
	json_decref(props);
	assert_int_equal(hub_c2d_count(w->m, "d"), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_twin_etags_are_never_used_again, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_sequence_numbers_go_on, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_a_deletion_stored_late, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_a_deletion_stored_with_what_came_after, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_configurations_stored_late, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_no_session_without_an_identity, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_a_call_does_not_reach_the_next_of_that_id, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_methods_fall_back_to_the_older_client, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_a_cut_off_device_leaves_no_switch, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_a_job_passes_over_the_next_of_that_id, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_stored_twins_are_told_when_events_fail, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_nobody_is_told_what_is_not_stored, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_ids_of_an_older_version, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_format_of_the_databases, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_long_message_ids, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_late_records_do_not_wait_for_themselves, world_setup, world_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
