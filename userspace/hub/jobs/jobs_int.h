/* SPDX-License-Identifier: GPL-3.0-or-later */
/* hub/jobs/jobs_int.h - inside of the jobs: jobs.c their life, job_run.c their work, job_results.c the records. */
#pragma once
#include "hub/jobs/jobs.h"
#include "hub/model/model_int.h"
#include "hub/query/query.h"

#define HUB_MAX_JOBS 1000		/* kept, finished ones included */
#define HUB_MAX_JOBS_BYTES ((size_t)16 << 20)	/* of their requests */
#define HUB_MAX_JOBS_RUNNING 10
#define HUB_MAX_RESULTS 400000		/* of all jobs */
#define HUB_MAX_RESULT_BYTES ((size_t)128 << 20)	/* of what devices answered */
#define HUB_JOB_KEEP_MS (30ll * 86400 * 1000)

enum hub_job_status {
	HUB_JOB_SCHEDULED, HUB_JOB_QUEUED, HUB_JOB_RUNNING, HUB_JOB_COMPLETED, HUB_JOB_FAILED, HUB_JOB_CANCELLED,
	HUB_JOB__COUNT
};
struct hub_job {
	struct hf_list node;		/* jobs->all: as created */
	struct hf_list active_node;	/* jobs->active: has results to work through */
	uint64_t seq;
	char *id;
	json_t *request;		/* type, queryCondition, updateTwin or cloudToDeviceMethod */
	size_t request_len;
	struct hub_query *condition;
	bool is_method, dirty, stored;
	enum hub_job_status status;
	int64_t created_ms, start_ms, started_ms, end_ms;
	uint32_t max_s;
	char failure[160];
	bool selected, drained;		/* all results are noted; none is pending */
	char select_pos[HF_IDENT_MAX + 1];	/* last identity looked at */
	char run_pos[HUB_JOB_KEY_MAX + 1];	/* last result worked on, since the start */
	unsigned n_devices, n_pending, n_running, n_failed, n_succeeded;
	size_t answer_bytes;
	unsigned n_calls;		/* methods in flight */
};
struct hub_jobs {
	struct hub_model *m;
	struct hf_map *by_id;
	struct hf_list all, active;
	uint64_t last_seq;
	size_t n_all, n_running, n_results, request_bytes, answer_bytes;
	struct hf_task task;
	bool changed;			/* some job is dirty */
	bool purge;			/* results without a job are left */
};

/* jobs.c */
const char *hub_job_status_name(enum hub_job_status status);
const char *hub_job_type(const struct hub_job *j);
void hub_job_dirty(struct hub_jobs *jobs, struct hub_job *j);
void hub_job_set_status(struct hub_jobs *jobs, struct hub_job *j, enum hub_job_status status, const char *failure);
struct hub_job *hub_job_of(struct hub_jobs *jobs, uint64_t seq);
/* job_run.c */
void hub_jobs_wake(struct hub_jobs *jobs);	/* a slice of work soon */
void hub_jobs_work(void *arg);			/* the task */
/* The job cannot go on: it fails, logged and counted. */
void hub_job_give_up(struct hub_jobs *jobs, struct hub_job *j, int err);
/* job_results.c */
int hub_result_add(struct hub_jobs *jobs, struct hub_job *j, const struct hub_ident *ident);	/* pending */
int hub_result_get(struct hub_jobs *jobs, const char *key, json_t **ret_doc);
int hub_result_put(struct hub_jobs *jobs, const char *key, const json_t *doc);
bool hub_results_purge(struct hub_jobs *jobs);	/* a slice; true: more is left */
int hub_results_last_seq(struct hub_jobs *jobs, uint64_t *ret_seq);
