/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Records of what a job did to each identity. Key: 16 hex digits of the job's number, '/', identity. */
#include "core/clock.h"
#include "core/util.h"
#include "hub/jobs/jobs_int.h"

#include <errno.h>
#include <holdfast/err.h>
#include <stdio.h>

#define PURGE_SLICE 500

/* A transaction that sees the changes of this turn; *ret_own is what to abort afterwards. */
static int reader(struct hub_model *m, struct hf_txn **ret_txn, struct hf_txn **ret_own)
{
	int r = 0;

	*ret_own = NULL;
	if (!m->state_txn)
		r = hf_txn_begin(m->state, false, ret_own);
	*ret_txn = m->state_txn ? m->state_txn : *ret_own;
	return r;
}

int hub_result_get(struct hub_jobs *jobs, const char *key, json_t **ret_doc)
{
	struct hf_txn *txn, *own;
	struct hf_span value;
	int r = reader(jobs->m, &txn, &own);

	if (r == 0)
		r = hf_txn_get(txn, HUB_T_JOB_RESULT, hf_span_str(key), &value);
	if (r == 0 && !(*ret_doc = json_loadb((const char *)value.ptr, value.len, 0, NULL)))
		r = HF_ECORRUPT;
	if (own)
		hf_txn_abort(&own);
	return r;
}

int hub_result_put(struct hub_jobs *jobs, const char *key, const json_t *doc)
{
	char *text = json_dumps(doc, JSON_COMPACT);
	struct hf_txn *txn;
	int r = text ? hub_state_txn(jobs->m, &txn) : -ENOMEM;

	if (r == 0)
		r = hf_txn_put(txn, HUB_T_JOB_RESULT, hf_span_str(key), hf_span_str(text));
	free(text);
	return r;
}

int hub_result_add(struct hub_jobs *jobs, struct hub_job *j, const struct hub_ident *ident)
{
	char key[HUB_JOB_KEY_MAX + 1], now[32];
	json_t *doc;
	int r;

	hf_iso8601(hf_clock_wall_ms(), now);
	snprintf(key, sizeof key, "%016llx/%s", (unsigned long long)j->seq, ident->id);
	doc = json_pack("{ss ss* ss ss ss ss ss ss}", "deviceId", ident->device_id, "moduleId", ident->module_id, "jobId", j->id,
			"jobType", hub_job_type(j), "status", "pending", "createdDateTimeUtc", now, "lastUpdatedDateTimeUtc", now,
			"generationId", ident->generation_id);
	r = doc ? hub_result_put(jobs, key, doc) : -ENOMEM;
	json_decref(doc);
	return r;
}

static uint64_t key_seq(struct hf_span key)
{
	return key.len > 16 && key.ptr[16] == '/' ? strtoull((const char *)key.ptr, NULL, 16) : 0;	/* 0: no job's */
}

static struct hf_span prefix(uint64_t seq, char buf[18])
{
	snprintf(buf, 18, "%016llx/", (unsigned long long)seq);
	return hf_span(buf, 17);
}

int hub_job_results(struct hub_model *m, const char *id, const char *after, bool (*fn)(void *arg, const char *key, json_t *doc),
		    void *arg)
{
	const struct hub_job *j = id ? hf_map_get(m->jobs->by_id, hf_span_str(id)) : NULL;
	char only[18], text[HUB_JOB_KEY_MAX + 1];
	struct hf_txn *txn, *own;
	struct hf_cursor *cur = NULL;
	struct hf_span from = hf_span_str(after), key, value;
	bool go = true;
	int at, r;

	if (id && !j)
		return 0;
	if (j && from.len == 0)
		from = prefix(j->seq, only);
	if (j)
		prefix(j->seq, only);
	r = reader(m, &txn, &own);
	if (r == 0)
		r = hf_cursor_open(txn, HUB_T_JOB_RESULT, &cur);
	at = r == 0 ? hf_cursor_seek(cur, from.len ? from : hf_span("0", 1), &key, &value) : r;
	for (; r == 0 && at == 0 && go; at = hf_cursor_next(cur, &key, &value)) {
		json_t *doc;

		if (key.len > HUB_JOB_KEY_MAX || (j && !hf_span_starts(key, only)))
			break;
		if (hf_span_is(key, after) || (!j && !hub_job_of(m->jobs, key_seq(key))))
			continue;	/* behind the last one; what is being removed is not seen */
		memcpy(text, key.ptr, key.len);
		text[key.len] = '\0';
		doc = json_loadb((const char *)value.ptr, value.len, 0, NULL);
		if (doc)
			go = fn(arg, text, doc);
		else
			r = HF_ECORRUPT;
		json_decref(doc);
	}
	hf_cursor_close(&cur);
	if (own)
		hf_txn_abort(&own);
	return r == 0 && at != 0 && at != HF_ENOTFOUND ? at : r;
}

int hub_results_last_seq(struct hub_jobs *jobs, uint64_t *ret_seq)
{
	struct hf_txn *txn, *own;
	struct hf_cursor *cur = NULL;
	struct hf_span key, value;
	int r = reader(jobs->m, &txn, &own);

	*ret_seq = 0;
	if (r == 0)
		r = hf_cursor_open(txn, HUB_T_JOB_RESULT, &cur);
	if (r == 0)
		r = hf_cursor_last(cur, &key, &value);
	if (r == 0)
		*ret_seq = key_seq(key);
	hf_cursor_close(&cur);
	if (own)
		hf_txn_abort(&own);
	return r == HF_ENOTFOUND ? 0 : r;
}

bool hub_results_purge(struct hub_jobs *jobs)
{
	struct hf_cursor *cur = NULL;
	struct hf_span key, value;
	struct hf_txn *txn;
	unsigned left = PURGE_SLICE;
	char from[18];
	int r = hub_state_txn(jobs->m, &txn);

	if (r == 0)
		r = hf_cursor_open(txn, HUB_T_JOB_RESULT, &cur);
	if (r == 0)
		r = hf_cursor_seek(cur, hf_span("0", 1), &key, &value);
	while (r == 0 && left) {
		uint64_t seq = key_seq(key);

		if (hub_job_of(jobs, seq)) {
			r = hf_cursor_seek(cur, prefix(seq + 1, from), &key, &value);
			continue;
		}
		left--;
		r = hf_cursor_del(cur);
		if (r == 0)
			r = hf_cursor_next(cur, &key, &value);
	}
	hf_cursor_close(&cur);
	return r == 0;	/* an error ends it; the next start tries again */
}
