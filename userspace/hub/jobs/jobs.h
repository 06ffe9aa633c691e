/* SPDX-License-Identifier: GPL-3.0-or-later */
/* hub/jobs/jobs.h - scheduled jobs: one twin update or method call for every identity that matches (iothub-protocol 5.9).
 *
 * A job first notes whom it concerns, then works through them, a slice per loop turn; each result is stored in the
 * transaction of its effect. After a restart a job goes on: twin updates are done once, methods without an answer are
 * called again. Finished jobs and their results go after 30 days, or earlier when there are too many. Loop thread. */
#pragma once
#include "hub/model/model.h"

struct hub_jobs;
int hub_jobs_create(struct hub_model *m, struct hub_jobs **ret_jobs);
void hub_jobs_destroy(struct hub_jobs **jobs);

/* Takes the request of PUT /jobs/v2/{id}. Refusals: HF_EINVALID, HF_EEXISTS, HF_ELIMIT; -ENOMEM. *ret_doc: new reference. */
int hub_job_create(struct hub_model *m, const char *id, const json_t *request, json_t **ret_doc, struct hub_error *err);
json_t *hub_job_doc(struct hub_model *m, const char *id);	/* new reference; NULL: unknown or no memory */
/* Ends a job that has not ended. HF_ENOTFOUND, HF_EINVALID: it has ended already. */
int hub_job_cancel(struct hub_model *m, const char *id, json_t **ret_doc, struct hub_error *err);
/* The next job created after number *io_seq (0 = the first) of that type and status (NULL = any; any case): new
 * reference, NULL at the end. */
json_t *hub_job_next(struct hub_model *m, uint64_t *io_seq, const char *type, const char *status);

/* Results of one job (id NULL = of all), in order of job and identity, behind the key `after` ("" = from the first),
 * until fn returns false. fn borrows doc: the row of FROM devices.jobs. -ENOMEM, HF_ECORRUPT. */
#define HUB_JOB_KEY_MAX (17 + HF_IDENT_MAX)
int hub_job_results(struct hub_model *m, const char *id, const char *after, bool (*fn)(void *arg, const char *key, json_t *doc),
		    void *arg);
