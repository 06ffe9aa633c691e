/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Work of jobs: note whom a job concerns, then do it to each, some in every loop turn. */
#include "core/clock.h"
#include "core/log.h"
#include "core/metric.h"
#include "core/util.h"
#include "hub/jobs/jobs_int.h"
#include "hub/metrics.h"

#include <errno.h>
#include <holdfast/err.h>
#include <stdio.h>

#define SLICE_VISITS 500	/* identities looked at */
#define SLICE_WORK 20000	/* steps of evaluation meanwhile */
#define SLICE_RESULTS 50	/* results worked on */
#define MAX_CALLS 100		/* methods of one job in flight */
#define STEP_RESULT_KEEP 4096	/* room for anything but an answer in a result */

void hub_jobs_wake(struct hub_jobs *jobs)
{
	if (!jobs->m->closing)
		hf_task_next_turn(jobs->m->loop, &jobs->task);
}

/* --- results -------------------------------------------------------------------------------------------------- */

static bool is_running(const json_t *doc)
{
	const char *status = json_string_value(json_object_get(doc, "status"));

	return status && strcmp(status, "running") == 0;
}

static int stamp(json_t *doc, const char *status, bool start, bool end)
{
	char now[32];
	int r = json_object_set_new(doc, "status", json_string(status));

	hf_iso8601(hf_clock_wall_ms(), now);
	r |= json_object_set_new(doc, "lastUpdatedDateTimeUtc", json_string(now));
	if (start)
		r |= json_object_set_new(doc, "startTimeUtc", json_string(now));
	if (end)
		r |= json_object_set_new(doc, "endTimeUtc", json_string(now));
	return r ? -ENOMEM : 0;
}

/* Ends a result that is pending or running. err NULL: done, with this outcome (taken, may be NULL). */
static int end_result(struct hub_jobs *jobs, struct hub_job *j, const char *key, json_t *doc, json_t *outcome,
		      const struct hub_error *err)
{
	bool was_running = is_running(doc);
	int r = stamp(doc, err ? "failed" : "completed", !was_running, true);

	if (outcome && json_object_set_new(doc, "outcome", outcome) != 0)
		r = -ENOMEM;
	if (err && json_object_set_new(doc, "error", json_pack("{s:o, s:s}", "code", json_sprintf("%d", err->code),
							       "description", err->message)) != 0)
		r = -ENOMEM;
	if (r == 0)
		r = hub_result_put(jobs, key, doc);
	*(was_running ? &j->n_running : &j->n_pending) -= 1;
	*(err ? &j->n_failed : &j->n_succeeded) += 1;
	hub_job_dirty(jobs, j);
	return r;
}

/* --- methods -------------------------------------------------------------------------------------------------- */

struct job_call {
	struct hub_jobs *jobs;
	struct hub_job *j;	/* lives while it has calls */
	char key[HUB_JOB_KEY_MAX + 1];
};

static json_t *method_outcome(struct hub_jobs *jobs, struct hub_job *j, int status, struct hf_span payload,
			      struct hub_error *bad)
{
	json_t *body = payload.len ? json_loadb((const char *)payload.ptr, payload.len, JSON_DECODE_ANY, NULL) : json_null();

	if (!body) {
		hub_refuse(bad, 0, 502, 502001, "BadDeviceResponse", "the device answered with something that is not JSON");
		return NULL;
	}
	if (payload.len + STEP_RESULT_KEEP > HUB_MAX_RESULT_BYTES - hf_min(jobs->answer_bytes, HUB_MAX_RESULT_BYTES)) {
		json_decref(body);
		hub_refuse(bad, 0, 403, 403002, "IotHubQuotaExceeded", "no room for the answer, status %d", status);
		return NULL;
	}
	jobs->answer_bytes += payload.len;
	j->answer_bytes += payload.len;
	return json_pack("{s{si so}}", "deviceMethodResponse", "status", status, "payload", body);
}

void hub_job_give_up(struct hub_jobs *jobs, struct hub_job *j, int r)
{
	static struct hf_log_limit limit;
	char why[96];

	hf_metric_add(HUB_M_JOBS_FAILED, 1);
	hf_log_limited(&limit, HF_LOG_ERR, "hub.job", "job %s: %s", j->id, hf_strerror(r));
	snprintf(why, sizeof why, "the hub could not go on: %s", hf_strerror(r));
	if (j->status <= HUB_JOB_RUNNING)
		hub_job_set_status(jobs, j, HUB_JOB_FAILED, why);
	else
		j->drained = true;	/* it had ended: leave its results as they are */
}

