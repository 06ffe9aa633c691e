/* SPDX-License-Identifier: GPL-3.0-or-later */
/* loop/work.h - one slow step, such as a file's sync, on a thread of its own; its end is told on the loop. */
#pragma once

struct hf_loop;
/* run(arg) on another thread, then done(arg) on the loop: exactly once, at the latest within hf_loop_destroy. Neither may
 * start before the call returns. -ENOMEM: neither will run. */
int hf_work_start(struct hf_loop *loop, void (*run)(void *arg), void (*done)(void *arg), void *arg);
