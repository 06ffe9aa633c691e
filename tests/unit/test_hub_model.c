/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The emulator's model: registry rules, twins, events, C2D, methods, and what survives kill -9. */
#include "core/clock.h"
#include "core/util.h"
#include "hub/model/model.h"

#include <errno.h>
#include <holdfast/err.h>

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/wait.h>

#include <cmocka.h>

struct world {
	char dir[64];
	struct hf_loop *loop;
	struct hub_model *m;
	struct hub_wait wait;
	int err;
	unsigned notes;
	uint32_t max_age_s;
	int64_t desired;
};

static void open_model(struct world *w, uint64_t max_bytes)
{
	struct hub_model_cfg cfg = { .dir = w->dir, .host = "hub.test", .max_bytes = max_bytes, .max_age_s = w->max_age_s };

	assert_int_equal(hf_loop_create(&w->loop), 0);
	assert_int_equal(hub_model_open(w->loop, &cfg, &w->m), 0);
}

static void close_model(struct world *w)
{
	hub_model_close(&w->m);
	hf_loop_destroy(&w->loop);
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof *w);

	snprintf(w->dir, sizeof w->dir, "/tmp/holdfast-model-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	open_model(w, 0);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	static const char *const files[] = { "state.mdb", "state.mdb-lock", "events.mdb", "events.mdb-lock", "lock" };
	struct world *w = *state;
	char path[128];

	close_model(w);
	for (unsigned i = 0; i < HF_ARRAY_LEN(files); i++) {
		snprintf(path, sizeof path, "%s/%s", w->dir, files[i]);
		unlink(path);
	}
	rmdir(w->dir);
	free(w);
	return 0;
}

static void committed(void *arg, int err)
{
	struct world *w = arg;

	w->err = err;
	hf_loop_stop(w->loop);
}

static int commit(struct world *w)
{
	hub_commit_wait(w->m, &w->wait, committed, w);
	hf_loop_run(w->loop);
	return w->err;
}

/* Puts a document given with single quotes; returns the code. */
static int put(struct world *w, const char *device, const char *module, const char *text, const char *if_match,
	       struct hub_error *err)
{
	char buf[1024];
	size_t n = 0;
	json_t *doc;
	int r;

	for (; text[n] && n < sizeof buf - 1; n++)
		buf[n] = text[n] == '\'' ? '"' : text[n];
	buf[n] = '\0';
	doc = json_loads(buf, 0, NULL);
	assert_non_null(doc);
	r = hub_ident_put(w->m, device, module, doc, if_match, NULL, err);
	json_decref(doc);
	return r;
}

static const struct hub_ident *find(struct world *w, const char *id)
{
	return hub_ident_find(w->m, hf_span_str(id));
}

static json_t *json(const char *text)
{
	json_t *o = json_loads(text, 0, NULL);

	assert_non_null(o);
	return o;
}