static void on_done(void *arg, int status, struct hf_span payload, const struct hub_error *err)
{
	struct job_call *c = arg;
	struct hub_jobs *jobs = c->jobs;
	struct hub_job *j = c->j;
	struct hub_error bad;
	json_t *doc = NULL, *outcome = NULL;
	int r;

	j->n_calls--;
	if (jobs->m->closing) {		/* the call is made again after the start */
		free(c);
		return;
	}
	r = hub_result_get(jobs, c->key, &doc);
	if (r == 0 && !err && !(outcome = method_outcome(jobs, j, status, payload, &bad)))
		err = &bad;
	if (r == 0)
		r = end_result(jobs, j, c->key, doc, outcome, err);
	json_decref(doc);
	free(c);
	if (r != 0)
		hub_job_give_up(jobs, j, r);
	hub_jobs_wake(jobs);
}

/* 0: under way; the refusal's code otherwise, with err. */
static int call(struct hub_jobs *jobs, struct hub_job *j, const char *key, struct hub_error *err)
{
	struct hub_method_call method;
	struct job_call *c = calloc(1, sizeof *c);
	int r = c ? hub_method_read(json_object_get(j->request, "cloudToDeviceMethod"), &method, err) : -ENOMEM;

	if (r == 0) {
		c->jobs = jobs;
		c->j = j;
		snprintf(c->key, sizeof c->key, "%s", key);
		snprintf(method.target, sizeof method.target, "%s", strchr(key, '/') + 1);
		method.done = on_done;
		method.arg = c;
		j->n_calls++;
		r = hub_method_invoke(jobs->m, &method);
		j->n_calls -= r != 0;
	}
	if (r != 0)
		free(c);
	return r;
}

/* The identity that was chosen; NULL with err: it is gone, and whoever has its id now was not meant. */
static const struct hub_ident *target_of(struct hub_jobs *jobs, const char *key, const json_t *doc, struct hub_error *err)
{
	const char *id = strchr(key, '/') + 1, *generation = json_string_value(json_object_get(doc, "generationId"));
	const struct hub_ident *ident = hub_ident_find(jobs->m, hf_span_str(id));

	if (ident && generation && strcmp(generation, ident->generation_id) == 0)
		return ident;
	hub_refuse(err, 0, 404, 404001, "DeviceNotFound", "%s is not registered any more", id);
	return NULL;
}

/* --- steps ------------------------------------------------------------------------------------------------------ */

/* The result is running before the call is out: a device may answer at once. */
static int do_method(struct hub_jobs *jobs, struct hub_job *j, const char *key, json_t *doc)
{
	struct hub_error err;
	int r = 0;

	if (!is_running(doc)) {		/* else: once more, after a restart */
		j->n_pending--;
		j->n_running++;
		hub_job_dirty(jobs, j);
		r = stamp(doc, "running", true, false);
		if (r == 0)
			r = hub_result_put(jobs, key, doc);
		if (r != 0)
			return r;
	}
	hub_error_default(&err);
	r = target_of(jobs, key, doc, &err) ? call(jobs, j, key, &err) : HF_ENOTFOUND;
	return r ? end_result(jobs, j, key, doc, NULL, &err) : 0;
}

static int do_twin(struct hub_jobs *jobs, struct hub_job *j, const char *key, json_t *doc)
{
	const json_t *patch = json_object_get(j->request, "updateTwin");
	const char *etag = json_string_value(json_object_get(patch, "etag"));
	struct hub_error err;
	const struct hub_ident *ident = target_of(jobs, key, doc, &err);
	int r = ident ? hub_twin_update(jobs->m, ident, patch, false, etag && *etag ? etag : NULL, NULL, &err) : HF_ENOTFOUND;

	return end_result(jobs, j, key, doc, NULL, r ? &err : NULL);
}

/* A result that a job leaves behind when it ended early. */
static int drop(struct hub_jobs *jobs, struct hub_job *j, const char *key, json_t *doc)
{
	bool was_running = is_running(doc);
	struct hub_error err;
	int r;

	if (j->status == HUB_JOB_FAILED) {
		hub_refuse(&err, 0, 408, 408001, "JobRunTimeExceeded", "%s", j->failure);
		return end_result(jobs, j, key, doc, NULL, &err);
	}
	r = stamp(doc, "canceled", false, true);
	*(was_running ? &j->n_running : &j->n_pending) -= 1;
	hub_job_dirty(jobs, j);
	return r ? r : hub_result_put(jobs, key, doc);
}

struct batch {
	char keys[SLICE_RESULTS][HUB_JOB_KEY_MAX + 1];
	json_t *docs[SLICE_RESULTS];
	char last[HUB_JOB_KEY_MAX + 1];
	unsigned n, seen, max;
};

