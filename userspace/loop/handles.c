/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Timers, watches and signals: heap handles, freed in libuv's close callback. */
#include "loop/loop_int.h"
#include <errno.h>
#include <stdlib.h>

struct hf_timer {
	uv_timer_t uv;
	hf_timer_fn fn;
	void *arg;
};
struct hf_watch {
	uv_poll_t uv;
	hf_watch_fn fn;
	void *arg;
	int events;
};
struct hf_signal {
	uv_signal_t uv;
	hf_signal_fn fn;
	void *arg;
};

static void on_timer(uv_timer_t *uv)
{
	struct hf_timer *t = (struct hf_timer *)uv;

	t->fn(t->arg);
}

int hf_timer_create(struct hf_loop *loop, hf_timer_fn fn, void *arg, struct hf_timer **ret_timer)
{
	struct hf_timer *t = calloc(1, sizeof *t);
	int r;

	if (!t)
		return -ENOMEM;
	r = uv_timer_init(&loop->uv, &t->uv);
	if (r != 0) {
		free(t);
		return hf_uv_err(r);
	}
	t->fn = fn;
	t->arg = arg;
	*ret_timer = t;
	return 0;
}

void hf_timer_destroy(struct hf_timer **timer)
{
	if (!*timer)
		return;
	uv_timer_stop(&(*timer)->uv);
	hf_loop_close_handle((uv_handle_t *)&(*timer)->uv);
	*timer = NULL;
}

void hf_timer_start(struct hf_timer *timer, uint64_t delay_ms, uint64_t repeat_ms)
{
	uv_timer_start(&timer->uv, on_timer, delay_ms, repeat_ms);
}

void hf_timer_stop(struct hf_timer *timer)
{
	uv_timer_stop(&timer->uv);
}

bool hf_timer_active(const struct hf_timer *timer)
{
	return uv_is_active((const uv_handle_t *)&timer->uv);
}

static void on_poll(uv_poll_t *uv, int status, int events)
{
	struct hf_watch *w = (struct hf_watch *)uv;
	int out = 0;

	if (events & UV_READABLE)
		out |= HF_READABLE;
	if (events & UV_WRITABLE)
		out |= HF_WRITABLE;
	w->fn(w->arg, out, status);
}

int hf_watch_create(struct hf_loop *loop, int fd, hf_watch_fn fn, void *arg, struct hf_watch **ret_watch)
{
	struct hf_watch *w = calloc(1, sizeof *w);
	int r;

	if (!w)
		return -ENOMEM;
	r = uv_poll_init(&loop->uv, &w->uv, fd);
	if (r != 0) {
		free(w);
		return hf_uv_err(r);
	}
	w->fn = fn;
	w->arg = arg;
	*ret_watch = w;
	return 0;
}

int hf_watch_set(struct hf_watch *watch, int events)
{
	int want = 0;

	if (events == watch->events)
		return 0;
	watch->events = events;
	if (events & HF_READABLE)
		want |= UV_READABLE;
	if (events & HF_WRITABLE)
		want |= UV_WRITABLE;
	if (!want)
		return hf_uv_err(uv_poll_stop(&watch->uv));
	return hf_uv_err(uv_poll_start(&watch->uv, want, on_poll));
}

void hf_watch_destroy(struct hf_watch **watch)
{
	if (!*watch)
		return;
	uv_poll_stop(&(*watch)->uv);
	hf_loop_close_handle((uv_handle_t *)&(*watch)->uv);
	*watch = NULL;
}

static void on_signal(uv_signal_t *uv, int signo)
{
	struct hf_signal *s = (struct hf_signal *)uv;

	s->fn(s->arg, signo);
}

int hf_signal_create(struct hf_loop *loop, int signo, hf_signal_fn fn, void *arg, struct hf_signal **ret_signal)
{
	struct hf_signal *s = calloc(1, sizeof *s);
	int r;

	if (!s)
		return -ENOMEM;
	r = uv_signal_init(&loop->uv, &s->uv);
	if (r != 0) {
		free(s);
		return hf_uv_err(r);
	}
	s->fn = fn;
	s->arg = arg;
	r = uv_signal_start(&s->uv, on_signal, signo);
	if (r != 0) {
		hf_loop_close_handle((uv_handle_t *)&s->uv);
		return hf_uv_err(r);
	}
	*ret_signal = s;
	return 0;
}

void hf_signal_destroy(struct hf_signal **signal)
{
	if (!*signal)
		return;
	uv_signal_stop(&(*signal)->uv);
	hf_loop_close_handle((uv_handle_t *)&(*signal)->uv);
	*signal = NULL;
}
