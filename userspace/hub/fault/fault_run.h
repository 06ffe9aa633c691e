/* SPDX-License-Identifier: GPL-3.0-or-later */
/* hub/fault/fault_run.h - what the heads need to do as a fault rule says: operations that wait, errors that are due.
 *
 * A head has one hub_hold for each connection. Late answers go into it; so do delayed operations whose protocol needs
 * them copied. Loop thread; nothing blocks. */
#pragma once
#include "core/list.h"
#include "core/span.h"
#include "hub/fault/fault.h"
#include "loop/loop.h"

struct hub_error;

/* What one connection holds back. Embed it; its members are for fault_run.c alone. */
struct hub_hold {
	struct hf_list items;		/* by the time at which they are due */
	struct hf_loop *loop;
	struct hub_faults *faults;
	struct hf_timer *timer;		/* while there was ever something */
	uint64_t order_ms;		/* when the last of those in order is due */
	unsigned n_in_order;
};
void hub_hold_init(struct hub_hold *h, struct hf_loop *loop, struct hub_faults *f);
/* The connection ends: forgets everything without running it. Not from within a hub_hold_fn. */
void hub_hold_fini(struct hub_hold *h);
typedef void (*hub_hold_fn)(void *arg, struct hf_span data);
/* Runs fn(arg, data) in ms milliseconds; data is copied. in_order: not before those that were added in order earlier.
 * HF_ELIMIT: the hub holds 64 MiB already; -ENOMEM. Then the connection is to be closed. */
int hub_hold_add(struct hub_hold *h, uint64_t ms, bool in_order, hub_hold_fn fn, void *arg, struct hf_span data);
/* Something in order waits: what must not overtake it is to be added too, with ms 0. */
bool hub_hold_waits(const struct hub_hold *h);

/* HUB_DO_REJECT and HUB_DO_THROTTLE of everything but connect, as an error of the service. */
void hub_fault_error(const struct hub_fault *fault, struct hub_error *ret_err);
