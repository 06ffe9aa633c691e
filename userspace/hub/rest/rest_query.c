/* SPDX-License-Identifier: GPL-3.0-or-later */
/* POST /devices/query: one page per request (iothub-protocol 5.10). */
#include "core/util.h"
#include "hub/query/query.h"
#include "hub/rest/rest_int.h"

#include <holdfast/err.h>
#include <stdio.h>

void rest_query(struct rest_req *q)
{
	const json_t *text = json_object_get(q->body, "query");
	hf_autofree char *token = NULL, *next = NULL;
	struct hub_query *query = NULL;
	char reason[192], headers[1024];
	int64_t max = REST_MAX_PAGE;
	struct hf_span h;
	json_t *rows = NULL;
	int r;

	if (!json_is_string(text)) {
		rest_refuse(q, 400, 400004, "ArgumentInvalid", "the body must be {\"query\": \"...\"}");
		return;
	}
	if (hf_http_header(q->http, "x-ms-max-item-count", &h) && h.len &&
	    hf_parse_i64(h, -1, INT32_MAX, &max) != 0) {
		rest_refuse(q, 400, 400004, "ArgumentInvalid", "x-ms-max-item-count must be a number");
		return;
	}
	if (max <= 0 || max > REST_MAX_PAGE)
		max = REST_MAX_PAGE;
	if (hf_http_header(q->http, "x-ms-continuation", &h) && !(token = hf_span_dup(h))) {
		rest_refuse(q, 500, 500001, "ServerError", "no memory");
		return;
	}
	r = hub_query_parse(hf_span(json_string_value(text), json_string_length(text)), &query, reason, sizeof reason);
	if (r == HF_EINVALID) {
		rest_refuse(q, 400, 400004, "ArgumentInvalid", "%s", reason);
		return;
	}
	if (r == 0)
		r = hub_query_run(q->m, query, (unsigned)max, token, &rows, &next);
	if (r == HF_EINVALID)
		rest_refuse(q, 400, 400004, "ArgumentInvalid", "x-ms-continuation is not one of this hub");
	else if (r == HF_ELIMIT)
		rest_refuse(q, 400, 400004, "ArgumentInvalid", "an aggregate over so many identities takes a shorter condition");
	else if (r != 0)
		rest_refuse(q, 500, 500001, "ServerError", "the query could not be run");
	if (r == 0) {
		snprintf(headers, sizeof headers, "x-ms-item-type: %s\r\n%s%s%s", hub_query_item_type(query),
			 next ? "x-ms-continuation: " : "", next ? next : "", next ? "\r\n" : "");
		rest_json(q, 200, rows, headers);
	}
	hub_query_destroy(&query);
}
