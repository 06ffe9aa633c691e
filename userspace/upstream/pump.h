/* SPDX-License-Identifier: GPL-3.0-or-later */
/* upstream/pump.h - which stored message goes to the hub next: ordered per child, fair between children
 * (architecture 6.3). Knows no sockets. Owner thread: upstream.
 *
 * A child is sendable while its hub session is up. Per child at most HF_PUMP_WINDOW messages are in flight; on
 * session loss all unanswered are sent again in order before anything new. Ready lists share one memory bound;
 * what does not fit is read back from the store in blocks. Expiry is checked again just before sending. */
#pragma once
#include "store/notice.h"

#define HF_PUMP_WINDOW 64
struct hf_pump;
struct hf_pump_ops {
	/* Send now on the child's session; msg borrowed until acked or lost. 0, or HF_EFULL: session cannot take
	 * more now, hf_pump_kick() when it can. */
	int (*send)(void *arg, uint32_t child, uint64_t seq, struct hf_msg *msg, bool dup);
	/* The child has pending messages and is not sendable: a session is wanted. Called once until sendable. */
	void (*want_session)(void *arg, uint32_t child, const char *ident);
};
int hf_pump_create(struct hf_loop *loop, struct hf_store *store, struct hf_inbox *inbox,
		   const struct hf_pump_ops *ops, void *arg, struct hf_pump **ret_pump);
/* Two-phase teardown: stop sends nothing more and hands what was acknowledged to the store; destroy once
 * hf_pump_idle, when the store has answered. */
void hf_pump_stop(struct hf_pump *pump);
bool hf_pump_idle(const struct hf_pump *pump);
void hf_pump_destroy(struct hf_pump **pump);
uint32_t hf_pump_child(struct hf_pump *pump, struct hf_span ident);	/* 0 = nothing stored for it yet */
void hf_pump_session_up(struct hf_pump *pump, uint32_t child);
void hf_pump_session_lost(struct hf_pump *pump, uint32_t child);
void hf_pump_acked(struct hf_pump *pump, uint32_t child, uint64_t seq);
/* The hub closed the session while this child's head was in flight alone or not: at the fifth such close in a
 * row without progress the head is resolved as HF_REFUSED_BY_HUB; from the third it is sent alone. */
void hf_pump_closed_by_hub(struct hf_pump *pump, uint32_t child);
void hf_pump_kick(struct hf_pump *pump, uint32_t child);
bool hf_pump_wants_session(const struct hf_pump *pump, uint32_t child);	/* pending or in flight */
uint64_t hf_pump_oldest_unanswered_ms(const struct hf_pump *pump, uint32_t child);	/* age of the head in flight; 0 none */
struct hf_pump_stats { uint64_t in_flight, ready_bytes, sent, resent, read_back; };
void hf_pump_stats(const struct hf_pump *pump, struct hf_pump_stats *ret);
