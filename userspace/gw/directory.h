/* SPDX-License-Identifier: GPL-3.0-or-later */
/* gw/directory.h - who holds which identity. The home worker of an identity (hash mod N) owns its entry and
 * its stored filters; sessions anywhere claim and release by mail (architecture 4). Private to gw/.
 *
 * A session's ticket is one hf_dir_mail for its whole life: sent as a claim, it comes back granted or
 * refused; granted, it is kept and sent back as "gone" (or freed when the release mail said so already). */
#pragma once
#include "core/list.h"
#include "core/map.h"
#include "gw/subs.h"
#include "loop/inbox.h"
#include "upstream/upstream.h"

struct hf_worker;
struct hf_dir_mail;
struct hf_down_job;
/* What the directory asks of those that claim. All run on the claimant's worker. */
struct hf_dir_ops {
	void (*granted)(struct hf_dir_mail *ticket);	/* takes the ticket, also when its claimant is gone */
	void (*refused)(struct hf_dir_mail *ticket);	/* the same; ticket->err says why */
	/* Another connection claims the identity of ticket->sid: hf_dir_released once nothing is outstanding. */
	void (*release)(struct hf_dir_mail *release);
	void (*down)(struct hf_down_job *job);		/* job->at holds the identity: ends with hf_down_finish */
};
struct hf_dir {
	const struct hf_dir_ops *ops;
	struct hf_map *entries;		/* identity -> struct entry */
	struct hf_list delayed;		/* entries whose claim waits for its time */
};
struct hf_dir_mail {
	struct hf_mail mail;
	struct hf_worker *at;		/* receiver */
	struct hf_worker *from;		/* the session's worker */
	void *claimant;			/* the session; touched by `from` only; NULL once it died */
	uint64_t sid;
	int err;			/* 0 granted; HF_ESTALE newer claim; -ENOMEM */
	bool clean, damp;
	struct hf_subs *subs;		/* granted or changed filters; the mail's */
	char ident[];
};
/* Downlink on its way through the workers; then one packet of a session. */
struct hf_down_job {
	struct hf_mail mail;
	struct hf_worker *at;
	struct hf_down *down;
	struct hf_list node;		/* of the session: waiting or unacknowledged */
	uint16_t packet_id;
};
struct hf_dir_mail *hf_dir_mail_new(struct hf_worker *from, void *claimant, uint64_t sid, const char *ident);
void hf_dir_mail_free(struct hf_dir_mail *m);

int hf_dir_init(struct hf_dir *dir, const struct hf_dir_ops *ops);
void hf_dir_fini(struct hf_dir *dir);
/* At start, before threads: a stored session. */
int hf_dir_load(struct hf_dir *dir, const char *ident, struct hf_subs *subs);
const struct hf_subs *hf_dir_stored(const struct hf_dir *dir, const char *ident);	/* home thread */
void hf_dir_sweep(struct hf_worker *home, uint64_t now_ms);

/* From the session's worker. All take the mail. */
void hf_dir_claim(struct hf_dir_mail *ticket);		/* answered by ops->granted or refused */
void hf_dir_gone(struct hf_dir_mail *ticket);
void hf_dir_released(struct hf_dir_mail *release);
void hf_dir_subs_changed(struct hf_dir_mail *m);
void hf_down_finish(struct hf_down_job *job, int result);	/* any thread: answers and frees the job */
