/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The loop itself, deferred tasks and the scratch. */
#include "loop/loop_int.h"
#include <errno.h>
#include <stdlib.h>

static void free_handle(uv_handle_t *handle)
{
	free(handle);
}

void hf_loop_close_handle(uv_handle_t *handle)
{
	uv_close(handle, free_handle);
}

/* Runs what was queued before this call; what they queue runs in the next round. */
static void run_tasks(struct hf_list *queue)
{
	struct hf_list batch;

	hf_list_init(&batch);
	if (hf_list_empty(queue))
		return;
	batch = *queue;
	batch.next->prev = &batch;
	batch.prev->next = &batch;
	hf_list_init(queue);
	while (!hf_list_empty(&batch)) {
		struct hf_task *t = hf_container_of(batch.next, struct hf_task, node);

		hf_list_del(&t->node);
		t->fn(t->arg);
	}
}

static void run_turn_end(struct hf_loop *loop)
{
	/* A turn-end task may queue another (a reply that must leave now): bounded rounds, then the next turn. */
	for (int round = 0; round < 4 && !hf_list_empty(&loop->turn_end); round++)
		run_tasks(&loop->turn_end);
}

static void keep_awake(struct hf_loop *loop);

static void on_idle(uv_idle_t *idle)
{
	struct hf_loop *loop = idle->data;

	run_tasks(&loop->next_turn);
	if (hf_list_empty(&loop->next_turn) && hf_list_empty(&loop->turn_end))
		uv_idle_stop(&loop->idle);
}

static void keep_awake(struct hf_loop *loop)
{
	if (!uv_is_active((uv_handle_t *)&loop->idle))
		uv_idle_start(&loop->idle, on_idle);
}

static void on_check(uv_check_t *check)
{
	struct hf_loop *loop = check->data;

	run_turn_end(loop);
	loop->allowed = 0;	/* the next turn begins */
}

static void on_prepare(uv_prepare_t *prepare)
{
	struct hf_loop *loop = prepare->data;

	run_turn_end(loop);
}

int hf_loop_create(struct hf_loop **ret_loop)
{
	struct hf_loop *loop = calloc(1, sizeof *loop);
	int r;

	if (!loop || !(loop->scratch = malloc(HF_LOOP_SCRATCH))) {
		free(loop);
		return -ENOMEM;
	}
	r = uv_loop_init(&loop->uv);
	if (r != 0) {
		free(loop->scratch);
		free(loop);
		return hf_uv_err(r);
	}
	hf_list_init(&loop->turn_end);
	hf_list_init(&loop->next_turn);
	hf_list_init(&loop->urgent_inboxes);
	uv_check_init(&loop->uv, &loop->check);
	uv_prepare_init(&loop->uv, &loop->prepare);
	uv_idle_init(&loop->uv, &loop->idle);
	loop->check.data = loop->prepare.data = loop->idle.data = loop;
	uv_check_start(&loop->check, on_check);
	uv_prepare_start(&loop->prepare, on_prepare);
	*ret_loop = loop;
	return 0;
}

static void close_left(uv_handle_t *handle, void *arg)
{
	struct hf_loop *loop = arg;
	bool own = handle == (uv_handle_t *)&loop->check || handle == (uv_handle_t *)&loop->prepare ||
		   handle == (uv_handle_t *)&loop->idle;

	if (!uv_is_closing(handle))
		uv_close(handle, own ? NULL : free_handle);
}

void hf_loop_destroy(struct hf_loop **ploop)
{
	struct hf_loop *loop = *ploop;

	if (!loop)
		return;
	uv_walk(&loop->uv, close_left, loop);
	while (uv_run(&loop->uv, UV_RUN_DEFAULT) != 0)
		;
	uv_loop_close(&loop->uv);
	free(loop->scratch);
	free(loop);
	*ploop = NULL;
}

void hf_loop_run(struct hf_loop *loop)
{
	uv_run(&loop->uv, UV_RUN_DEFAULT);
}

void hf_loop_stop(struct hf_loop *loop)
{
	uv_stop(&loop->uv);
}

uint64_t hf_loop_now_ms(const struct hf_loop *loop)
{
	return uv_now(&loop->uv);
}

uint8_t *hf_loop_scratch(struct hf_loop *loop)
{
	return loop->scratch;
}

void hf_task_init(struct hf_task *task, void (*fn)(void *arg), void *arg)
{
	hf_list_init(&task->node);
	task->fn = fn;
	task->arg = arg;
}

void hf_task_at_turn_end(struct hf_loop *loop, struct hf_task *task)
{
	if (hf_list_linked(&task->node))
		return;
	hf_list_add_tail(&loop->turn_end, &task->node);
	keep_awake(loop);
}

void hf_task_next_turn(struct hf_loop *loop, struct hf_task *task)
{
	if (hf_list_linked(&task->node))
		return;
	hf_list_add_tail(&loop->next_turn, &task->node);
	keep_awake(loop);
}

void hf_task_cancel(struct hf_task *task)
{
	if (hf_list_linked(&task->node))
		hf_list_del(&task->node);
}

bool hf_loop_allow(struct hf_loop *loop, unsigned max)
{
	if (loop->allowed >= max)
		return false;
	loop->allowed++;
	return true;
}