static void test_registry_rules(void **state)
{
	struct world *w = *state;
	struct hub_error err;
	char doc[512], scope[256];

	assert_int_equal(put(w, "edge1", NULL, "{'deviceId':'edge1','capabilities':{'iotEdge':true}}", NULL, &err), 0);
	assert_non_null(find(w, "edge1/$edgeHub"));
	assert_non_null(find(w, "edge1/$edgeAgent"));
	assert_string_equal(find(w, "edge1/$edgeHub")->managed_by, "iotEdge");
	snprintf(scope, sizeof scope, "%s", find(w, "edge1")->device_scope);

	snprintf(doc, sizeof doc, "{'deviceScope':'%s'}", scope);
	assert_int_equal(put(w, "dev0", NULL, doc, NULL, &err), 0);
	assert_string_equal(find(w, "dev0")->parent_scope, scope);
	assert_int_equal(put(w, "dev0", NULL, doc, NULL, &err), HF_EEXISTS);
	assert_int_equal(err.code, 409001);
	assert_int_equal(put(w, "dev0", NULL, "{}", "\"bad\"", &err), HF_ESTALE);
	assert_int_equal(put(w, "none", NULL, "{}", "*", &err), HF_ENOTFOUND);
	assert_int_equal(put(w, "x", NULL, "{'deviceScope':'ms-azure-iot-edge://no-1'}", NULL, &err), HF_EINVALID);
	assert_int_equal(err.code, 400028);
	assert_int_equal(put(w, "x y", NULL, "{}", NULL, &err), HF_EINVALID);
	assert_int_equal(put(w, "x+", NULL, "{}", NULL, &err), HF_EINVALID);
	assert_int_equal(put(w, "x#", NULL, "{}", NULL, &err), HF_EINVALID);
	/* Nobody could name these in a URL; "DELETE /devices/dev0/modules/.." would be about dev0. */
	assert_int_equal(put(w, "..", NULL, "{}", NULL, &err), HF_EINVALID);
	assert_int_equal(put(w, "dev0", "..", "{}", NULL, &err), HF_EINVALID);
	assert_int_equal(put(w, "dev0", ".", "{}", NULL, &err), HF_EINVALID);
	assert_int_equal(put(w, "dev0", "...", "{}", NULL, &err), 0);
	assert_int_equal(put(w, "x", NULL, "{'deviceId':'y'}", NULL, &err), HF_EINVALID);
	assert_int_equal(put(w, "x", NULL, "{'authentication':{'symmetricKey':{'primaryKey':'AA=='}}}", NULL, &err),
			 HF_EINVALID);

	assert_int_equal(hub_ident_delete(w->m, "edge1/$edgeHub", NULL, NULL, &err), HF_ENOTFOUND);	/* no device is called so */
	assert_non_null(find(w, "edge1/$edgeHub"));

	/* An update without a word about the parent or a key keeps it, an empty key makes a new one. */
	hf_autofree char *key = strdup(find(w, "dev0")->primary_key);

	assert_int_equal(put(w, "dev0", NULL, "{'status':'disabled','authentication':{'type':'sas','symmetricKey':"
			     "{'secondaryKey':''}}}", "\"*\"", &err), 0);
	assert_string_equal(find(w, "dev0")->primary_key, key);
	assert_int_equal(put(w, "dev0", NULL, "{'authentication':{'type':'sas','symmetricKey':{'primaryKey':''}}}", "*", &err), 0);
	assert_string_not_equal(find(w, "dev0")->primary_key, key);
	assert_string_equal(find(w, "dev0")->parent_scope, scope);
	assert_false(find(w, "dev0")->enabled);

	/* For a leaf deviceScope decides, whatever stands in parentScopes. */
	snprintf(doc, sizeof doc, "{'deviceScope':'','parentScopes':['%s']}", scope);
	assert_int_equal(put(w, "dev0", NULL, doc, "*", &err), 0);
	assert_string_equal(find(w, "dev0")->parent_scope, "");

	/* Nested edge devices: no cycle; a parent's end frees its children. */
	snprintf(doc, sizeof doc, "{'capabilities':{'iotEdge':true},'parentScopes':['%s']}", scope);
	assert_int_equal(put(w, "edge2", NULL, doc, NULL, &err), 0);
	snprintf(doc, sizeof doc, "{'parentScopes':['%s']}", find(w, "edge2")->device_scope);
	assert_int_equal(put(w, "edge1", NULL, doc, "*", &err), HF_EINVALID);
	assert_int_equal(hub_ident_delete(w->m, "edge1", NULL, NULL, &err), 0);
	assert_null(find(w, "edge1/$edgeHub"));
	assert_string_equal(find(w, "edge2")->parent_scope, "");
	assert_int_equal(hub_ident_delete(w->m, "edge1", NULL, NULL, &err), HF_ENOTFOUND);
	assert_int_equal(commit(w), 0);
}

static unsigned n_with_parent(struct world *w)
{
	unsigned n = 0;

	for (const struct hub_ident *d = hub_device_next(w->m, NULL); d; d = hub_device_next(w->m, d->device_id))
		n += *d->parent_scope || *d->device_scope;
	return n;
}

