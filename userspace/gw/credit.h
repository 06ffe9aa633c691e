/* SPDX-License-Identifier: GPL-3.0-or-later */
/* gw/credit.h - what one worker may have handed to one receiver without an answer: requests, and bytes of them. Without
 * credit the session that needs it stops reading its socket, until answers come back (architecture, threads). Private
 * to gw/; the worker's thread. */
#pragma once
#include "core/list.h"
#include <stdbool.h>
#include <stddef.h>

struct hf_credit {
	unsigned n, n_max;
	size_t bytes, bytes_max;
	unsigned metric_n, metric_bytes;	/* gauges, for all workers together */
	struct hf_list waiting;			/* of those who wait, oldest first */
	void (*wake)(struct hf_list *node);	/* its node has left the list */
};
void hf_credit_init(struct hf_credit *c, unsigned n_max, size_t bytes_max, unsigned metric_n, unsigned metric_bytes,
		    void (*wake)(struct hf_list *node));
/* One more request of that size? A single one may have any size, so that none waits for ever. */
bool hf_credit_has(const struct hf_credit *c, size_t bytes);
void hf_credit_take(struct hf_credit *c, size_t bytes);
/* The answer came. Wakes all who wait once a quarter is free. */
void hf_credit_give(struct hf_credit *c, size_t bytes);
