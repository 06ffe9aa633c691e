/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Life of jobs: taken, stored, listed, cancelled, forgotten. */
#include "hub/jobs/jobs.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/util.h"
#include "hub/jobs/jobs_int.h"

#include <errno.h>
#include <holdfast/err.h>
#include <stdio.h>
#include <strings.h>

#define DEFAULT_EXECUTION_S 3600
#define BAD(err, ...) hub_refuse(err, HF_EINVALID, 400, 400004, "ArgumentInvalid", __VA_ARGS__)

static const char *const status_names[] = { "scheduled", "queued", "running", "completed", "failed", "cancelled" };
_Static_assert(HF_ARRAY_LEN(status_names) == HUB_JOB__COUNT, "one name for each status");

const char *hub_job_status_name(enum hub_job_status status)
{
	return status_names[status];
}

const char *hub_job_type(const struct hub_job *j)
{
	return j->is_method ? "scheduleDeviceMethod" : "scheduleUpdateTwin";
}

static bool is_over(const struct hub_job *j)
{
	return j->status >= HUB_JOB_COMPLETED;
}

static void job_free(struct hub_job *j)
{
	json_decref(j->request);
	hub_query_destroy(&j->condition);
	free(j->id);
	free(j);
}

struct hub_job *hub_job_of(struct hub_jobs *jobs, uint64_t seq)
{
	struct hf_list *pos;

	hf_list_for_each(pos, &jobs->all) {
		struct hub_job *j = hf_container_of(pos, struct hub_job, node);

		if (j->seq == seq)
			return j;
	}
	return NULL;
}

void hub_job_dirty(struct hub_jobs *jobs, struct hub_job *j)
{
	j->dirty = jobs->changed = true;
	hub_model_touch(jobs->m);
}

void hub_job_set_status(struct hub_jobs *jobs, struct hub_job *j, enum hub_job_status status, const char *failure)
{
	int64_t now = hf_clock_wall_ms();

	jobs->n_running += (status == HUB_JOB_RUNNING) - (j->status == HUB_JOB_RUNNING);
	j->status = status;
	if (status == HUB_JOB_RUNNING)
		j->started_ms = now;
	if (is_over(j))
		j->end_ms = now;
	if (failure)
		snprintf(j->failure, sizeof j->failure, "%s", failure);
	hub_job_dirty(jobs, j);
	hub_model_tick(jobs->m);
}

/* --- documents ---------------------------------------------------------------------------------------------- */

static json_t *time_json(int64_t ms)
{
	char text[32];

	hf_iso8601(ms, text);
	return json_string(text);
}

static json_t *job_doc(const struct hub_job *j)
{
	const char *failure = *j->failure ? j->failure : NULL;
	json_t *o = json_pack("{ss so so so ss ss? ss? sI s{sI sI sI sI sI}}", "jobId", j->id, "createdTime",
			      time_json(j->created_ms), "startTime", time_json(j->start_ms), "endTime",
			      j->end_ms ? time_json(j->end_ms) : json_null(), "status", hub_job_status_name(j->status), "failureReason", failure,
			      "statusMessage", failure, "maxExecutionTimeInSeconds", (json_int_t)j->max_s,
			      "deviceJobStatistics", "deviceCount", (json_int_t)j->n_devices, "failedCount",
			      (json_int_t)j->n_failed, "succeededCount", (json_int_t)j->n_succeeded, "runningCount",
			      (json_int_t)j->n_running, "pendingCount", (json_int_t)j->n_pending);

	if (o && json_object_update_missing(o, j->request) != 0) {
		json_decref(o);
		return NULL;
	}
	return o;
}

json_t *hub_job_doc(struct hub_model *m, const char *id)
{
	const struct hub_job *j;

	hub_jobs_step(m->jobs);		/* what is too old is not there */
	j = hf_map_get(m->jobs->by_id, hf_span_str(id));

	return j ? job_doc(j) : NULL;
}

json_t *hub_job_next(struct hub_model *m, uint64_t *io_seq, const char *type, const char *status)
{
	struct hf_list *pos;

	if (*io_seq == 0)
		hub_jobs_step(m->jobs);
	hf_list_for_each(pos, &m->jobs->all) {
		const struct hub_job *j = hf_container_of(pos, struct hub_job, node);

		if (j->seq <= *io_seq || (type && strcasecmp(type, hub_job_type(j)) != 0) ||
		    (status && strcasecmp(status, hub_job_status_name(j->status)) != 0))
			continue;
		*io_seq = j->seq;
		return job_doc(j);
	}
	return NULL;
}

