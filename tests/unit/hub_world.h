/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A hub's model in a fresh folder, and its loop run until something holds. For unit tests. */
#pragma once
#include "core/util.h"
#include "hub/model/model.h"

#include <stdio.h>
#include <unistd.h>

struct world {
	char dir[64];
	struct hf_loop *loop;
	struct hub_model *m;
	struct hf_timer *poll;
	bool (*holds)(struct world *w);
	unsigned polls;
	struct hub_wait wait;
	int err;
	const char *name;		/* for the test's own use */
};

static void world_open(struct world *w)
{
	struct hub_model_cfg cfg = { .dir = w->dir, .host = "hub.test" };

	assert_int_equal(hf_loop_create(&w->loop), 0);
	assert_int_equal(hub_model_open(w->loop, &cfg, &w->m), 0);
}

static void world_close(struct world *w)
{
	hub_model_close(&w->m);
	hf_loop_destroy(&w->loop);
}

static int world_setup(void **state)
{
	struct world *w = calloc(1, sizeof *w);

	snprintf(w->dir, sizeof w->dir, "/tmp/holdfast-hub-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	world_open(w);
	*state = w;
	return 0;
}

static int world_teardown(void **state)
{
	static const char *const files[] = { "state.mdb", "state.mdb-lock", "events.mdb", "events.mdb-lock", "lock" };
	struct world *w = *state;
	char path[128];

	world_close(w);
	for (unsigned i = 0; i < HF_ARRAY_LEN(files); i++) {
		snprintf(path, sizeof path, "%s/%s", w->dir, files[i]);
		unlink(path);
	}
	rmdir(w->dir);
	free(w);
	return 0;
}

static void world_poll(void *arg)
{
	struct world *w = arg;

	if (w->holds(w))
		hf_loop_stop(w->loop);
	else if (++w->polls > 10000)
		fail_msg("waited in vain");
}

/* Runs the loop until holds(w). */
static void world_until(struct world *w, bool (*holds)(struct world *w))
{
	w->holds = holds;
	w->polls = 0;
	assert_int_equal(hf_timer_create(w->loop, world_poll, w, &w->poll), 0);
	hf_timer_start(w->poll, 1, 1);
	hf_loop_run(w->loop);
	hf_timer_destroy(&w->poll);
}

static void world_committed(void *arg, int err)
{
	struct world *w = arg;

	w->err = err;
	hf_loop_stop(w->loop);
}

static void world_commit(struct world *w)
{
	hub_commit_wait(w->m, &w->wait, world_committed, w);
	hf_loop_run(w->loop);
	assert_int_equal(w->err, 0);
}

static json_t *world_json(const char *text)	/* with ' for " */
{
	hf_autobuf struct hf_buf b = HF_BUF_INIT(1 << 16);
	json_error_t bad;
	json_t *o;

	for (; *text; text++)
		hf_buf_putc(&b, *text == '\'' ? '"' : *text);
	o = json_loads(hf_buf_cstr(&b), 0, &bad);
	if (!o)
		fail_msg("%s at %d", bad.text, bad.column);
	return o;
}

static const struct hub_ident *world_find(struct world *w, const char *id)
{
	return hub_ident_find(w->m, hf_span_str(id));
}

static void world_put(struct world *w, const char *device, const char *module, const char *doc)
{
	json_t *o = world_json(doc);
	struct hub_error err;

	assert_int_equal(hub_ident_put(w->m, device, module, o, NULL, NULL, &err), 0);
	json_decref(o);
}

static void world_twin(struct world *w, const char *id, const char *patch)
{
	json_t *o = world_json(patch);
	struct hub_error err;

	assert_int_equal(hub_twin_update(w->m, world_find(w, id), o, false, NULL, NULL, &err), 0);
	json_decref(o);
}

/* A member of the twin by a path with dots; borrowed from *io_doc, which is kept until the next call. */
static const json_t *world_member(struct world *w, const char *id, const char *path, json_t **io_doc)
{
	struct hf_span rest = hf_span_str(path), part;
	const json_t *at;
	bool more = true;

	json_decref(*io_doc);
	at = *io_doc = hub_twin_doc(w->m, world_find(w, id));
	while (more && at) {
		hf_autofree char *name = NULL;

		more = hf_span_cut(&rest, '.', &part);
		name = hf_span_dup(part);
		at = json_object_get(at, name);
	}
	return at;
}
