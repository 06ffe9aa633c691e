/* SPDX-License-Identifier: GPL-3.0-or-later */
/* store/notice.h - what the writer tells the pump after each commit: new records by reference, so that live
 * messages are not read back from disk, and records that left by expiry or eviction. */
#pragma once
#include "store/store.h"

struct hf_notice_item {
	uint64_t seq, expiry_ms;
	uint32_t child;
	uint32_t bytes;
	uint8_t cls;
	uint8_t gone;			/* 0 = appended, else left: HF_EXPIRED or evicted */
	/* Reference handed over for an appended record; NULL for gone ones, and when the receiver holds so much that it has to
	 * read this one back. */
	struct hf_msg *msg;
};
struct hf_store_notice {
	struct hf_mail mail;		/* fn set by the pump's owner through hf_store_set_pump */
	void *arg;
	struct hf_store *store;		/* inside, as `held` */
	size_t held;			/* bytes that this notice keeps */
	unsigned n;
	struct hf_notice_item items[];
};
/* Before messages flow. fn runs on inbox's thread, owns the notice until hf_store_notice_free. The pump starts by
 * scanning what is stored (hf_store_backlog) and ignores notices with seq below the scan's end. */
void hf_store_set_pump(struct hf_store *store, struct hf_inbox *inbox, void (*fn)(struct hf_mail *mail), void *arg);
/* Drops the references that were not taken over (those taken are to be NULL). Any thread; before the store is destroyed. */
void hf_store_notice_free(struct hf_store_notice *n);
/* True once after a notice was not sent, for want of memory or because too many wait: a scan finds what it would have told. Any thread. */
bool hf_store_take_lost_notice(struct hf_store *store);
/* Per (child, class, block of 8 192 seqs): how many records are pending. Sealed blocks come from `blocks`, the
 * tail is scanned. *ret_end: seq where the picture ends. Any thread; blocks for the scan. */
#define HF_STORE_BLOCK 8192
int hf_store_backlog(struct hf_store *store,
		     void (*fn)(void *arg, uint32_t child, uint8_t cls, uint64_t block, uint32_t n, uint64_t bytes),
		     void *arg, uint64_t *ret_end);