static void drop(struct hub_jobs *jobs, struct hub_job *j)
{
	hf_map_remove(jobs->by_id, hf_span_str(j->id));
	hf_list_del(&j->node);
	hf_list_del(&j->active_node);
	jobs->n_all--;
	jobs->n_running -= j->status == HUB_JOB_RUNNING;
	jobs->n_results -= j->n_devices;
	jobs->request_bytes -= j->request_len;
	jobs->answer_bytes -= j->answer_bytes;
	jobs->purge = true;
	hub_jobs_wake(jobs);
	job_free(j);
}

/* --- records ------------------------------------------------------------------------------------------------ */

static int put_json(struct hf_txn *txn, hf_table_t table, const char *key, json_t *doc_take)
{
	char *text = doc_take ? json_dumps(doc_take, JSON_COMPACT) : NULL;
	int r = text ? hf_txn_put(txn, table, hf_span_str(key), hf_span_str(text)) : -ENOMEM;

	json_decref(doc_take);
	free(text);
	return r;
}

static int write_state(struct hf_txn *txn, const struct hub_job *j)
{
	return put_json(txn, HUB_T_JOB_STATE, j->id,
			json_pack("{sI si sI sI sb sb ss ss sI sI sI sI sI sI}", "seq", (json_int_t)j->seq, "status", (int)j->status,
				  "started", (json_int_t)j->started_ms, "end", (json_int_t)j->end_ms, "selected", j->selected,
				  "drained", j->drained, "selectPos", j->select_pos, "failure", j->failure, "devices",
				  (json_int_t)j->n_devices, "pending", (json_int_t)j->n_pending, "running", (json_int_t)j->n_running,
				  "failed", (json_int_t)j->n_failed, "succeeded", (json_int_t)j->n_succeeded, "answerBytes",
				  (json_int_t)j->answer_bytes));
}

int hub_jobs_write(struct hub_jobs *jobs, struct hf_txn *txn)
{
	struct hf_list *pos;
	int r = 0;

	hf_list_for_each(pos, &jobs->all) {
		struct hub_job *j = hf_container_of(pos, struct hub_job, node);

		if (r == 0 && j->dirty)
			r = write_state(txn, j);
	}
	return r;
}

bool hub_jobs_changed(const struct hub_jobs *jobs)
{
	return jobs->changed;
}

/* Of a job that was to be stored first with this commit nothing is left; others end, for their results are lost. */
void hub_jobs_written(struct hub_jobs *jobs, int err)
{
	struct hf_list *pos, *tmp;

	if (!jobs->changed)
		return;
	jobs->changed = false;
	hf_list_for_each_safe(pos, tmp, &jobs->all) {
		struct hub_job *j = hf_container_of(pos, struct hub_job, node);

		if (!j->dirty)
			continue;
		j->dirty = false;
		if (err == 0)
			j->stored = true;
		else if (!j->stored && j->n_calls == 0)
			drop(jobs, j);
		else
			hub_job_give_up(jobs, j, err);
	}
}

/* Takes what the request or its record says. */
static int read_request(struct hub_job *j, const json_t *o, struct hub_error *err)
{
	const json_t *type = json_object_get(o, "type"), *condition = json_object_get(o, "queryCondition");
	struct hub_method_call call;
	char reason[192];
	int r;

	j->is_method = json_is_string(type) && strcasecmp(json_string_value(type), "scheduleDeviceMethod") == 0;
	if (!j->is_method && (!json_is_string(type) || strcasecmp(json_string_value(type), "scheduleUpdateTwin") != 0))
		return BAD(err, "type must be scheduleUpdateTwin or scheduleDeviceMethod");
	if (!json_is_string(condition) || json_string_length(condition) == 0)
		return BAD(err, "queryCondition must be a condition of the query language, or *");
	r = hub_query_parse_condition(hf_span_str(json_string_value(condition)), &j->condition, reason, sizeof reason);
	if (r == HF_EINVALID)
		return BAD(err, "queryCondition: %s", reason);
	if (r != 0)
		return r;
	if (j->is_method)
		r = hub_method_read(json_object_get(o, "cloudToDeviceMethod"), &call, err);
	else
		r = json_is_object(json_object_get(o, "updateTwin")) ?
			hub_twin_check(NULL, json_object_get(o, "updateTwin"), false, err) : BAD(err, "updateTwin must be an object");
	if (r != 0)
		return r;
	j->request = json_pack("{ss sO sO}", "type", hub_job_type(j), "queryCondition", condition, j->is_method ?
			       "cloudToDeviceMethod" : "updateTwin",
			       json_object_get(o, j->is_method ? "cloudToDeviceMethod" : "updateTwin"));
	j->request_len = j->request ? json_dumpb(j->request, NULL, 0, JSON_COMPACT) : 0;
	return j->request_len ? 0 : -ENOMEM;
}

