/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Messages to devices: locks, counts, lives, what a restart keeps, and the feedback about all of it. */
#include "core/clock.h"
#include "core/util.h"
#include "hub/model/feedback.h"
#include "hub/model/model.h"

#include <holdfast/err.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define HOUR_MS (3600 * 1000)

struct world {
	char dir[64];
	struct hf_loop *loop;
	struct hub_model *m;
	struct hub_wait wait;
	struct hf_clock_fake clock;
	unsigned told, feedback_told, want;
	int err;
};

static void advance(struct world *w, uint64_t ms)
{
	w->clock.mono_ms += ms;
	w->clock.boot_ms += ms;
	w->clock.wall_ms += (int64_t)ms;
	hf_clock_fake(&w->clock);
}

static void on_c2d(void *arg, const char *id)
{
	struct world *w = arg;

	assert_string_equal(id, "d");
	w->told++;
	if (w->want == 1)
		hf_loop_stop(w->loop);
}

static void on_feedback(void *arg, enum hub_feedback_kind kind)
{
	struct world *w = arg;

	assert_int_equal(kind, HUB_FEEDBACK_C2D);
	w->feedback_told++;
	if (w->want == 2)
		hf_loop_stop(w->loop);
}

static void open_model(struct world *w)
{
	struct hub_model_cfg cfg = { .dir = w->dir, .host = "hub.test" };

	assert_int_equal(hf_loop_create(&w->loop), 0);
	assert_int_equal(hub_model_open(w->loop, &cfg, &w->m), 0);
	hub_on_c2d(w->m, on_c2d, w);
	hub_on_feedback(w->m, on_feedback, w);
}

static void reopen(struct world *w)
{
	hub_model_close(&w->m);
	hf_loop_destroy(&w->loop);
	open_model(w);
}

static void committed(void *arg, int err)
{
	struct world *w = arg;

	w->err = err;
	hf_loop_stop(w->loop);
}

static void commit(struct world *w)
{
	hub_commit_wait(w->m, &w->wait, committed, w);
	hf_loop_run(w->loop);
	assert_int_equal(w->err, 0);
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof *w);
	struct hub_error err;
	json_t *doc = json_object();

	w->clock = (struct hf_clock_fake){ .mono_ms = 1000000, .boot_ms = 1000000, .wall_ms = 1800000000000 };
	hf_clock_fake(&w->clock);
	snprintf(w->dir, sizeof w->dir, "/tmp/holdfast-c2d-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	open_model(w);
	assert_int_equal(hub_ident_put(w->m, "d", NULL, doc, NULL, NULL, &err), 0);
	json_decref(doc);
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
	hf_clock_fake(NULL);
	for (unsigned i = 0; i < HF_ARRAY_LEN(files); i++) {
		snprintf(path, sizeof path, "%s/%s", w->dir, files[i]);
		unlink(path);
	}
	rmdir(w->dir);
	free(w);
	return 0;
}

static int send_to(struct world *w, const char *device, const char *mid, const char *ack, int64_t expiry_ms, struct hub_error *err)
{
	json_t *props = json_pack("{ss ss* s{ss}}", "messageId", mid, "ack", ack, "properties", "k", "v");
	int r;

	if (expiry_ms)
		json_object_set_new(props, "expiryTimeUtc", json_integer(expiry_ms));
	r = hub_c2d_send(w->m, device, props, hf_span_str("body"), err);
	json_decref(props);
	return r;
}

static void give(struct world *w, const char *mid, const char *ack)
{
	struct hub_error err;

	assert_int_equal(send_to(w, "d", mid, ack, 0, &err), 0);
	commit(w);	/* before that nobody gets it */
}

static const struct hub_c2d *take(struct world *w, const void *owner)
{
	const struct hub_c2d *msg;

	return hub_c2d_receive(w->m, "d", owner, HUB_C2D_LOCK_MS, &msg) == 0 ? msg : NULL;
}

/* The one batch of feedback that waits, completed; the caller owns it. */
static json_t *feedback(struct world *w)
{
	struct hub_feedback batch;
	json_t *list;

	if (hub_feedback_receive(w->m, HUB_FEEDBACK_C2D, w, &batch) != 0)
		return json_array();
	list = json_loads(batch.json, 0, NULL);
	free(batch.json);
	assert_non_null(list);
	assert_int_equal(hub_feedback_settle(w->m, HUB_FEEDBACK_C2D, batch.lock, HUB_COMPLETE), 0);
	return list;
}

