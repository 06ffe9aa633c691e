/* SPDX-License-Identifier: GPL-3.0-or-later */
/* gw/session_refresh.c - a login that waits until its identity's records are fresh (architecture 2, promise 5). The
 * worker goes on; the session reads nothing meanwhile. */
#include "core/util.h"
#include "gw/session.h"
#include <stdlib.h>

enum { WAITERS_MAX = 128 /* of one worker */, WAIT_MS = 3000 };

/* Lives until upstream answered, also when its session is gone. */
struct hf_refresh_job {
	struct hf_refresh req;
	struct hf_worker *w;
	struct hf_session *s;	/* NULL = nobody waits any more */
};

static void answered(struct hf_refresh *req)
{
	struct hf_refresh_job *job = hf_container_of(req, struct hf_refresh_job, req);
	struct hf_session *s = job->s;

	job->w->n_refreshing--;
	if (s) {
		s->refresh = NULL;
		if (s->state == HF_S_REFRESHING)
			hf_session_judge_again(s, req->result);
	}
	free(job);
}

bool hf_session_wait_refresh(struct hf_session *s, enum hf_refresh_result *ret_why_not)
{
	struct hf_worker *w = s->w;
	struct hf_refresh_job *job;

	*ret_why_not = HF_REFRESH_OFFLINE;
	if (hf_upstream_state(w->gw->up) != HF_UPLINK_ONLINE)
		return false;
	*ret_why_not = HF_REFRESH_LATER;
	if (w->n_refreshing >= WAITERS_MAX || !(job = calloc(1, sizeof *job)))
		return false;
	w->n_refreshing++;
	job->w = w;
	job->s = s;
	/* By the way that the scope comes: what is new in it is in force before the answer is read. */
	job->req.reply_to = w->urgent;
	job->req.done = answered;
	memcpy(job->req.ident, s->ident, strlen(s->ident) + 1);
	s->refresh = job;
	s->state = HF_S_REFRESHING;
	s->wait_claim = true;	/* packets behind the CONNECT wait for the answer */
	s->deadline_ms = hf_loop_now_ms(w->loop) + WAIT_MS;
	hf_upstream_refresh(w->gw->up, &job->req);
	return true;
}

void hf_session_detach_refresh(struct hf_session *s)
{
	if (s->refresh)
		s->refresh->s = NULL;
	s->refresh = NULL;
}
