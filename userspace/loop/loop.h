/* SPDX-License-Identifier: GPL-3.0-or-later */
/* loop/loop.h - one event loop per thread, thin over libuv. The only place that includes uv.h is loop/.
 *
 * All calls are for the loop's own thread unless marked. Handles live on the heap and are closed
 * asynchronously inside; after hf_X_destroy() returns no callback of that handle runs any more, so owners
 * may free their state at once. */
#pragma once
#include "core/list.h"
#include <stdbool.h>
#include <stdint.h>

struct hf_loop;
struct hf_timer;
struct hf_watch;
struct hf_signal;

int hf_loop_create(struct hf_loop **ret_loop);
void hf_loop_destroy(struct hf_loop **loop);	/* closes what is left; run must have returned */
void hf_loop_run(struct hf_loop *loop);		/* until hf_loop_stop() */
void hf_loop_stop(struct hf_loop *loop);
uint64_t hf_loop_now_ms(const struct hf_loop *loop);	/* monotonic, cached per turn */

/* Per-worker scratch for reading, 32 KiB, valid during one callback only. */
#define HF_LOOP_SCRATCH (32 * 1024)
uint8_t *hf_loop_scratch(struct hf_loop *loop);

typedef void (*hf_timer_fn)(void *arg);
int hf_timer_create(struct hf_loop *loop, hf_timer_fn fn, void *arg, struct hf_timer **ret_timer);
void hf_timer_destroy(struct hf_timer **timer);
void hf_timer_start(struct hf_timer *timer, uint64_t delay_ms, uint64_t repeat_ms);	/* re-arms */
void hf_timer_stop(struct hf_timer *timer);
bool hf_timer_active(const struct hf_timer *timer);

enum { HF_READABLE = 1, HF_WRITABLE = 2 };
typedef void (*hf_watch_fn)(void *arg, int events, int err);
/* Watches a non-blocking fd. The fd stays the caller's and must outlive the watch. events 0 = paused. */
int hf_watch_create(struct hf_loop *loop, int fd, hf_watch_fn fn, void *arg, struct hf_watch **ret_watch);
int hf_watch_set(struct hf_watch *watch, int events);
void hf_watch_destroy(struct hf_watch **watch);

typedef void (*hf_signal_fn)(void *arg, int signo);
int hf_signal_create(struct hf_loop *loop, int signo, hf_signal_fn fn, void *arg, struct hf_signal **ret_signal);
void hf_signal_destroy(struct hf_signal **signal);

/* Deferred work: fn runs once later in this turn or the next, before the loop sleeps; the loop does not
 * sleep while some is queued. Embed the struct; queueing twice is a no-op; hf_task_cancel is idempotent. */
struct hf_task {
	struct hf_list node;
	void (*fn)(void *arg);
	void *arg;
};
void hf_task_init(struct hf_task *task, void (*fn)(void *arg), void *arg);
/* End of this turn: after all I/O callbacks (flush of output buffers: one TLS write per connection). */
void hf_task_at_turn_end(struct hf_loop *loop, struct hf_task *task);
/* Runnable: at the next turn, without sleeping before it (input that stopped at its read budget). */
void hf_task_next_turn(struct hf_loop *loop, struct hf_task *task);
void hf_task_cancel(struct hf_task *task);

/* Allowance for costly steps (TLS handshakes): true for the first `max` calls of a turn. Whoever is told
 * false tries again in the next turn (hf_task_next_turn). */
bool hf_loop_allow(struct hf_loop *loop, unsigned max);