static struct hub_job *job_new(const char *id)
{
	struct hub_job *j = calloc(1, sizeof *j);

	if (!j)
		return NULL;
	hf_list_init(&j->node);
	hf_list_init(&j->active_node);
	j->id = strdup(id);
	if (!j->id) {
		free(j);
		return NULL;
	}
	return j;
}

static int add(struct hub_jobs *jobs, struct hub_job *j)
{
	struct hf_list *pos;

	if (hf_map_put(jobs->by_id, hf_span_str(j->id), j) != 0)
		return -ENOMEM;
	for (pos = jobs->all.prev; pos != &jobs->all; pos = pos->prev)	/* by number: loading is in another order */
		if (hf_container_of(pos, struct hub_job, node)->seq < j->seq)
			break;
	hf_list_add_head(pos, &j->node);
	jobs->n_all++;
	jobs->n_running += j->status == HUB_JOB_RUNNING;
	jobs->n_results += j->n_devices;
	jobs->request_bytes += j->request_len;
	jobs->answer_bytes += j->answer_bytes;
	jobs->last_seq = hf_max(jobs->last_seq, j->seq);
	if (j->status == HUB_JOB_RUNNING || (is_over(j) && !j->drained))
		hf_list_add_tail(&jobs->active, &j->active_node);
	return 0;
}

static int load_one(struct hub_jobs *jobs, struct hf_txn *txn, struct hf_span key, struct hf_span value)
{
	json_t *o = json_loadb((const char *)value.ptr, value.len, 0, NULL), *state = NULL;
	hf_autofree char *id = hf_span_dup(key);
	struct hub_job *j = id ? job_new(id) : NULL;
	json_int_t seq, started, end, n[5], bytes, created, start, max_s;
	const char *pos, *failure;
	int status, selected, drained, r = j ? 0 : -ENOMEM;

	if (r == 0)
		r = hf_txn_get(txn, HUB_T_JOB_STATE, key, &value);
	if (r == 0)
		state = json_loadb((const char *)value.ptr, value.len, 0, NULL);
	if (r == 0 && (json_unpack(o, "{sI sI sI}", "created", &created, "start", &start, "maxExecutionTimeInSeconds", &max_s) != 0 ||
		       json_unpack(state, "{sI si sI sI sb sb ss ss sI sI sI sI sI sI}", "seq", &seq, "status", &status, "started",
				   &started, "end", &end, "selected", &selected, "drained", &drained, "selectPos", &pos, "failure",
				   &failure, "devices", &n[0], "pending", &n[1], "running", &n[2], "failed", &n[3], "succeeded",
				   &n[4], "answerBytes", &bytes) != 0 || status < 0 || status >= HUB_JOB__COUNT))
		r = HF_ECORRUPT;
	if (r == 0)
		r = read_request(j, o, NULL);
	if (r == 0) {
		j->stored = true;
		j->seq = (uint64_t)seq;
		j->status = (enum hub_job_status)status;
		j->created_ms = created;
		j->start_ms = start;
		j->started_ms = started;
		j->end_ms = end;
		j->max_s = (uint32_t)max_s;
		j->selected = selected;
		j->drained = drained;
		snprintf(j->select_pos, sizeof j->select_pos, "%s", pos);
		snprintf(j->failure, sizeof j->failure, "%s", failure);
		j->n_devices = (unsigned)n[0];
		j->n_pending = (unsigned)n[1];
		j->n_running = (unsigned)n[2];
		j->n_failed = (unsigned)n[3];
		j->n_succeeded = (unsigned)n[4];
		j->answer_bytes = (size_t)bytes;
		r = add(jobs, j);
	}
	if (r != 0 && j)
		job_free(j);
	json_decref(o);
	json_decref(state);
	return r;
}

struct load { struct hub_jobs *jobs; struct hf_txn *txn; };

