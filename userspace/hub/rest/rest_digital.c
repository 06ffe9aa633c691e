/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Digital twins: read, patched, commanded. */
#include "core/util.h"
#include "hub/model/digital_twin.h"
#include "hub/rest/rest_int.h"

#include <stdio.h>

static void twin_etag(struct rest_req *q, const struct hub_ident *i, char out[128])
{
	json_t *twin = hub_twin_doc(q->m, i);
	const char *etag = json_string_value(json_object_get(twin, "etag"));

	snprintf(out, 128, "ETag: \"%s\"\r\n", etag ? etag : "");
	json_decref(twin);
}

void rest_digital_get(struct rest_req *q)
{
	const struct hub_ident *i = rest_ident(q);
	char header[128];

	if (!i)
		return;
	twin_etag(q, i, header);
	rest_json(q, 200, hub_digital_twin_doc(q->m, i), header);
}

void rest_digital_patch(struct rest_req *q)
{
	const struct hub_ident *i = rest_ident(q);
	hf_autobuf struct hf_buf headers = HF_BUF_INIT(1024);
	struct hub_error err;
	char etag[128];

	if (!i)
		return;
	if (hub_digital_twin_patch(q->m, i, q->body, rest_if_match(q), &err) != 0) {
		rest_decline(q, &err);
		return;
	}
	twin_etag(q, i, etag);
	hf_buf_printf(&headers, "%sLocation: https://%s/digitaltwins/", etag, hub_model_host(q->m));
	hf_uri_encode(hf_span_str(i->device_id), &headers);
	hf_buf_puts(&headers, "\r\n");
	rest_committed(q, 202, NULL, headers.err ? etag : hf_buf_cstr(&headers));
}

/* A command is a method; one of a component is "component*command". The body is its payload. */
void rest_digital_command(struct rest_req *q)
{
	const struct hub_ident *i = rest_ident(q);
	int64_t response = rest_number(q, "responseTimeoutInSeconds", 300, 30);
	int64_t connect = rest_number(q, "connectTimeoutInSeconds", 300, 0);
	struct hub_method_call call;
	struct hub_error err;
	json_t *doc;

	if (!i)
		return;
	doc = json_pack("{s:o, sO*, sI, sI}", "methodName", *q->component ? json_sprintf("%s*%s", q->component, q->param) :
			json_string(q->param), "payload", q->body, "responseTimeoutInSeconds", (json_int_t)response,
			"connectTimeoutInSeconds", (json_int_t)connect);
	if (!doc)
		rest_refuse(q, 500, 500001, "ServerError", "no memory");
	else if (hub_method_read(doc, &call, &err) != 0)
		rest_decline(q, &err);
	else
		rest_call(q, i, &call, true);
	json_decref(doc);
}