static void expect_outcomes(struct world *w, const char *const *pairs, unsigned n)
{
	json_t *list = feedback(w);

	assert_int_equal(json_array_size(list), n);
	for (unsigned i = 0; i < n; i++) {
		json_t *o = json_array_get(list, i);

		assert_string_equal(json_string_value(json_object_get(o, "originalMessageId")), pairs[2 * i]);
		assert_string_equal(json_string_value(json_object_get(o, "statusCode")), pairs[2 * i + 1]);
		assert_string_equal(json_string_value(json_object_get(o, "deviceId")), "d");
		assert_true(json_string_length(json_object_get(o, "deviceGenerationId")) > 0);
		assert_true(json_string_length(json_object_get(o, "enqueuedTimeUtc")) > 20);
	}
	json_decref(list);
}

static void test_queue(void **state)
{
	struct world *w = *state;
	struct hub_error err;
	const struct hub_c2d *msg;
	char lock[HUB_UUID_SIZE];
	uint64_t first;

	assert_int_equal(send_to(w, "nobody", "m", NULL, 0, &err), HF_ENOTFOUND);
	assert_int_equal(send_to(w, "d", "m", "perhaps", 0, &err), HF_EINVALID);
	for (unsigned i = 0; i < 50; i++)
		give(w, "m 1", "full");
	assert_int_equal(send_to(w, "d", "m", NULL, 0, &err), HF_EFULL);
	assert_int_equal(err.code, 403004);
	msg = take(w, w);
	assert_true(hf_span_is(msg->bag, "%24.mid=m%201&%24.to=%2Fdevices%2Fd%2Fmessages%2Fdevicebound&iothub-ack=full&k=v"));
	assert_true(hf_span_is(msg->body, "body"));
	assert_int_equal(strlen(msg->lock), 36);
	first = msg->seq;
	memcpy(lock, msg->lock, sizeof lock);
	assert_int_equal(hub_c2d_settle(w->m, "d", lock, HUB_COMPLETE), 0);
	assert_int_equal(hub_c2d_settle(w->m, "d", lock, HUB_COMPLETE), HF_ENOTFOUND);
	assert_int_equal(hub_c2d_settle(w->m, "d", "", HUB_COMPLETE), HF_ENOTFOUND);
	commit(w);
	reopen(w);
	assert_int_equal(hub_c2d_count(w->m, "d"), 49);
	msg = take(w, w);
	assert_true(msg->seq > first && !msg->redelivered);
	assert_int_equal(hub_c2d_settle_seq(w->m, "d", &first, msg->seq, HUB_COMPLETE), HF_ENOTFOUND);
	assert_int_equal(hub_c2d_settle_seq(w->m, "d", w, msg->seq, HUB_COMPLETE), 0);
}

static void test_locks(void **state)
{
	struct world *w = *state;
	const struct hub_c2d *msg;
	char lock[HUB_UUID_SIZE];
	int other;

	give(w, "a", NULL);
	give(w, "b", NULL);
	msg = take(w, w);
	assert_string_equal(msg->message_id, "a");
	memcpy(lock, msg->lock, sizeof lock);
	assert_string_equal(take(w, &other)->message_id, "b");
	assert_null(take(w, &other));
	advance(w, HUB_C2D_LOCK_MS - 1);
	assert_null(take(w, &other));
	commit(w);
	w->told = 0;
	advance(w, 1);			/* nobody asks: the clock ends the locks and listeners hear of it */
	w->want = 1;
	hf_loop_run(w->loop);
	w->want = 0;
	assert_int_equal(w->told, 1);
	assert_int_equal(hub_c2d_settle(w->m, "d", lock, HUB_COMPLETE), HF_ENOTFOUND);
	msg = take(w, &other);
	assert_string_equal(msg->message_id, "a");
	assert_true(msg->redelivered);
	assert_int_equal(msg->delivery_count, 0);	/* the end of a lock does not count */
	hub_c2d_release_all(w->m, "d", &other);
	assert_string_equal(take(w, w)->message_id, "a");
}

static void test_abandon(void **state)
{
	static const char *const dead[] = { "a", "DeliveryCountExceeded" };
	struct world *w = *state;
	const struct hub_c2d *msg;

	give(w, "a", "negative");
	for (unsigned i = 0; i < 10; i++) {
		msg = take(w, w);
		assert_non_null(msg);
		assert_int_equal(msg->delivery_count, i);
		assert_int_equal(hub_c2d_settle(w->m, "d", msg->lock, HUB_ABANDON), 0);
		commit(w);
		if (i == 4)
			reopen(w);	/* the count is kept */
	}
	assert_null(take(w, w));
	assert_int_equal(hub_c2d_count(w->m, "d"), 0);
	expect_outcomes(w, dead, 1);
}

