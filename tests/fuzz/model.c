/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/log.h"
#include "core/util.h"
#include "fuzz.h"

#include <stdio.h>
#include <stdlib.h>

static struct hf_loop *loop;
static struct hub_model *model;

static void close_model(void)
{
	hub_model_close(&model);
	hf_loop_destroy(&loop);
}

struct hub_model *fuzz_model(void)
{
	static const char *const files[] = { "state.mdb", "state.mdb-lock", "events.mdb", "events.mdb-lock", "lock" };
	char dir[] = "/tmp/holdfast-fuzz-XXXXXX", path[64];
	struct hub_model_cfg cfg = { .dir = dir, .host = "hub.test", .max_bytes = 4 << 20 };

	if (model)
		return model;
	FUZZ_CHECK(mkdtemp(dir) && hf_loop_create(&loop) == 0 && hub_model_open(loop, &cfg, &model) == 0);
	for (unsigned i = 0; i < HF_ARRAY_LEN(files); i++) {
		snprintf(path, sizeof path, "%s/%s", dir, files[i]);
		unlink(path);
	}
	rmdir(dir);
	atexit(close_model);
	return model;
}

struct hf_loop *fuzz_loop(void)
{
	fuzz_model();
	return loop;
}

static void committed(void *arg, int err)
{
	(void)arg;
	FUZZ_CHECK(err == 0);
	hf_loop_stop(loop);
}

void fuzz_commit(void)
{
	struct hub_wait wait = { 0 };

	hub_commit_wait(fuzz_model(), &wait, committed, NULL);
	hf_loop_run(loop);
}
