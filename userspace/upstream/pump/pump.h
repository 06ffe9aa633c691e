/* SPDX-License-Identifier: GPL-3.0-or-later */
/* upstream/pump/pump.h - which stored message goes to the hub next: ordered per child, fair between children
 * (architecture 6.3). Knows no sockets. Owner thread: upstream.
 *
 * A child is sendable while its hub session is up. Per child at most HF_PUMP_WINDOW messages are in flight; after a
 * session is lost, all unanswered are sent again in order before anything new. What is ready or in flight shares one
 * memory budget (HF_PUMP_BYTES); everything else waits on disk and is read back in blocks. Expiry is checked again
 * just before sending. */
#pragma once
#include "store/notice.h"

#define HF_PUMP_WINDOW 64
#define HF_PUMP_BYTES (8u << 20)	/* ready and in flight, of all children together */
struct hf_pump;
struct hf_pump_ops {
	/* Send now on the child's session; msg borrowed until acked or lost.
	 * 0; HF_EFULL: the session cannot take more now, hf_pump_kick() when it can; HF_ELIMIT: this message can never be
	 * sent, it is counted as refused and the next one goes on; other errors: tried again after a second. */
	int (*send)(void *arg, uint32_t child, uint64_t seq, struct hf_msg *msg, bool dup);
	/* The child has pending messages and is not sendable: a session is wanted. Called once until sendable, and again
	 * after a second when it returns an error. */
	int (*want_session)(void *arg, uint32_t child, const char *ident);
};
int hf_pump_create(struct hf_loop *loop, struct hf_store *store, struct hf_inbox *inbox,
		   const struct hf_pump_ops *ops, void *arg, struct hf_pump **ret_pump);
/* Two-phase teardown: stop sends nothing more and hands what was acknowledged to the store; destroy once
 * hf_pump_idle, when the store has answered. */
void hf_pump_stop(struct hf_pump *pump);
bool hf_pump_idle(const struct hf_pump *pump);
void hf_pump_destroy(struct hf_pump **pump);
uint32_t hf_pump_child(struct hf_pump *pump, struct hf_span ident);	/* 0 = nothing stored for it yet */
/* link: a number that changes whenever the uplink as a whole was down in between; never 0. */
void hf_pump_session_up(struct hf_pump *pump, uint32_t child, unsigned link);
void hf_pump_session_lost(struct hf_pump *pump, uint32_t child);
void hf_pump_acked(struct hf_pump *pump, uint32_t child, uint64_t seq);
/* The hub ended the child's session, by a close or a reset; call before hf_pump_session_lost. It counts against the
 * message at the head once the child's next session is up and the uplink was never down in between: only then was it
 * the hub's will, and not a cut or a restart. From the third time in a row the head is sent alone, at the fifth it is
 * resolved as HF_REFUSED_BY_HUB. */
void hf_pump_closed_by_hub(struct hf_pump *pump, uint32_t child, unsigned link);
void hf_pump_kick(struct hf_pump *pump, uint32_t child);
bool hf_pump_wants_session(const struct hf_pump *pump, uint32_t child);	/* pending or in flight */
uint64_t hf_pump_oldest_unanswered_ms(const struct hf_pump *pump, uint32_t child);	/* age of the head in flight; 0 none */
/* Call about once a second: for how many ms nothing was sent, answered or resolved although a child with a session has
 * work. Over 30 s it is logged as an error, once until work goes on. */
uint64_t hf_pump_watch(struct hf_pump *pump);
struct hf_pump_stats { uint64_t in_flight, held_bytes, sent, resent, read_back, read_errors, unsendable, stalled_ms; };
void hf_pump_stats(const struct hf_pump *pump, struct hf_pump_stats *ret);
