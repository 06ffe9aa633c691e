/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Service side of twins and direct methods (iothub-protocol 5.5, 5.6). */
#include "core/util.h"
#include "hub/rest/rest_int.h"

#include <errno.h>
#include <holdfast/err.h>
#include <stdio.h>

void rest_twin_get(struct rest_req *q)
{
	const struct hub_ident *i = rest_ident(q);

	if (i)
		rest_document(q, hub_twin_doc(q->m, i), false);
}

static void change(struct rest_req *q, bool replace)
{
	const struct hub_ident *i = rest_ident(q);
	struct hub_error err;
	json_t *doc = NULL;

	if (!i)
		return;
	if (!json_is_object(q->body))
		rest_refuse(q, 400, 400006, "IotHubFormatError", "the body must be a JSON object");
	else if (hub_twin_update(q->m, i, q->body, replace, rest_if_match(q), &doc, &err) != 0)
		rest_error(q, &err);
	else
		rest_document(q, doc, true);
}

void rest_twin_patch(struct rest_req *q) { change(q, false); }
void rest_twin_put(struct rest_req *q) { change(q, true); }

/* --- methods ---------------------------------------------------------------------------------------------- */

struct rest_call {
	struct hf_list node;
	struct hub_rest *rest;
	struct hf_http_exchange *x;	/* NULL once the server stopped */
	bool is_command;
};

static void on_done(void *arg, int device_status, struct hf_span payload, const struct hub_error *err)
{
	struct rest_call *c = arg;
	struct rest_req q = { .rest = c->rest, .x = c->x };
	bool is_command = c->is_command;
	json_t *body;
	char header[128];

	hf_list_del(&c->node);
	free(c);
	if (!q.x)
		return;
	if (err) {
		snprintf(header, sizeof header, "iothub-errorcode: %s\r\n", err->name);
		rest_json(&q, err->http_status, rest_error_doc(err, true), header);
		return;
	}
	body = payload.len ? json_loadb((const char *)payload.ptr, payload.len, JSON_DECODE_ANY, NULL) : json_null();
	if (payload.len > HUB_METHOD_MAX || !body) {
		json_decref(body);
		rest_refuse(&q, 502, 502001, "BadDeviceResponse", "the device answered with something that is not JSON");
		return;
	}
	snprintf(header, sizeof header, "x-ms-command-statuscode: %d\r\n", device_status);
	if (is_command)
		rest_json(&q, 200, body, header);
	else
		rest_json(&q, 200, json_pack("{si so}", "status", device_status, "payload", body), NULL);
}

static void refuse_call(struct rest_req *q, int r)
{
	if (r == HF_EINVALID)
		rest_refuse(q, 400, 400004, "ArgumentInvalid", "methodName has 1 to 100 plain characters");
	else
		rest_refuse(q, 500, 500001, "ServerError", "the call could not be made");
}

void rest_call(struct rest_req *q, const struct hub_ident *target, struct hub_method_call *call, bool is_command)
{
	struct rest_call *c = calloc(1, sizeof *c);
	int r;

	if (!c) {
		refuse_call(q, -ENOMEM);
		return;
	}
	c->rest = q->rest;
	c->x = q->x;
	c->is_command = is_command;
	hf_list_add_tail(&q->rest->calls, &c->node);
	call->done = on_done;
	call->arg = c;
	snprintf(call->target, sizeof call->target, "%s", target->id);
	r = hub_method_invoke(q->m, call);
	if (r == 0) {
		q->x = NULL;	/* on_done answers */
		return;
	}
	hf_list_del(&c->node);
	free(c);
	refuse_call(q, r);
}

void rest_method(struct rest_req *q)
{
	const struct hub_ident *i = rest_ident(q);
	struct hub_method_call call;
	struct hub_error err;

	if (!i)
		return;
	if (hub_method_read(q->body, &call, &err) != 0)
		rest_error(q, &err);
	else
		rest_call(q, i, &call, false);
}

void rest_calls_stop(struct hub_rest *rest)
{
	while (!hf_list_empty(&rest->calls)) {
		struct rest_call *c = hf_container_of(rest->calls.next, struct rest_call, node);
		struct rest_req q = { .rest = rest, .x = hf_take(c->x) };

		hf_list_del(&c->node);	/* the model still calls on_done, which frees it */
		rest_refuse(&q, 503, 503001, "ServiceUnavailable", "the hub is stopping");
	}
}
