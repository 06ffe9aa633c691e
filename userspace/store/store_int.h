/* SPDX-License-Identifier: GPL-3.0-or-later */
/* store/store_int.h - private to store/. Everything is the writer's unless marked. */
#pragma once
#include "core/map.h"
#include "db/db.h"
#include "store/format.h"
#include "store/notice.h"
#include <pthread.h>
#include <stdatomic.h>

#define HF_BATCH_OPS 4096
#define HF_BATCH_BYTES (8u << 20)
#define HF_NAME_CHUNK 1024
#define HF_NAME_CHUNKS 1024

struct hf_child {
	uint32_t id;
	char *name;
	struct hf_ledger now, committed;	/* working copy of the batch; what is on disk */
	struct hf_child *next_dirty;
	bool dirty, is_new;
	uint32_t block_n, block_bytes;		/* in the unsealed block */
	bool in_block;
	struct hf_child *next_in_block;
};
struct hf_block {				/* a sealed block that may hold records */
	uint64_t no, min_expiry_ms;		/* 0 = nothing in it expires */
};
/* One append of the batch: the request, or in interval mode the message alone. */
struct hf_op {
	struct hf_store_append *req;		/* NULL when it was answered already */
	struct hf_msg *msg;			/* a reference in interval mode */
	uint64_t seq, expiry_ms;
	struct hf_child *child;
	int err;
};
struct hf_stime {				/* store time, architecture 6.5 */
	uint64_t base_ms, boot_at_ms;		/* now = base + (boottime - boot_at) */
};

struct hf_store {
	struct hf_store_cfg cfg;
	struct hf_inbox *inbox;
	pthread_t thread;
	int lock_fd, dir_fd;
	struct hf_db *spool, *state;
	bool stopping, failed;
	uint64_t retry_at_ms;
	_Atomic int64_t ttl_s;
	struct hf_stime time;

	/* names and ledger */
	_Atomic(char **) name_chunks[HF_NAME_CHUNKS];	/* readable by any thread */
	struct hf_map *children;			/* name -> hf_child */
	struct hf_child **by_id;
	uint32_t n_ids, cap_ids, committed_ids;
	struct hf_child *dirty, *block_children;
	uint64_t next_seq, committed_seq;
	uint64_t block_min_expiry_ms;			/* of the unsealed block; 0 none */
	struct hf_block *blocks;
	unsigned n_blocks, cap_blocks;

	/* the batch */
	struct hf_op *ops;
	unsigned n_ops;
	size_t op_bytes;
	uint64_t first_op_ms;
	struct hf_notice_item *gone;
	unsigned n_gone, gone_committed, cap_gone;

	_Atomic(struct hf_inbox *) pump_inbox;		/* set last: then fn and arg are there, too */
	void (*pump_fn)(struct hf_mail *mail);
	void *pump_arg;
	atomic_bool lost_notice;			/* for want of memory, or as too many wait */
	atomic_size_t noticed;				/* bytes that notices keep which the pump has not freed */

	struct {
		_Atomic uint64_t state_commits, state_writes;
		_Atomic uint64_t pending, pending_bytes, accepted, delivered, expired, evicted, refused, purged;
		_Atomic uint64_t used_bytes, commits, commit_us_sum, appends, next_seq;
		_Atomic bool failed, full;
	} g;
};

/* spool.c: inside a write transaction */
int hf_spool_load(struct hf_store *s);			/* after open: names, ledger, meta, blocks, tail */
int hf_spool_append(struct hf_store *s, struct hf_txn *txn, struct hf_op *op);
/* Removes one record; 0 also when it is not there. gone: tell the pump. */
int hf_spool_remove(struct hf_store *s, struct hf_txn *txn, uint8_t cls, uint64_t seq, enum hf_outcome outcome, bool evicted,
		    bool tell_pump);
int hf_spool_finish(struct hf_store *s, struct hf_txn *txn);	/* dirty ledger rows, names, meta */
void hf_spool_committed(struct hf_store *s);		/* working copies become committed ones */
void hf_spool_aborted(struct hf_store *s);
struct hf_child *hf_spool_child(struct hf_store *s, struct hf_span name);	/* finds or makes; NULL ENOMEM */
void hf_spool_fini(struct hf_store *s);
/* expire.c */
bool hf_expire_due(const struct hf_store *s, uint64_t now_ms);
int hf_expire_run(struct hf_store *s, struct hf_txn *txn, uint64_t now_ms, unsigned max);
int hf_blocks_trim(struct hf_store *s, struct hf_txn *txn);
int hf_evict_oldest(struct hf_store *s, struct hf_txn *txn, size_t bytes);
int hf_block_seal(struct hf_store *s, struct hf_txn *txn);	/* next_seq reached a boundary */
/* state.c */
int hf_state_open(struct hf_store *s);
/* Commits the first of these requests, as many as one turn may cost the appends behind them; returns the others. */
struct hf_mail *hf_state_batch(struct hf_store *s, struct hf_mail *first);
/* stime.c */
void hf_stime_load(struct hf_store *s, struct hf_span stored);
void hf_stime_save(const struct hf_store *s, struct hf_buf *out);
