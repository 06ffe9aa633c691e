/* SPDX-License-Identifier: GPL-3.0-or-later */
/* loop/inbox.h - multi-producer mailboxes between threads.
 *
 * Lock-free intrusive push; the consumer takes everything at once, in posting order per producer. A wake-up
 * is sent only when the inbox was empty: one wake per receiver per batch. The node is part of the sender's
 * request, so posting needs no memory and never fails. A node belongs to the receiver until its fn ran. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

struct hf_loop;
struct hf_inbox;
struct hf_mail {
	struct hf_mail *next;		/* inside */
	union {
		void (*fn)(struct hf_mail *mail);	/* loops: runs on the receiving thread; may free or re-post the mail */
		int kind;				/* plain threads: what it is, a value of the receiver's enum */
	};
};

/* Consumer = the loop's thread; each mail's fn is called there. `urgent` inboxes are drained before others. */
int hf_inbox_create(struct hf_loop *loop, bool urgent, struct hf_inbox **ret_inbox);
/* Consumer = a plain thread that blocks on an eventfd (the store writer). */
int hf_inbox_create_fd(struct hf_inbox **ret_inbox);
int hf_inbox_fd(const struct hf_inbox *inbox);	/* poll it; -1 for loop inboxes */
/* Consumer side of an fd inbox: takes all queued mails, oldest first (linked by ->next); NULL when empty.
 * Clears the eventfd. */
struct hf_mail *hf_inbox_take(struct hf_inbox *inbox);
void hf_inbox_destroy(struct hf_inbox **inbox);	/* must be empty and without producers */

/* Any thread. Never blocks, never fails. */
void hf_inbox_post(struct hf_inbox *inbox, struct hf_mail *mail);
/* Any thread: posts a chain already linked by ->next (first..last) in one step. */
void hf_inbox_post_chain(struct hf_inbox *inbox, struct hf_mail *first, struct hf_mail *last);
