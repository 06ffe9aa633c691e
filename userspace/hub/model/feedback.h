/* SPDX-License-Identifier: GPL-3.0-or-later */
/* hub/model/feedback.h - what the hub tells the service side: outcomes of messages to devices, uploaded files.
 *
 * Two durable queues of records. A receiver takes a batch (feedback: up to 64 records as a JSON array; files:
 * one record as an object) under a lock of 60 s; records of a batch that is abandoned, or whose lock ends, are
 * offered again. A record goes after an hour or after 10 deliveries. Locks do not survive a restart. */
#pragma once
#include "hub/model/model.h"

enum hub_feedback_kind { HUB_FEEDBACK_C2D, HUB_FEEDBACK_FILES, HUB_FEEDBACK__COUNT };
#define HUB_FEEDBACK_LOCK_MS 60000

struct hub_feedback {
	char lock[HUB_UUID_SIZE];
	uint64_t seq;			/* of the oldest record */
	int64_t enqueued_ms;		/* likewise */
	unsigned delivery_count;	/* likewise: how often it was abandoned */
	char *json;			/* the caller frees it */
};
/* Locks what is available now for owner (any address that tells receivers apart). HF_ENOTFOUND: nothing is. */
int hub_feedback_receive(struct hub_model *m, enum hub_feedback_kind kind, const void *owner,
			 struct hub_feedback *ret_batch);
/* HF_ENOTFOUND: the lock is lost. Acknowledge after hub_commit_wait. Rejected records are dropped. */
int hub_feedback_settle(struct hub_model *m, enum hub_feedback_kind kind, const char *lock, enum hub_verdict verdict);
/* The batch was not handed out after all: it is available again, without counting. */
void hub_feedback_release(struct hub_model *m, enum hub_feedback_kind kind, const char *lock);
/* The receiver is gone: what it holds is available at once. */
void hub_feedback_release_all(struct hub_model *m, enum hub_feedback_kind kind, const void *owner);
/* Told within a second of records becoming available, at once when a batch is full. */
void hub_on_feedback(struct hub_model *m, void (*fn)(void *arg, enum hub_feedback_kind kind), void *arg);
unsigned hub_feedback_count(const struct hub_model *m, enum hub_feedback_kind kind);
/* Adds a record (an object; borrowed); "enqueuedTimeUtc" is stamped. */
int hub_feedback_add(struct hub_model *m, enum hub_feedback_kind kind, json_t *record);
