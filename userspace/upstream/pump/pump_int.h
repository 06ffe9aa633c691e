/* SPDX-License-Identifier: GPL-3.0-or-later */
/* upstream/pump/pump_int.h - shared inside the pump.
 *
 * Every pending record of a child is in exactly one place: in flight, in its ready list, or still on disk, where the
 * child's block list says that there is something. `next_read` separates them: older records were taken into memory
 * (or are gone), newer ones are on disk. Records in flight are older than those ready, so order holds.
 *
 * Why it cannot get stuck. Only children with a session hold memory; whoever loses its session gives it all back
 * (hf_flight_give_back). So each byte of the budget belongs to a record that
 *   - is in flight: it is answered, or its session is reset after 30 s without an answer;
 *   - is ready, and its child is in `active`: it is sent in the next turns;
 *   - is ready, and its child is blocked: its connection drains, which kicks it, or ends; after an error a timer kicks.
 * A child with a session that holds nothing and has blocks is in `active`, or in `starved` until there is room (every
 * release of memory looks there, the longest waiting first) or until the pause after a failed read is over, or it waits
 * for the store to confirm what was resolved, which the store always does or fails, and then it is tried again each
 * second. What no memory could be found for is found again by a scan of the store (hf_backlog_scan), which is repeated
 * until it succeeds. hf_pump_watch tells when this argument is wrong. */
#pragma once
#include "core/list.h"
#include "core/map.h"
#include "loop/loop.h"
#include "upstream/pump/pump.h"

struct hf_pump_entry {
	uint64_t seq, expiry_ms, sent_ms;
	struct hf_msg *msg;
	bool dup;
	bool answered;		/* in flight only: the hub has it, the store could not be told for want of memory */
};
struct hf_pump_ring {
	struct hf_pump_entry *e;
	unsigned head, n, cap;	/* cap is a power of two */
};
struct hf_pump_child {
	struct hf_list node;	/* in pump->active or pump->starved */
	uint32_t id;
	bool sendable, wanted, blocked;
	bool is_starved;	/* node is in pump->starved: it has nothing ready */
	bool has_room;		/* it is pump->granted */
	bool wait_resolved;	/* reads nothing before the store confirmed what was resolved: it went back to disk */
	bool skipped;		/* in the read in progress: there was no room for one of its records */
	struct hf_pump_ring ready;
	struct hf_pump_entry flight[HF_PUMP_WINDOW];
	unsigned n_flight;
	uint64_t *blocks;	/* numbers, ascending */
	unsigned n_blocks, cap_blocks;
	uint64_t next_read, dup_until;	/* what is below dup_until may have been sent before */
	size_t held;		/* bytes of ready and flight */
	unsigned n_resolving;	/* resolved, not yet confirmed by the store */
	int64_t deficit;
	uint64_t suspect;	/* the record in flight at the head when the hub ended the session */
	unsigned closes, closed_on;	/* times in a row; the link of the last one, 0 = counted */
};
struct hf_pump_batch;
struct hf_pump {
	struct hf_loop *loop;
	struct hf_store *store;
	struct hf_inbox *inbox;
	const struct hf_pump_ops *ops;
	void *arg;
	struct hf_task run_task, flush_task;
	struct hf_timer *retry;		/* a second after something failed for want of memory or store */
	struct hf_timer *read_pause;	/* after a failed read */
	uint32_t read_pause_ms;
	struct hf_map *by_name;
	struct hf_pump_child **by_id;
	uint32_t cap_ids;
	struct hf_list active, starved;
	struct hf_pump_child *granted;	/* came off `starved`, has not read yet: the next one waits for it */
	unsigned n_sendable;
	size_t held;			/* bytes of all children */
	uint64_t backlog_end;
	struct hf_pump_batch *filling, *spare, *failed;
	unsigned n_outstanding;
	bool closing, must_scan;
	struct hf_pump_stats stats;
	uint64_t progress_ms;
	bool alarmed;
	struct { uint64_t block, from; struct hf_pump_child *child; } reading;
};

/* pump.c: children and turns. */
struct hf_pump_child *hf_pump_get(struct hf_pump *p, uint32_t id);	/* found or made; NULL: no memory, or unknown */
void hf_pump_schedule(struct hf_pump *p, struct hf_pump_child *c);	/* its turn, or a session, if it has work */
void hf_pump_retry_later(struct hf_pump *p);	/* something failed that will be tried again in a second */
unsigned hf_pump_window(const struct hf_pump_child *c);

/* ring.c: ready lists. */
struct hf_pump_entry *hf_ring_at(const struct hf_pump_ring *r, unsigned i);
int hf_ring_push(struct hf_pump_ring *r, const struct hf_pump_entry *e);	/* -ENOMEM */
void hf_ring_pop(struct hf_pump_ring *r);
void hf_ring_remove(struct hf_pump_ring *r, unsigned i);

/* backlog.c: what is on disk. */
enum hf_refill { HF_REFILL_DONE, HF_REFILL_WAITS };
int hf_backlog_add(struct hf_pump_child *c, uint64_t block);	/* -ENOMEM */
/* Reads on where c stands, also for the other children whose turn is in that block. WAITS: something will wake it. */
enum hf_refill hf_backlog_refill(struct hf_pump *p, struct hf_pump_child *c);
/* Takes a live record into memory if the child may have it there now (then *msg is taken), else notes its block. */
void hf_backlog_take(struct hf_pump *p, struct hf_pump_child *c, uint64_t seq, uint64_t expiry_ms, struct hf_msg **msg);
int hf_backlog_scan(struct hf_pump *p);		/* finds all that is stored */
void hf_backlog_on_pause_end(void *pump);
void hf_backlog_wake_starved(struct hf_pump *p);
void hf_backlog_pass_on(struct hf_pump *p, struct hf_pump_child *c);	/* c cannot use the room it was granted */

/* flight.c: what is sent and what becomes of it. */
size_t hf_flight_cost(const struct hf_msg *m);
void hf_flight_release(struct hf_pump *p, struct hf_pump_child *c, struct hf_msg **msg);	/* its bytes are free again */
bool hf_flight_send_head(struct hf_pump *p, struct hf_pump_child *c, uint64_t now_ms);	/* false: no more now */
void hf_flight_give_back(struct hf_pump *p, struct hf_pump_child *c);
void hf_flight_retry(struct hf_pump *p, struct hf_pump_child *c);	/* entries that are `answered` */

/* outcome.c: what the store is told. */
int hf_outcome_init(struct hf_pump *p);
void hf_outcome_fini(struct hf_pump *p);
/* The record leaves the queue. -ENOMEM: nothing changed, try again later. */
int hf_outcome_add(struct hf_pump *p, struct hf_pump_child *c, uint64_t seq, enum hf_outcome outcome);
void hf_outcome_flush(void *pump);
void hf_outcome_retry(struct hf_pump *p);
