/* SPDX-License-Identifier: GPL-3.0-or-later */
/* store/store.h - the durable queue of the gateway: group commit, ledger, TTL, budget (architecture 6).
 *
 * One thread, the writer, owns all write transactions of both environments. Everybody else posts requests:
 * the mail node and all memory of a request are the caller's and are the store's until the reply is posted.
 * Requests are posted from any thread, never block, never fail; the reply runs on `reply_to`'s thread with
 * `err` filled in. An append is answered only after commit and sync (durability "sync"). */
#pragma once
#include "loop/inbox.h"
#include "msg/msg.h"
#include <jansson.h>

struct hf_store;
enum hf_when_full { HF_FULL_REFUSE, HF_FULL_DROP_OLDEST };
struct hf_store_cfg {
	const char *dir;		/* mode 0700, flock on <dir>/lock; -EBUSY when another daemon has it */
	uint64_t max_bytes, state_bytes;
	enum hf_when_full when_full;
	uint32_t interval_ms;		/* 0 = durability "sync"; else "interval" */
	int64_t ttl_s;			/* default TTL; <= 0 = unlimited */
	uint8_t seal_key[32];		/* for the state environment; wiped by the caller after create */
};

/* Shown to the pump after each commit that appended or dropped something. */
struct hf_store_notice;
/* Runs on `pump_inbox`'s thread (given to hf_store_set_pump); see store/notice.h for its content. */

/* Opens, recovers, starts the thread. Blocks. Log line and code on failure. */
int hf_store_create(const struct hf_store_cfg *cfg, struct hf_store **ret_store);
/* Commits what was posted, answers it, stops the thread, closes. Blocks. */
void hf_store_destroy(struct hf_store **store);
void hf_store_set_ttl(struct hf_store *store, int64_t ttl_s);	/* any thread; for appends from now on */

/* --- requests ------------------------------------------------------------------------------------- */
struct hf_store_append {
	struct hf_mail mail;		/* inside: &mail is what travels */
	struct hf_inbox *reply_to;
	void (*done)(struct hf_store_append *req);	/* on reply_to's thread */
	struct hf_msg *msg;		/* a reference of the caller's, kept by the caller */
	/* NULL, or the mark of one ordered stream of appends: the writer sets it when it refuses one of them and then
	 * refuses those whose mark is set, so that no message passes a refused one that will come again. */
	atomic_bool *broken;
	int err;			/* 0 accepted and durable; HF_EFULL refused; -EIO ... */
	uint64_t seq;
};
void hf_store_append(struct hf_store *store, struct hf_store_append *req);

enum hf_outcome { HF_DELIVERED, HF_EXPIRED, HF_REFUSED_BY_HUB, HF_PURGED, HF_OUTCOME__COUNT };
struct hf_resolved { uint64_t seq; uint32_t child; uint8_t cls; uint8_t outcome; };
struct hf_store_resolve {		/* a batch of records that leave the queue */
	struct hf_mail mail;
	struct hf_inbox *reply_to;
	void (*done)(struct hf_store_resolve *req);
	struct hf_resolved *items;	/* caller's memory */
	unsigned n;
	int err;
};
void hf_store_resolve(struct hf_store *store, struct hf_store_resolve *req);

enum hf_state_table { HF_STATE_IDENT, HF_STATE_TWIN, HF_STATE_SESS, HF_STATE_KV, HF_STATE__COUNT };
struct hf_state_op {			/* one put (value.len > 0 or is_put) or delete; several form one transaction */
	enum hf_state_table table;
	bool is_put;
	struct hf_span key, value;	/* borrowed until the reply; IDENT and TWIN values are sealed inside */
};
struct hf_store_state {
	struct hf_mail mail;
	struct hf_inbox *reply_to;	/* NULL: nobody waits, done is called on the store thread (may free req) */
	void (*done)(struct hf_store_state *req);
	const struct hf_state_op *ops;
	unsigned n;
	bool replace_ident;		/* clear the IDENT table first: a complete scope pass */
	int err;
};
void hf_store_state(struct hf_store *store, struct hf_store_state *req);
/* Start-up read of a whole state table; fn gets unsealed values, borrowed. Any thread; blocks (read txn).
 * Undecodable records are counted, logged, skipped. */
int hf_store_state_load(struct hf_store *store, enum hf_state_table table,
			void (*fn)(void *arg, struct hf_span key, struct hf_span value), void *arg);

/* --- reading -------------------------------------------------------------------------------------- */
/* A stored record, copied out. */
struct hf_record { uint64_t seq, expiry_ms /* store time, 0 = never */, accepted_ms; uint32_t child; uint8_t cls; struct hf_msg *msg; };
/* Reads up to `max` records with seq in [from, to) that `want` picks (NULL = all), oldest first; stops after
 * ~1 MiB or 20 ms. fn takes over rec->msg. *ret_next = where to go on (== to when finished). Any thread but the
 * writer; blocks only for page faults. want sees a record before it is copied. */
struct hf_store_reader {
	bool (*want)(void *arg, uint32_t child, uint64_t seq);
	void (*fn)(void *arg, struct hf_record *rec);
	void *arg;
};
int hf_store_read(struct hf_store *store, uint8_t cls, uint64_t from, uint64_t to, unsigned max,
		  const struct hf_store_reader *reader, uint64_t *ret_next);
/* Identity text of a child number; borrowed for the life of the store; NULL unknown. Any thread. */
const char *hf_store_child_name(struct hf_store *store, uint32_t child);
uint64_t hf_store_now_ms(const struct hf_store *store);	/* store time (architecture 6.5). Any thread */

/* --- gauges and ledger ----------------------------------------------------------------------------- */
struct hf_store_gauges {
	uint64_t pending, pending_bytes, accepted, delivered, expired, evicted, refused, purged;
	uint64_t used_bytes, max_bytes, commits, commit_us_sum, appends, next_seq;
	uint64_t state_commits, state_writes;	/* of the state environment; writes: requests in them */
	bool failed, full;
};
void hf_store_gauges(const struct hf_store *store, struct hf_store_gauges *ret);	/* any thread, wait-free */
struct hf_ledger { uint64_t accepted, delivered, expired, evicted, refused, purged, pending, pending_bytes, oldest_seq; };
/* Ledger rows by read transaction. Any thread. */
int hf_store_ledger(struct hf_store *store, void (*fn)(void *arg, const char *child, const struct hf_ledger *row),
		    void *arg);