static int load_record(void *arg, struct hf_span key, struct hf_span value)
{
	const struct load *l = arg;
	int r = load_one(l->jobs, l->txn, key, value);

	if (r != 0)
		hf_log(HF_LOG_ERR, "hub.load", "job %.*s: %s", (int)key.len, (const char *)key.ptr, hf_strerror(r));
	return r;
}

int hub_jobs_load(struct hub_jobs *jobs)
{
	struct hf_txn *txn;
	uint64_t last = 0;
	int r = hf_txn_begin(jobs->m->state, false, &txn);

	if (r != 0)
		return r;
	r = hf_txn_each(txn, HUB_T_JOB, load_record, &(struct load){ jobs, txn });
	hf_txn_abort(&txn);
	if (r == 0)
		r = hub_results_last_seq(jobs, &last);
	jobs->last_seq = hf_max(jobs->last_seq, last);
	jobs->purge = true;
	hub_jobs_wake(jobs);
	hub_model_tick(jobs->m);
	return r;
}

/* --- requests ----------------------------------------------------------------------------------------------- */

static void forget(struct hub_jobs *jobs, struct hub_job *j)
{
	struct hf_txn *txn;

	if (hub_state_txn(jobs->m, &txn) == 0) {
		hf_txn_del(txn, HUB_T_JOB, hf_span_str(j->id));
		hf_txn_del(txn, HUB_T_JOB_STATE, hf_span_str(j->id));
	}
	drop(jobs, j);
}

static bool is_removable(const struct hub_job *j)
{
	return is_over(j) && j->drained && j->n_calls == 0;
}

/* Oldest first; true: one is gone. */
static bool forget_oldest(struct hub_jobs *jobs)
{
	struct hf_list *pos;

	hf_list_for_each(pos, &jobs->all) {
		struct hub_job *j = hf_container_of(pos, struct hub_job, node);

		if (is_removable(j)) {
			forget(jobs, j);
			return true;
		}
	}
	return false;
}

static bool is_full(const struct hub_jobs *jobs, size_t more)
{
	return jobs->n_all >= HUB_MAX_JOBS || jobs->request_bytes + more > HUB_MAX_JOBS_BYTES ||
	       jobs->n_results >= HUB_MAX_RESULTS || jobs->answer_bytes >= HUB_MAX_RESULT_BYTES;
}

static int read_times(struct hub_job *j, const json_t *o, struct hub_error *err)
{
	const json_t *start = json_object_get(o, "startTime"), *max = json_object_get(o, "maxExecutionTimeInSeconds");
	json_int_t s = json_integer_value(max);

	j->created_ms = j->start_ms = hf_clock_wall_ms();
	j->max_s = DEFAULT_EXECUTION_S;
	if (start && !json_is_null(start) &&
	    (!json_is_string(start) || hf_iso8601_parse(hf_span_str(json_string_value(start)), &j->start_ms) != 0))
		return BAD(err, "startTime must be an ISO 8601 time");
	if (max && !json_is_null(max) && (!json_is_integer(max) || s < 0 || s > HUB_JOB_KEEP_MS / 1000))
		return BAD(err, "maxExecutionTimeInSeconds must be a number up to %lld", HUB_JOB_KEEP_MS / 1000);
	if (s > 0)
		j->max_s = (uint32_t)s;
	return 0;
}

static int store(struct hub_jobs *jobs, const struct hub_job *j)
{
	json_t *o = json_pack("{sI sI sI}", "created", (json_int_t)j->created_ms, "start", (json_int_t)j->start_ms,
			      "maxExecutionTimeInSeconds", (json_int_t)j->max_s);
	struct hf_txn *txn;
	int r = o && json_object_update(o, j->request) == 0 ? hub_state_txn(jobs->m, &txn) : -ENOMEM;

	if (r != 0)
		json_decref(o);
	else
		r = put_json(txn, HUB_T_JOB, j->id, o);
	return r;
}

