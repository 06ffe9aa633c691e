/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "loop/work.h"
#include "loop/loop_int.h"
#include <errno.h>
#include <stdlib.h>

struct work {
	uv_work_t uv;
	void (*run)(void *arg);
	void (*done)(void *arg);
	void *arg;
};

static void on_run(uv_work_t *uv)
{
	struct work *w = (struct work *)uv;

	w->run(w->arg);
}

static void on_done(uv_work_t *uv, int status)
{
	struct work *w = (struct work *)uv;

	(void)status;	/* never cancelled */
	w->done(w->arg);
	free(w);
}

int hf_work_start(struct hf_loop *loop, void (*run)(void *arg), void (*done)(void *arg), void *arg)
{
	struct work *w = calloc(1, sizeof *w);
	int r;

	if (!w)
		return -ENOMEM;
	w->run = run;
	w->done = done;
	w->arg = arg;
	r = uv_queue_work(&loop->uv, &w->uv, on_run, on_done);
	if (r != 0)
		free(w);
	return hf_uv_err(r);
}
