/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Service side of twins and direct methods (iothub-protocol 5.5, 5.6). */
#include "core/util.h"
#include "hub/rest_int.h"

#include <errno.h>
#include <holdfast/err.h>
#include <stdio.h>

#define MAX_PAYLOAD (128 * 1024)

static void answer_twin(struct rest_req *q, json_t *doc, bool written)
{
	const char *etag = json_string_value(json_object_get(doc, "etag"));
	char header[64];

	snprintf(header, sizeof header, "ETag: \"%s\"\r\n", etag ? etag : "");
	if (written)
		rest_committed(q, 200, doc, header);
	else
		rest_json(q, 200, doc, header);
}

void rest_twin_get(struct rest_req *q)
{
	const struct hub_ident *i = rest_ident(q);

	if (i)
		answer_twin(q, hub_twin_doc(q->m, i), false);
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
		answer_twin(q, doc, true);
}

void rest_twin_patch(struct rest_req *q) { change(q, false); }
void rest_twin_put(struct rest_req *q) { change(q, true); }

/* --- methods ---------------------------------------------------------------------------------------------- */

struct rest_call {
	struct hf_list node;
	struct hub_rest *rest;
	struct hf_http_exchange *x;	/* NULL once the server stopped */
};

static void on_done(void *arg, int device_status, struct hf_span payload, const struct hub_error *err)
{
	struct rest_call *c = arg;
	struct rest_req q = { .rest = c->rest, .x = c->x };
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
	if (payload.len > MAX_PAYLOAD || !body) {
		json_decref(body);
		rest_refuse(&q, 502, 502001, "BadDeviceResponse", "the device answered with something that is not JSON");
		return;
	}
	rest_json(&q, 200, json_pack("{si so}", "status", device_status, "payload", body), NULL);
}

/* Numbers and numeric text; dflt when absent, -1 when neither or out of range. */
static int64_t seconds(const json_t *o, const char *name, int64_t min, int64_t max, int64_t dflt)
{
	const json_t *v = json_object_get(o, name);
	int64_t n;

	if (!v || json_is_null(v))
		return dflt;
	if (json_is_string(v))
		return hf_parse_i64(hf_span_str(json_string_value(v)), min, max, &n) == 0 ? n : -1;
	n = json_is_integer(v) ? json_integer_value(v) : -1;
	return n >= min && n <= max ? n : -1;
}

static void refuse_call(struct rest_req *q, int r)
{
	if (r == HF_EINVALID)
		rest_refuse(q, 400, 400004, "ArgumentInvalid", "methodName has 1 to 100 plain characters");
	else
		rest_refuse(q, 500, 500001, "ServerError", "the call could not be made");
}

void rest_method(struct rest_req *q)
{
	const struct hub_ident *i = rest_ident(q);
	int64_t response = seconds(q->body, "responseTimeoutInSeconds", 5, 300, 30);
	int64_t connect = seconds(q->body, "connectTimeoutInSeconds", 0, 300, 0);
	const char *name = json_string_value(json_object_get(q->body, "methodName"));
	hf_autofree char *copy = name ? strdup(name) : NULL;
	struct hub_method_call call = { .name = copy, .payload = json_object_get(q->body, "payload"),
					.response_timeout_s = (uint32_t)response,
					.connect_timeout_s = (uint32_t)connect, .done = on_done };
	struct rest_call *c;
	int r;

	if (!i)
		return;
	if (!copy || response < 0 || connect < 0) {
		rest_refuse(q, 400, 400004, "ArgumentInvalid",
			    "methodName is needed; responseTimeoutInSeconds is 5 to 300, connectTimeoutInSeconds 0 to 300");
		return;
	}
	if (call.payload && json_dumpb(call.payload, NULL, 0, JSON_COMPACT | JSON_ENCODE_ANY) > MAX_PAYLOAD) {
		rest_refuse(q, 400, 400004, "ArgumentInvalid", "the payload is over %d bytes", MAX_PAYLOAD);
		return;
	}
	c = calloc(1, sizeof *c);
	if (!c) {
		refuse_call(q, -ENOMEM);
		return;
	}
	c->rest = q->rest;
	c->x = q->x;
	hf_list_add_tail(&q->rest->calls, &c->node);
	call.arg = c;
	snprintf(call.target, sizeof call.target, "%s", i->id);
	r = hub_method_invoke(q->m, &call);
	if (r == 0) {
		q->x = NULL;	/* on_done answers */
		return;
	}
	hf_list_del(&c->node);
	free(c);
	refuse_call(q, r);
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