/* A parent of many: its end is one small commit, and lasts however the hub ends after it. */
static void test_parent_of_many(void **state)
{
	struct world *w = *state;
	struct hub_error err;
	char doc[512], id[32];
	char *first, *last;
	int status;
	pid_t pid;

	assert_int_equal(put(w, "edge", NULL, "{'capabilities':{'iotEdge':true}}", NULL, &err), 0);
	snprintf(doc, sizeof doc, "{'deviceScope':'%s'}", find(w, "edge")->device_scope);
	for (unsigned i = 0; i < 2500; i++) {
		snprintf(id, sizeof id, "d%04u", i);
		assert_int_equal(put(w, id, NULL, doc, NULL, &err), 0);
	}
	assert_int_equal(commit(w), 0);
	close_model(w);
	open_model(w, 0);
	assert_int_equal(n_with_parent(w), 2501);
	close_model(w);

	/* Killed right after the answer. */
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		open_model(w, 0);
		_exit(hub_ident_delete(w->m, "edge", NULL, NULL, &err) != 0 || commit(w) != 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	open_model(w, 0);
	assert_null(find(w, "edge"));
	assert_int_equal(n_with_parent(w), 0);

	/* Ended in order: what the service was told stands. */
	assert_int_equal(put(w, "edge", NULL, "{'capabilities':{'iotEdge':true}}", NULL, &err), 0);
	snprintf(doc, sizeof doc, "{'deviceScope':'%s'}", find(w, "edge")->device_scope);
	for (unsigned i = 0; i < 2500; i++) {
		snprintf(id, sizeof id, "d%04u", i);
		assert_int_equal(put(w, id, NULL, doc, "*", &err), 0);
	}
	assert_int_equal(commit(w), 0);
	assert_int_equal(hub_ident_delete(w->m, "edge", NULL, NULL, &err), 0);
	assert_int_equal(hub_ident_delete(w->m, "d2499", NULL, NULL, &err), 0);
	first = strdup(find(w, "d0000")->etag);
	last = strdup(find(w, "d2498")->etag);
	assert_int_equal(commit(w), 0);
	close_model(w);
	open_model(w, 0);
	assert_int_equal(n_with_parent(w), 0);
	assert_string_equal(find(w, "d0000")->etag, first);
	assert_string_equal(find(w, "d2498")->etag, last);
	free(first);
	free(last);
}

static void on_scopes(void *arg)
{
	((struct world *)arg)->notes++;
}

/* A device becomes an edge device and back; listeners hear of parents once a commit, and only of parents. */
static void test_kinds(void **state)
{
	struct world *w = *state;
	struct hub_error err;
	char doc[1024], scope[256], own[256];

	hub_on_scopes(w->m, on_scopes, w);
	assert_int_equal(put(w, "top", NULL, "{'capabilities':{'iotEdge':true}}", NULL, &err), 0);
	snprintf(scope, sizeof scope, "%s", find(w, "top")->device_scope);
	snprintf(doc, sizeof doc, "{'deviceScope':'%s'}", scope);
	assert_int_equal(put(w, "a", NULL, doc, NULL, &err), 0);
	assert_int_equal(put(w, "b", NULL, doc, NULL, &err), 0);
	assert_int_equal(commit(w), 0);
	assert_int_equal(w->notes, 1);
	assert_int_equal(put(w, "a", NULL, "{'statusReason':'x'}", "*", &err), 0);
	assert_int_equal(commit(w), 0);
	assert_int_equal(w->notes, 1);

	snprintf(doc, sizeof doc, "{'capabilities':{'iotEdge':true},'deviceScope':'%s','parentScopes':['%s']}", scope, scope);
	assert_int_equal(put(w, "a", NULL, doc, "*", &err), 0);
	snprintf(own, sizeof own, "%s", find(w, "a")->device_scope);
	assert_string_not_equal(own, scope);
	assert_string_equal(find(w, "a")->parent_scope, scope);
	assert_ptr_equal(hub_ident_parent(w->m, find(w, "a")), find(w, "top"));
	assert_non_null(find(w, "a/$edgeHub"));

	/* The whole document again, with the scope that was its own: it goes back below its parent. */
	snprintf(doc, sizeof doc, "{'capabilities':{'iotEdge':false},'deviceScope':'%s','parentScopes':['%s']}", own, scope);
	assert_int_equal(put(w, "a", NULL, doc, "*", &err), 0);
	assert_string_equal(find(w, "a")->device_scope, scope);
	assert_null(find(w, "a/$edgeHub"));
	assert_int_equal(put(w, "top", NULL, "{'capabilities':{'iotEdge':false}}", "*", &err), HF_EINVALID);
	assert_int_equal(err.code, 400028);

	/* Freed for good, with other etags. */
	hf_autofree char *etag = strdup(find(w, "b")->etag);

	assert_int_equal(hub_ident_delete(w->m, "top", NULL, "*", &err), 0);
	assert_int_equal(commit(w), 0);
	close_model(w);
	open_model(w, 0);
	assert_string_equal(find(w, "a")->device_scope, "");
	assert_string_equal(find(w, "b")->parent_scope, "");
	assert_string_not_equal(find(w, "b")->etag, etag);
}

static void on_desired(void *arg, const char *id, const json_t *patch, int64_t version)
{
	struct world *w = arg;

	assert_string_equal(id, "d");
	assert_int_equal(json_integer_value(json_object_get(patch, "$version")), version);
	w->notes++;
	w->desired = version;
}

static void test_twins(void **state)
{
	struct world *w = *state;
	struct hub_error err;
	json_t *patch = json("{\"tags\":{\"a\":1},\"properties\":{\"desired\":{\"x\":{\"y\":1},\"$version\":9}}}");
	json_t *bad = json("{\"properties\":{\"desired\":{\"a.b\":1}}}"), *doc = NULL, *rep = json("{\"r\":[1,2]}");
	int64_t version = 0;

	hub_on_desired(w->m, on_desired, w);
	assert_int_equal(put(w, "d", NULL, "{}", NULL, &err), 0);
	assert_int_equal(hub_twin_update(w->m, find(w, "d"), patch, false, "*", &doc, &err), 0);
	assert_int_equal(w->notes, 0);		/* not before the commit */
	assert_int_equal(json_integer_value(json_object_get(json_object_get(json_object_get(doc, "properties"),
			 "desired"), "$version")), 2);
	json_decref(doc);
	assert_int_equal(commit(w), 0);
	assert_int_equal(w->notes, 1);
	assert_int_equal(w->desired, 2);
	assert_int_equal(hub_twin_update(w->m, find(w, "d"), patch, false, "\"stale\"", NULL, &err), HF_ESTALE);
	assert_int_equal(hub_twin_update(w->m, find(w, "d"), bad, false, NULL, NULL, &err), HF_EINVALID);
	assert_int_equal(hub_twin_report(w->m, find(w, "d"), rep, 10, -1, &version, &err), 0);
	assert_int_equal(version, 2);
	assert_int_equal(hub_twin_report(w->m, find(w, "d"), rep, 10, 1, &version, &err), HF_ESTALE);
	assert_int_equal(commit(w), 0);
	json_decref(patch);
	json_decref(bad);
	json_decref(rep);

	close_model(w);
	open_model(w, 0);
	doc = hub_twin_device_view(w->m, find(w, "d"));
	assert_int_equal(json_integer_value(json_object_get(json_object_get(doc, "desired"), "$version")), 2);
	assert_int_equal(json_integer_value(json_object_get(json_object_get(doc, "reported"), "$version")), 2);
	assert_int_equal(json_array_size(json_object_get(json_object_get(doc, "reported"), "r")), 2);
	json_decref(doc);
}

static void test_events(void **state)
{
	struct world *w = *state;
	struct hub_error err;
	uint64_t seq = 0, at = 1;
	json_t *o, *sys;

	assert_int_equal(put(w, "d", NULL, "{}", NULL, &err), 0);
	assert_int_equal(hub_event_append(w->m, find(w, "d"), "sas",
					  hf_span_str("%24.mid=m1&a=b%20c&n&$.cdid=liar&%24x=y"), hf_span_str("hey"),
					  "Telemetry", &seq), 0);
	assert_int_equal(seq, 1);
	assert_null(hub_event_get(w->m, &at));		/* committed ones only */
	assert_int_equal(commit(w), 0);
	o = hub_event_get(w->m, &at);
	assert_non_null(o);
	assert_int_equal(json_object_size(o), 9);
	assert_string_equal(json_string_value(json_object_get(o, "bodyBase64")), "aGV5");
	sys = json_object_get(o, "systemProperties");
	assert_string_equal(json_string_value(json_object_get(sys, "messageId")), "m1");
	assert_string_equal(json_string_value(json_object_get(sys, "iothub-connection-device-id")), "d");
	assert_string_equal(json_string_value(json_object_get(json_object_get(o, "properties"), "a")), "b c");
	assert_true(json_is_null(json_object_get(json_object_get(o, "properties"), "n")));
	assert_int_equal(json_object_size(json_object_get(o, "properties")), 3);
	json_decref(o);
	at++;
	assert_null(hub_event_get(w->m, &at));
}

struct seen { uint64_t next[HUB_PARTITIONS], n; int device_partition[6]; };

static bool see(void *arg, const struct hub_event *e)
{
	struct seen *s = arg;
	int d = e->ident.ptr[0] - 'a';

	assert_int_equal(e->partition_seq, s->next[e->partition]++);
	assert_true(s->device_partition[d] < 0 || s->device_partition[d] == (int)e->partition);
	s->device_partition[d] = (int)e->partition;
	s->n++;
	return true;
}

static bool first(void *arg, const struct hub_event *e)
{
	*(struct hub_event *)arg = *e;
	return false;
}

/* A device stays in its partition, numbers there have no gap, also across a restart. */
static void test_partitions(void **state)
{
	struct world *w = *state;
	struct hub_error err;
	struct seen seen = { .device_partition = { -1, -1, -1, -1, -1, -1 } };
	struct hub_event_tail tail;
	struct hub_event e = { 0 };
	char id[2] = "a";
	uint64_t seq;

	for (unsigned i = 0; i < 60; i++) {
		id[0] = (char)('a' + i % 6);
		if (i < 6)
			assert_int_equal(put(w, id, NULL, "{}", NULL, &err), 0);
		assert_int_equal(hub_event_append(w->m, find(w, id), "sas", hf_span("", 0), hf_span_str("x"), "Telemetry", &seq), 0);
		if (i % 7 == 0)
			assert_int_equal(commit(w), 0);
		if (i == 30) {
			assert_int_equal(commit(w), 0);
			close_model(w);
			open_model(w, 0);
		}
	}
	assert_int_equal(commit(w), 0);
	assert_int_equal(hub_event_scan(w->m, 0, see, &seen), 0);
	assert_int_equal(seen.n, 60);
	for (unsigned p = 0; p < HUB_PARTITIONS; p++) {
		hub_event_partition(w->m, p, &tail);
		assert_int_equal(tail.is_empty, seen.next[p] == 0);
		if (tail.is_empty)
			continue;
		assert_int_equal(tail.begin_seq, 0);
		assert_int_equal(tail.next_seq, seen.next[p]);
		assert_int_equal(hub_event_scan(w->m, tail.last_offset, first, &e), 0);
		assert_true(e.partition == p && e.partition_seq + 1 == tail.next_seq);
		assert_int_equal(e.enqueued_ms, tail.last_enqueued_ms);
		for (uint64_t n = 0; n < seen.next[p]; n++) {
			struct hub_event_position at = { .by_partition_seq = true, .partition = p, .partition_seq = n };
			uint64_t from = hub_event_seek(w->m, &at);

			assert_int_equal(hub_event_scan(w->m, from, first, &e), 0);
			while (e.partition != p)
				assert_int_equal(hub_event_scan(w->m, e.seq + 1, first, &e), 0);
			assert_int_equal(e.partition_seq, n);
		}
	}
	struct hub_event_position later = { .enqueued_ms = INT64_MAX };
	assert_int_equal(hub_event_seek(w->m, &later), 61);
}

/* Where nearly all events are of one partition, a search in another one ends early, and before the place. */
static void test_sparse_partition(void **state)
{
	struct world *w = *state;
	struct hub_event_position at = { .by_partition_seq = true, .partition_seq = 1 };
	struct hub_error err;
	struct hub_event e = { 0 };
	uint64_t seq = 0, rare[2] = { 0 };

	assert_int_equal(put(w, "a", NULL, "{}", NULL, &err), 0);
	assert_int_equal(put(w, "b", NULL, "{}", NULL, &err), 0);
	for (unsigned i = 0; i < 6000; i++) {
		const char *id = i == 1500 || i == 4500 ? "b" : "a";

		assert_int_equal(hub_event_append(w->m, find(w, id), "sas", hf_span("", 0), hf_span_str("x"), "Telemetry", &seq), 0);
		if (*id == 'b')
			rare[i > 3000] = seq;
	}
	assert_int_equal(commit(w), 0);
	assert_int_equal(hub_event_scan(w->m, rare[1], first, &e), 0);
	at.partition = e.partition;
	assert_int_equal(e.partition_seq, 1);
	assert_in_range(hub_event_seek(w->m, &at), 1, rare[1]);
}

static void test_retention(void **state)
{
	struct world *w = *state;
	struct hub_error err;
	static uint8_t body[8000];
	uint64_t seq = 0, at = 1;
	json_t *o;

	close_model(w);
	open_model(w, 8 << 20);
	assert_int_equal(put(w, "d", NULL, "{}", NULL, &err), 0);
	for (unsigned i = 0; i < 4000; i++) {	/* 32 MB through 8 MiB */
		assert_int_equal(hub_event_append(w->m, find(w, "d"), "sas", hf_span("", 0),
						  hf_span(body, sizeof body), "Telemetry", &seq), 0);
		if (i % 10 == 9)
			assert_int_equal(commit(w), 0);
	}
	assert_int_equal(seq, 4000);
	o = hub_event_get(w->m, &at);
	assert_non_null(o);
	assert_true(at > 2000);
	assert_int_equal(hub_event_first(w->m), at);
	for (unsigned p = 0; p < HUB_PARTITIONS; p++) {
		struct hub_event_tail tail;

		hub_event_partition(w->m, p, &tail);
		assert_int_equal(tail.begin_seq, tail.is_empty ? 0 : at - 1);	/* all are of one device */
		assert_int_equal(tail.next_seq, tail.is_empty ? 0 : 4000);
	}
	json_decref(o);
	close_model(w);
	open_model(w, 8 << 20);
	assert_int_equal(hub_event_end(w->m), 4001);
}

struct call_result { struct world *w; int status; unsigned n; int code; };

static void call_done(void *arg, int status, struct hf_span body, const struct hub_error *err)
{
	struct call_result *c = arg;

	(void)body;
	c->n++;
	c->status = status;
	c->code = err ? err->code : 0;
	hf_loop_stop(c->w->loop);
}

static void answer(void *arg, const char *name, const char *rid, struct hf_span payload)
{
	struct world *w = arg;

	assert_string_equal(name, "go");
	assert_true(hf_span_is(payload, "{\"a\":1}") || payload.len == 0);
	hub_method_answer(w->m, "d", hf_span_str("zzz"), 1, payload);	/* unknown: ignored */
	hub_method_answer(w->m, "d", hf_span_str(rid), 201, payload);
}

static void answer_without_payload(void *arg, const char *name, const char *rid, struct hf_span payload)
{
	assert_int_equal(payload.len, 0);
	answer(arg, name, rid, payload);
}

static void keep_silent(void *arg, const char *name, const char *rid, struct hf_span payload)
{
	(void)arg, (void)name, (void)rid, (void)payload;
}

static void look(void *arg)
{
	hf_loop_stop(((struct world *)arg)->loop);
}

/* Runs the loop until the oldest event is the one with this number. */
static void wait_first(struct world *w, uint64_t seq)
{
	struct hf_timer *t;

	assert_int_equal(hf_timer_create(w->loop, look, w, &t), 0);
	hf_timer_start(t, 2, 2);
	for (unsigned i = 0; hub_event_first(w->m) != seq; i++) {
		assert_true(i < 2000);
		hf_loop_run(w->loop);
	}
	hf_timer_destroy(&t);
}

static void append(struct world *w, const char *id, unsigned n)
{
	uint64_t seq;

	while (n-- > 0)
		assert_int_equal(hub_event_append(w->m, find(w, id), "sas", hf_span("", 0), hf_span_str("x"), "Telemetry", &seq), 0);
	assert_int_equal(commit(w), 0);
}

/* Goes by the clock, while nothing comes; numbers go on after it, also over a restart. */
static void test_retention_by_age(void **state)
{
	struct hf_clock_fake clock = { .mono_ms = 1, .boot_ms = 1, .wall_ms = 1800000000000 };
	struct world *w = *state;
	struct hub_event_tail tail;
	struct hub_error err;

	hf_clock_fake(&clock);
	assert_int_equal(put(w, "d", NULL, "{}", NULL, &err), 0);
	append(w, "d", 5000);		/* more than one slice */
	clock.wall_ms += 50000;
	hf_clock_fake(&clock);
	append(w, "d", 5);
	w->max_age_s = 100;
	close_model(w);
	open_model(w, 0);
	clock.wall_ms += 50001;
	hf_clock_fake(&clock);
	wait_first(w, 5001);
	for (unsigned p = 0; p < HUB_PARTITIONS; p++) {
		hub_event_partition(w->m, p, &tail);
		if (!tail.is_empty)
			assert_int_equal(tail.begin_seq, 5000);
	}
	clock.wall_ms += 50001;
	hf_clock_fake(&clock);
	close_model(w);
	open_model(w, 0);
	wait_first(w, 5006);
	close_model(w);
	open_model(w, 0);
	assert_int_equal(hub_event_first(w->m), 5006);
	assert_int_equal(hub_event_end(w->m), 5006);
	for (unsigned p = 0; p < HUB_PARTITIONS; p++) {
		hub_event_partition(w->m, p, &tail);
		assert_true(tail.is_empty);
		assert_true(tail.next_seq == 0 || (tail.next_seq == 5005 && tail.begin_seq == 5005));
	}
	append(w, "d", 1);
	assert_int_equal(hub_event_first(w->m), 5006);
	assert_int_equal(hub_event_end(w->m), 5007);
	hf_clock_fake(NULL);
}

static void test_methods(void **state)
{
	struct world *w = *state;
	struct hub_error err;
	struct call_result c = { .w = w };
	json_t *payload = json("{\"a\":1}");
	char name[] = "go";
	struct hub_method_call call = { .target = "d", .name = name, .payload = payload, .response_timeout_s = 5,
					.done = call_done, .arg = &c };
	struct hub_method_sink sink = { .id = "d", .send = answer, .arg = w };

	assert_int_equal(hub_method_invoke(w->m, &call), HF_ENOTFOUND);
	assert_int_equal(put(w, "d", NULL, "{}", NULL, &err), 0);
	assert_int_equal(hub_method_invoke(w->m, &call), 0);
	hf_loop_run(w->loop);
	assert_int_equal(c.code, 404103);
	call.connect_timeout_s = 60;
	assert_int_equal(hub_method_invoke(w->m, &call), 0);
	hub_method_sink_add(w->m, &sink);		/* connects in time */
	assert_int_equal(c.n, 2);
	assert_int_equal(c.status, 201);
	sink.send = answer_without_payload;		/* null is no bytes, as when it is left out */
	call.payload = json_null();
	assert_int_equal(hub_method_invoke(w->m, &call), 0);
	call.payload = NULL;
	assert_int_equal(hub_method_invoke(w->m, &call), 0);
	assert_int_equal(c.n, 4);
	call.payload = payload;
	sink.send = keep_silent;
	assert_int_equal(hub_method_invoke(w->m, &call), 0);
	hub_method_sink_remove(w->m, &sink);
	assert_int_equal(c.code, 404104);
	assert_int_equal(c.n, 5);
	json_decref(payload);
}

/* A child process acknowledges over a pipe after each commit and is killed amid work. */
static void worker(struct world *w, int fd)
{
	struct hub_error err;
	uint64_t seq = 0;
	char id[32];

	open_model(w, 0);
	for (unsigned i = 0;; i++) {
		snprintf(id, sizeof id, "k%u", i);
		if (put(w, id, NULL, "{}", NULL, &err) != 0 ||
		    hub_event_append(w->m, find(w, id), "sas", hf_span("", 0), hf_span_str(id), "Telemetry", &seq) != 0 ||
		    commit(w) != 0 || write(fd, &seq, sizeof seq) != sizeof seq)
			_exit(1);
	}
}

static void test_one_process_a_directory(void **state)
{
	struct world *w = *state;
	struct hub_model_cfg cfg = { .dir = w->dir, .host = "hub.test" };
	struct hub_model *second = NULL;

	assert_int_equal(hub_model_open(w->loop, &cfg, &second), -EBUSY);
	assert_null(second);
	close_model(w);
	open_model(w, 0);
}

static void test_kill(void **state)
{
	struct world *w = *state;
	uint64_t seq = 0, last = 0, at = 0;
	char id[32];
	json_t *o;
	int fds[2], status;
	pid_t pid;

	close_model(w);
	assert_int_equal(pipe(fds), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		worker(w, fds[1]);
	close(fds[1]);
	while (last < 100 && read(fds[0], &seq, sizeof seq) == sizeof seq)
		last = seq;
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	while (read(fds[0], &seq, sizeof seq) == sizeof seq)
		last = seq;
	close(fds[0]);
	assert_true(last >= 100);
	open_model(w, 0);
	for (uint64_t i = 1; i <= last; i++) {
		snprintf(id, sizeof id, "k%llu", (unsigned long long)i - 1);
		assert_non_null(find(w, id));
		at = i;
		o = hub_event_get(w->m, &at);
		assert_non_null(o);
		assert_int_equal(at, i);
		assert_string_equal(json_string_value(json_object_get(o, "deviceId")), id);
		json_decref(o);
	}
}

/* What the service wrote and read back may come again; any other name with '$' is refused, not passed over. */
static void test_names_with_dollar(void **state)
{
	static const struct { const char *patch; bool is_taken; } cases[] = {
		{ "{\"properties\":{\"desired\":{\"$version\":7,\"$metadata\":{\"x\":{}},\"a\":1}}}", true },
		{ "{\"tags\":{\"$version\":7,\"$metadata\":{},\"a\":1}}", true },
		{ "{\"properties\":{\"desired\":{\"$mine\":1}}}", false },
		{ "{\"properties\":{\"desired\":{\"a\":{\"$version\":1}}}}", false },
		{ "{\"properties\":{\"desired\":{\"a\":{\"b\":[{\"$c\":1}]}}}}", false },
		{ "{\"tags\":{\"$mine\":1}}", false }, { "{\"tags\":{\"a\":{\"$metadata\":1}}}", false },
	};
	struct world *w = *state;
	struct hub_error err;

	assert_int_equal(put(w, "d", NULL, "{}", NULL, &err), 0);
	for (unsigned i = 0; i < 2 * HF_ARRAY_LEN(cases); i++) {
		json_t *patch = json(cases[i / 2].patch);
		int r = hub_twin_update(w->m, find(w, "d"), patch, i % 2, NULL, NULL, &err);

		json_decref(patch);
		if (r != (cases[i / 2].is_taken ? 0 : HF_EINVALID))
			fail_msg("%s: %d", cases[i / 2].patch, r);
	}
}

static void test_sorted(void **state)
{
	struct world *w = *state;
	struct hub_error err;
	const struct hub_ident *d = NULL;
	unsigned n = 0;
	char id[32];

	for (unsigned i = 0; i < 2000; i++) {
		snprintf(id, sizeof id, "d%u", i * 7919 % 2000);
		assert_int_equal(put(w, id, NULL, "{}", NULL, &err), 0);
	}
	id[0] = '\0';
	while ((d = hub_device_next(w->m, d ? id : NULL))) {
		assert_true(strcmp(d->id, id) > 0);
		snprintf(id, sizeof id, "%s", d->id);
		n++;
	}
	assert_int_equal(n, 2000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_registry_rules, setup, teardown),
		cmocka_unit_test_setup_teardown(test_parent_of_many, setup, teardown),
		cmocka_unit_test_setup_teardown(test_kinds, setup, teardown),
		cmocka_unit_test_setup_teardown(test_twins, setup, teardown),
		cmocka_unit_test_setup_teardown(test_events, setup, teardown),
		cmocka_unit_test_setup_teardown(test_partitions, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sparse_partition, setup, teardown),
		cmocka_unit_test_setup_teardown(test_retention, setup, teardown),
		cmocka_unit_test_setup_teardown(test_retention_by_age, setup, teardown),
		cmocka_unit_test_setup_teardown(test_methods, setup, teardown),
		cmocka_unit_test_setup_teardown(test_one_process_a_directory, setup, teardown),
		cmocka_unit_test_setup_teardown(test_kill, setup, teardown),
		cmocka_unit_test_setup_teardown(test_names_with_dollar, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sorted, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
