/* SPDX-License-Identifier: GPL-3.0-or-later */
/* auth/clock_store.h - keeps the floor of auth time in the state file, and asks the kernel about its clock once a minute.
 * Owner thread: the loop's. */
#pragma once
#include "auth/clock.h"
#include "loop/inbox.h"
#include "store/store.h"
#include "tls/tls.h"

struct hf_clock_store;
/* Blocks for the read of the stored floor. inbox: on loop's thread. */
int hf_clock_store_create(struct hf_loop *loop, struct hf_inbox *inbox, struct hf_store *store, int64_t max_step_s,
			  struct hf_clock_store **ret_cs);
/* After hf_store_destroy: a request of it may still be there. */
void hf_clock_store_destroy(struct hf_clock_store **cs);
struct hf_auth_clock *hf_clock_store_clock(struct hf_clock_store *cs);	/* borrowed */
/* For struct hf_gw_cfg.auth_now_s, with the clock as arg. Any thread. */
int64_t hf_clock_store_now_s(void *clock);
extern const struct hf_tls_clock hf_clock_store_tls;	/* for hf_tls_set_clock, with the clock as arg */
