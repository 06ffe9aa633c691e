/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Answers of any length: a slice a turn, so that a long one does not hold the loop; a slow reader holds it back. */
#include "core/util.h"
#include "hub/ctl/ctl_int.h"

#define SLICE 256

struct stream {
	struct hf_loop *loop;
	struct hf_ctl_call *call;
	const struct hub_ctl_source *source;
	void *arg;
	struct hf_task task;
};

static void end(struct stream *s, const char *failed)
{
	hf_task_cancel(&s->task);
	s->source->end(s->arg);
	if (failed)
		hf_ctl_fail(s->call, "failed", "%s", failed);
	else
		hf_ctl_ok(s->call);
	free(s);
}

static void produce(void *arg)
{
	struct stream *s = arg;

	for (unsigned n = 0; n < SLICE; n++) {
		const char *failed = NULL;
		json_t *item = s->source->next(s->arg, &failed);

		if (!item) {
			end(s, failed);
			return;
		}
		if (!hf_ctl_item(s->call, item))
			return;		/* on_drain goes on */
	}
	hf_task_next_turn(s->loop, &s->task);
}

static void on_gone(void *arg)
{
	end(arg, NULL);
}

void hub_ctl_stream(struct hub_ctl *ctl, struct hf_ctl_call *call, const struct hub_ctl_source *source, void *arg)
{
	struct stream *s = calloc(1, sizeof *s);

	if (!s) {
		source->end(arg);
		hf_ctl_fail(call, "failed", "out of memory");
		return;
	}
	s->loop = ctl->loop;
	s->call = call;
	s->source = source;
	s->arg = arg;
	hf_task_init(&s->task, produce, s);
	hf_ctl_on_drain(call, produce, s);
	hf_ctl_on_gone(call, on_gone, s);
	hf_task_next_turn(s->loop, &s->task);
}
