/* SPDX-License-Identifier: GPL-3.0-or-later */
/* loop/loop_int.h - private to loop/. */
#pragma once
#include "loop/loop.h"
#include <uv.h>

struct hf_inbox;
struct hf_loop {
	uv_loop_t uv;
	uv_check_t check;	/* after I/O: end of turn */
	uv_prepare_t prepare;	/* before sleeping: tasks queued by timers and mails */
	uv_idle_t idle;		/* keeps the loop awake while something is runnable */
	struct hf_list turn_end, next_turn;
	struct hf_list urgent_inboxes;
	uint8_t *scratch;
	unsigned allowed;	/* costly steps taken in this turn */
	unsigned n_handles;
};
/* Allocates nothing; translates a libuv code, which is a negated errno on this platform. */
static inline int hf_uv_err(int r) { return r; }
/* Closes a heap handle and frees it (uv_handle_t first in its struct) when libuv is done with it. */
void hf_loop_close_handle(uv_handle_t *handle);
/* Drains all urgent inboxes of the loop (inbox.c). */
void hf_inbox_drain_urgent(struct hf_loop *loop);
