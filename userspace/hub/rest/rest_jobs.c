/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Scheduled jobs: PUT, GET, cancel and list (iothub-protocol 5.9). */
#include "core/util.h"
#include "hub/jobs/jobs.h"
#include "hub/rest/rest_int.h"

#include <holdfast/err.h>
#include <stdio.h>

static void answer(struct rest_req *q, int r, json_t *doc, const struct hub_error *err)
{
	if (r != 0)
		rest_decline(q, err);
	else
		rest_committed(q, 200, doc, NULL);
}

void rest_job_put(struct rest_req *q)
{
	struct hub_error err;
	json_t *doc = NULL;
	int r = hub_job_create(q->m, q->param, q->body, &doc, &err);

	answer(q, r, doc, &err);
}

void rest_job_cancel(struct rest_req *q)
{
	struct hub_error err;
	json_t *doc = NULL;
	int r = hub_job_cancel(q->m, q->param, &doc, &err);

	answer(q, r, doc, &err);
}

void rest_job_get(struct rest_req *q)
{
	json_t *doc = hub_job_doc(q->m, q->param);

	if (doc)
		rest_json(q, 200, doc, NULL);
	else
		rest_refuse(q, 404, 404002, "JobNotFound", "Job %.128s not found", q->param);
}

/* The token is the number of the last job of the page before. */
void rest_job_query(struct rest_req *q)
{
	hf_autobuf struct hf_buf type = HF_BUF_INIT(64), status = HF_BUF_INIT(64);
	char headers[128] = "x-ms-item-type: JobResponse\r\n";
	int64_t after = 0, max = REST_MAX_PAGE;
	const char *t, *s;
	json_t *list, *doc;
	struct hf_span h;
	uint64_t seq, next;

	hf_http_query(q->http, "jobType", &type);
	hf_http_query(q->http, "jobStatus", &status);
	t = hf_buf_len(&type) ? hf_buf_cstr(&type) : NULL;
	s = hf_buf_len(&status) ? hf_buf_cstr(&status) : NULL;
	if ((hf_http_header(q->http, "x-ms-max-item-count", &h) && h.len && hf_parse_i64(h, -1, INT32_MAX, &max) != 0) ||
	    (hf_http_header(q->http, "x-ms-continuation", &h) && h.len && hf_parse_i64(h, 0, INT64_MAX, &after) != 0)) {
		rest_refuse(q, 400, 400004, "ArgumentInvalid", "x-ms-max-item-count is a number, x-ms-continuation one of this hub");
		return;
	}
	if (max <= 0 || max > REST_MAX_PAGE)
		max = REST_MAX_PAGE;
	list = json_array();
	for (seq = (uint64_t)after; json_array_size(list) < (size_t)max && (doc = hub_job_next(q->m, &seq, t, s));)
		if (json_array_append_new(list, doc) != 0)
			break;
	next = seq;
	doc = json_array_size(list) == (size_t)max ? hub_job_next(q->m, &next, t, s) : NULL;
	if (doc) {
		size_t n = strlen(headers);

		snprintf(headers + n, sizeof headers - n, "x-ms-continuation: %llu\r\n", (unsigned long long)seq);
	}
	json_decref(doc);
	rest_json(q, 200, list, headers);
}