int hub_job_create(struct hub_model *m, const char *id, const json_t *request, json_t **ret_doc, struct hub_error *err)
{
	const json_t *named = json_object_get(request, "jobId");
	struct hub_jobs *jobs = m->jobs;
	struct hub_job *j;
	int r;

	hub_error_default(err);
	if (!json_is_object(request) || !hub_name_valid(id) || (json_is_string(named) && strcmp(json_string_value(named), id) != 0))
		return BAD(err, "a job is an object; its id has 1 to 128 plain characters and is that of the path");
	hub_jobs_step(jobs);
	if (hf_map_get(jobs->by_id, hf_span_str(id)))
		return hub_refuse(err, HF_EEXISTS, 409, 409003, "JobAlreadyExists", "Job %s exists already.", id);
	j = job_new(id);
	if (!j)
		return -ENOMEM;
	r = read_times(j, request, err);
	if (r == 0)
		r = read_request(j, request, err);
	while (r == 0 && is_full(jobs, j->request_len) && forget_oldest(jobs))
		;
	if (r == 0 && is_full(jobs, j->request_len))
		r = hub_refuse(err, HF_ELIMIT, 403, 403001, "JobQuotaExceeded", "too many jobs are not finished");
	if (r == 0) {
		j->status = j->start_ms > hf_clock_wall_ms() ? HUB_JOB_SCHEDULED : HUB_JOB_QUEUED;
		j->seq = jobs->last_seq + 1;
		r = store(jobs, j);
	}
	if (r == 0)
		r = add(jobs, j);
	if (r != 0) {
		job_free(j);
		return r;
	}
	hub_job_dirty(jobs, j);
	hub_jobs_wake(jobs);
	hub_model_tick(m);
	*ret_doc = job_doc(j);
	/* The first answer says so also when the job's time is to come, as the service's does. */
	return *ret_doc && json_object_set_new(*ret_doc, "status", json_string(status_names[HUB_JOB_QUEUED])) == 0 ? 0 : -ENOMEM;
}

int hub_job_cancel(struct hub_model *m, const char *id, json_t **ret_doc, struct hub_error *err)
{
	struct hub_job *j = hf_map_get(m->jobs->by_id, hf_span_str(id));

	hub_error_default(err);
	if (!j)
		return hub_refuse(err, HF_ENOTFOUND, 404, 404002, "JobNotFound", "Job %.128s not found", id);
	if (is_over(j))
		return hub_refuse(err, HF_EINVALID, 400, 400003, "InvalidOperation", "Job %s has ended: %s", j->id,
				  hub_job_status_name(j->status));
	hub_job_set_status(m->jobs, j, HUB_JOB_CANCELLED, NULL);
	if (!hf_list_linked(&j->active_node))
		hf_list_add_tail(&m->jobs->active, &j->active_node);
	hub_jobs_wake(m->jobs);
	*ret_doc = job_doc(j);
	return *ret_doc ? 0 : -ENOMEM;
}

/* --- time --------------------------------------------------------------------------------------------------- */

bool hub_jobs_step(struct hub_jobs *jobs)
{
	int64_t now = hf_clock_wall_ms();
	struct hf_list *pos, *tmp;
	bool more = false;

	hf_list_for_each_safe(pos, tmp, &jobs->all) {
		struct hub_job *j = hf_container_of(pos, struct hub_job, node);

		if (j->status == HUB_JOB_SCHEDULED && j->start_ms <= now)
			hub_job_set_status(jobs, j, HUB_JOB_QUEUED, NULL);
		else if (j->status == HUB_JOB_RUNNING && now - j->started_ms > (int64_t)j->max_s * 1000)
			hub_job_set_status(jobs, j, HUB_JOB_FAILED, "the maximum execution time is over");
		else if (is_removable(j) && now - j->end_ms > HUB_JOB_KEEP_MS) {
			forget(jobs, j);
			continue;
		}
		more = more || !is_over(j);
	}
	hub_jobs_wake(jobs);
	return more;
}

int hub_jobs_create(struct hub_model *m, struct hub_jobs **ret_jobs)
{
	struct hub_jobs *jobs = calloc(1, sizeof *jobs);

	if (!jobs || hf_map_create(&jobs->by_id) != 0) {
		free(jobs);
		return -ENOMEM;
	}
	jobs->m = m;
	hf_list_init(&jobs->all);
	hf_list_init(&jobs->active);
	hf_task_init(&jobs->task, hub_jobs_work, jobs);
	*ret_jobs = jobs;
	return 0;
}

void hub_jobs_destroy(struct hub_jobs **pjobs)
{
	struct hub_jobs *jobs = *pjobs;

	if (!jobs)
		return;
	*pjobs = NULL;
	hf_task_cancel(&jobs->task);
	while (!hf_list_empty(&jobs->all)) {
		struct hub_job *j = hf_container_of(jobs->all.next, struct hub_job, node);

		hf_list_del(&j->node);
		job_free(j);
	}
	hf_map_destroy(&jobs->by_id);
	free(jobs);
}