static void test_expiry(void **state)
{
	static const char *const late[] = { "past", "Expired", "soon", "Expired", "held", "Expired" };
	struct world *w = *state;
	const struct hub_c2d *msg;
	struct hub_error err;
	char lock[HUB_UUID_SIZE];

	assert_int_equal(send_to(w, "d", "too far", NULL, w->clock.wall_ms + 3ll * 24 * HOUR_MS, &err), HF_EINVALID);
	assert_int_equal(send_to(w, "d", "past", "negative", w->clock.wall_ms - 1, &err), 0);
	assert_int_equal(hub_c2d_count(w->m, "d"), 0);
	assert_int_equal(send_to(w, "d", "held", "full", w->clock.wall_ms + 1000, &err), 0);
	assert_int_equal(send_to(w, "d", "soon", "full", w->clock.wall_ms + 1000, &err), 0);
	commit(w);
	msg = take(w, w);
	assert_string_equal(msg->message_id, "held");
	memcpy(lock, msg->lock, sizeof lock);
	commit(w);
	advance(w, 2000);
	w->feedback_told = 0;
	w->want = 2;
	hf_loop_run(w->loop);		/* the clock finds "soon" without being asked */
	w->want = 0;
	assert_int_equal(hub_c2d_count(w->m, "d"), 1);
	assert_int_equal(hub_c2d_settle(w->m, "d", lock, HUB_ABANDON), 0);	/* a lock is honoured beyond the life */
	assert_int_equal(hub_c2d_count(w->m, "d"), 0);
	expect_outcomes(w, late, 3);
	/* A lock without end is not. */
	assert_int_equal(send_to(w, "d", "mqtt", NULL, w->clock.wall_ms + 1000, &err), 0);
	commit(w);
	assert_int_equal(hub_c2d_receive(w->m, "d", w, 0, &msg), 0);
	advance(w, HUB_C2D_LOCK_MS);
	assert_int_equal(hub_c2d_count(w->m, "d"), 0);
	/* The life of one hour without a given end. */
	give(w, "hour", NULL);
	advance(w, HOUR_MS - 1);
	assert_int_equal(hub_c2d_count(w->m, "d"), 1);
	advance(w, 1);
	assert_int_equal(hub_c2d_count(w->m, "d"), 0);
}

static void test_feedback_per_ack(void **state)
{
	static const char *const acks[] = { "none", "positive", "negative", "full", NULL };
	static const char *const want[] = { "positive-1", "Success", "full-1", "Success", "negative-0", "Rejected",
					    "full-0", "Rejected", "negative-p", "Purged", "full-p", "Purged" };
	struct world *w = *state;
	char mid[32];
	unsigned n;

	for (int good = 1; good >= 0; good--) {
		for (unsigned i = 0; i < HF_ARRAY_LEN(acks); i++) {
			snprintf(mid, sizeof mid, "%s-%d", acks[i] ? acks[i] : "absent", good);
			give(w, mid, acks[i]);
		}
		for (unsigned i = 0; i < HF_ARRAY_LEN(acks); i++)
			assert_int_equal(hub_c2d_settle(w->m, "d", take(w, w)->lock, good ? HUB_COMPLETE : HUB_REJECT), 0);
	}
	for (unsigned i = 0; i < HF_ARRAY_LEN(acks); i++) {
		snprintf(mid, sizeof mid, "%s-p", acks[i] ? acks[i] : "absent");
		give(w, mid, acks[i]);
	}
	assert_int_equal(hub_c2d_purge(w->m, "d", &n), 0);
	assert_int_equal(n, 5);
	commit(w);
	reopen(w);
	expect_outcomes(w, want, 6);
	assert_int_equal(hub_feedback_count(w->m, HUB_FEEDBACK_C2D), 0);
}

static void complete_one(struct world *w, const char *mid)
{
	give(w, mid, "full");
	assert_int_equal(hub_c2d_settle(w->m, "d", take(w, w)->lock, HUB_COMPLETE), 0);
}