static bool collect(void *arg, const char *key, json_t *doc)
{
	const char *status = json_string_value(json_object_get(doc, "status"));
	struct batch *b = arg;

	if (status && (strcmp(status, "pending") == 0 || strcmp(status, "running") == 0)) {
		snprintf(b->keys[b->n], sizeof b->keys[0], "%s", key);
		b->docs[b->n++] = json_incref(doc);
	}
	snprintf(b->last, sizeof b->last, "%s", key);
	return b->n < b->max && ++b->seen < SLICE_VISITS;
}

/* Works on some results; *ret_end: there are no further ones. */
static int work_slice(struct hub_jobs *jobs, struct hub_job *j, bool *ret_end)
{
	int (*step)(struct hub_jobs *, struct hub_job *, const char *, json_t *) =
		j->status != HUB_JOB_RUNNING ? drop : j->is_method ? do_method : do_twin;
	struct batch *b = calloc(1, sizeof *b);
	int r = b ? 0 : -ENOMEM;

	if (r == 0) {
		b->max = step == do_method ? hf_min(SLICE_RESULTS, MAX_CALLS - j->n_calls) : SLICE_RESULTS;
		r = hub_job_results(jobs->m, j->id, j->run_pos, collect, b);
		*ret_end = b->n < b->max && b->seen < SLICE_VISITS;
	}
	for (unsigned i = 0; b && i < b->n; i++) {
		if (r == 0)
			r = step(jobs, j, b->keys[i], b->docs[i]);
		json_decref(b->docs[i]);
	}
	if (r == 0 && *b->last)
		snprintf(j->run_pos, sizeof j->run_pos, "%s", b->last);
	free(b);
	return r;
}

static int select_slice(struct hub_jobs *jobs, struct hub_job *j)
{
	const struct hub_ident *ident;
	unsigned visits = hf_min(hub_query_visits(j->condition, SLICE_WORK), (unsigned)SLICE_VISITS);
	int r = 0;

	while (r == 0 && (ident = hub_query_next(jobs->m, j->condition, j->select_pos, &visits))) {
		if (jobs->n_results >= HUB_MAX_RESULTS)
			return HF_EFULL;
		r = hub_result_add(jobs, j, ident);
		j->n_devices++;
		j->n_pending++;
		jobs->n_results++;
	}
	j->selected = r == 0 && visits > 0;
	hub_job_dirty(jobs, j);
	return r;
}

/* True: there is more to do at once. */
static bool run_slice(struct hub_jobs *jobs, struct hub_job *j)
{
	bool end = false;
	int r;

	if (j->status == HUB_JOB_RUNNING && !j->selected) {
		r = select_slice(jobs, j);
	} else if (j->status == HUB_JOB_RUNNING && j->is_method && j->n_calls >= MAX_CALLS) {
		return false;
	} else {
		r = work_slice(jobs, j, &end);
	}
	if (r != 0)
		hub_job_give_up(jobs, j, r);
	if (r == 0 && end && j->status == HUB_JOB_RUNNING && j->n_calls)
		return false;
	if (r == 0 && end) {
		if (j->status == HUB_JOB_RUNNING)
			hub_job_set_status(jobs, j, HUB_JOB_COMPLETED, NULL);
		j->drained = true;
		hub_job_dirty(jobs, j);
	}
	if (j->drained)
		hf_list_del(&j->active_node);
	return !j->drained;
}

static void start_queued(struct hub_jobs *jobs)
{
	struct hf_list *pos;

	hf_list_for_each(pos, &jobs->all) {
		struct hub_job *j = hf_container_of(pos, struct hub_job, node);

		if (jobs->n_running >= HUB_MAX_JOBS_RUNNING)
			return;
		if (j->status != HUB_JOB_QUEUED)
			continue;
		hub_job_set_status(jobs, j, HUB_JOB_RUNNING, NULL);
		hf_list_add_tail(&jobs->active, &j->active_node);
	}
}

/* One slice of one job, then it is another one's turn. */
void hub_jobs_work(void *arg)
{
	struct hub_jobs *jobs = arg;
	size_t n = 0;
	bool more = false;
	struct hf_list *pos;

	start_queued(jobs);
	hf_list_for_each(pos, &jobs->active)
		n++;
	for (; n && !more; n--) {
		struct hub_job *j = hf_container_of(jobs->active.next, struct hub_job, active_node);

		hf_list_del(&j->active_node);
		hf_list_add_tail(&jobs->active, &j->active_node);
		more = run_slice(jobs, j);
	}
	if (jobs->purge)
		jobs->purge = hub_results_purge(jobs);
	if (more || jobs->purge)
		hub_jobs_wake(jobs);
}