static void test_feedback_batches(void **state)
{
	struct world *w = *state;
	struct hub_feedback batch, second;
	json_t *list;

	for (unsigned i = 0; i < 70; i++)
		complete_one(w, "m");
	commit(w);
	assert_int_equal(w->feedback_told, 1);		/* 64 are a batch, at once */
	assert_int_equal(hub_feedback_receive(w->m, HUB_FEEDBACK_C2D, w, &batch), 0);
	list = json_loads(batch.json, 0, NULL);
	assert_int_equal(json_array_size(list), 64);
	json_decref(list);
	free(batch.json);
	assert_int_equal(hub_feedback_receive(w->m, HUB_FEEDBACK_C2D, &batch, &second), 0);
	free(second.json);
	assert_int_equal(hub_feedback_receive(w->m, HUB_FEEDBACK_C2D, w, &second), HF_ENOTFOUND);
	hub_feedback_release(w->m, HUB_FEEDBACK_C2D, batch.lock);	/* one batch goes back, the other stays locked */
	assert_int_equal(hub_feedback_receive(w->m, HUB_FEEDBACK_C2D, w, &batch), 0);
	free(batch.json);
	assert_int_equal(batch.delivery_count, 0);
	assert_int_equal(hub_feedback_receive(w->m, HUB_FEEDBACK_C2D, w, &second), HF_ENOTFOUND);
	assert_int_equal(hub_feedback_settle(w->m, HUB_FEEDBACK_C2D, batch.lock, HUB_COMPLETE), 0);
	assert_int_equal(hub_feedback_settle(w->m, HUB_FEEDBACK_C2D, batch.lock, HUB_COMPLETE), HF_ENOTFOUND);
	assert_int_equal(hub_feedback_count(w->m, HUB_FEEDBACK_C2D), 6);
	w->feedback_told = 0;
	hub_feedback_release_all(w->m, HUB_FEEDBACK_C2D, &batch);
	advance(w, 1000);
	w->want = 2;
	hf_loop_run(w->loop);		/* fewer than 64 are told within a second */
	w->want = 0;
	assert_int_equal(w->feedback_told, 1);
	/* The lock ends; ten deliveries are enough; an hour is. */
	for (unsigned i = 0; i < 9; i++) {
		assert_int_equal(hub_feedback_receive(w->m, HUB_FEEDBACK_C2D, w, &batch), 0);
		free(batch.json);
		assert_int_equal(batch.delivery_count, i);
		assert_int_equal(hub_feedback_settle(w->m, HUB_FEEDBACK_C2D, batch.lock, HUB_ABANDON), 0);
	}
	commit(w);
	reopen(w);
	assert_int_equal(hub_feedback_receive(w->m, HUB_FEEDBACK_C2D, w, &batch), 0);
	free(batch.json);
	assert_int_equal(batch.delivery_count, 9);
	advance(w, HUB_FEEDBACK_LOCK_MS);
	assert_int_equal(hub_feedback_settle(w->m, HUB_FEEDBACK_C2D, batch.lock, HUB_COMPLETE), HF_ENOTFOUND);
	assert_int_equal(hub_feedback_receive(w->m, HUB_FEEDBACK_C2D, w, &batch), 0);
	free(batch.json);
	assert_int_equal(hub_feedback_settle(w->m, HUB_FEEDBACK_C2D, batch.lock, HUB_ABANDON), 0);
	assert_int_equal(hub_feedback_count(w->m, HUB_FEEDBACK_C2D), 0);
	complete_one(w, "old");
	advance(w, HOUR_MS);
	assert_int_equal(hub_feedback_receive(w->m, HUB_FEEDBACK_C2D, w, &batch), HF_ENOTFOUND);
	assert_int_equal(hub_feedback_count(w->m, HUB_FEEDBACK_C2D), 0);
}

static void test_files(void **state)
{
	struct world *w = *state;
	struct hub_feedback batch;
	json_t *record, *got;

	for (int i = 0; i < 2; i++) {
		record = json_pack("{ss si}", "deviceId", "d", "n", i);
		assert_int_equal(hub_feedback_add(w->m, HUB_FEEDBACK_FILES, record), 0);
		json_decref(record);
	}
	for (int i = 0; i < 2; i++) {
		assert_int_equal(hub_feedback_receive(w->m, HUB_FEEDBACK_FILES, w, &batch), 0);
		got = json_loads(batch.json, 0, NULL);
		assert_int_equal(json_integer_value(json_object_get(got, "n")), i);
		json_decref(got);
		free(batch.json);
	}
	assert_int_equal(hub_feedback_receive(w->m, HUB_FEEDBACK_FILES, w, &batch), HF_ENOTFOUND);
	assert_int_equal(hub_feedback_receive(w->m, HUB_FEEDBACK_C2D, w, &batch), HF_ENOTFOUND);
}

/* Deleting a device takes its queue along, also while the clock watches it. */
static void test_device_deleted(void **state)
{
	struct world *w = *state;
	struct hub_error err;

	give(w, "a", "full");
	assert_non_null(take(w, w));
	assert_int_equal(hub_ident_delete(w->m, "d", NULL, NULL, &err), 0);
	commit(w);
	advance(w, HOUR_MS);
	assert_int_equal(hub_c2d_count(w->m, "d"), 0);
	reopen(w);
	assert_int_equal(hub_feedback_count(w->m, HUB_FEEDBACK_C2D), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_queue, setup, teardown),
		cmocka_unit_test_setup_teardown(test_locks, setup, teardown),
		cmocka_unit_test_setup_teardown(test_abandon, setup, teardown),
		cmocka_unit_test_setup_teardown(test_expiry, setup, teardown),
		cmocka_unit_test_setup_teardown(test_feedback_per_ack, setup, teardown),
		cmocka_unit_test_setup_teardown(test_feedback_batches, setup, teardown),
		cmocka_unit_test_setup_teardown(test_files, setup, teardown),
		cmocka_unit_test_setup_teardown(test_device_deleted, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
