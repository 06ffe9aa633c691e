/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Routing, authority and answers of the HTTPS side. */
#include "core/clock.h"
#include "core/log.h"
#include "core/metric.h"
#include "core/util.h"
#include "hub/auth.h"
#include "hub/metrics.h"
#include "hub/portal/portal_session.h"
#include "hub/rest/rest_int.h"
#include "ws/ws.h"

#include <errno.h>
#include <holdfast/err.h>
#include <stdarg.h>
#include <stdio.h>

#define MAX_SEGMENTS 8
#define JSON_TYPE "application/json; charset=utf-8"
/* Beside the policy rights: which device tokens will do, and that the body is not JSON. */
enum { SCOPE_CALLER = 16, DEVICE_TOKEN = 32, RAW_BODY = 64 };
#define DEVICE_API (HUB_DEVICE_CONNECT | DEVICE_TOKEN)
#define POLICY_RIGHTS (HUB_REGISTRY_READ | HUB_REGISTRY_WRITE | HUB_SERVICE_CONNECT | HUB_DEVICE_CONNECT)

static const struct rest_route routes[] = {
	{ "GET", "devices", HUB_REGISTRY_READ, rest_device_list, REST_REGISTRY },
	{ "POST", "devices", HUB_REGISTRY_WRITE, rest_bulk, REST_REGISTRY },
	{ "POST", "devices/query", HUB_REGISTRY_READ | HUB_SERVICE_CONNECT, rest_query, REST_QUERY },
	{ "POST", "devices/keys/regenerate", HUB_REGISTRY_WRITE, rest_keys, REST_REGISTRY },
	{ "GET", "devices/{D}", HUB_REGISTRY_READ, rest_ident_get, REST_REGISTRY },
	{ "PUT", "devices/{D}", HUB_REGISTRY_WRITE, rest_ident_put, REST_REGISTRY },
	{ "DELETE", "devices/{D}", HUB_REGISTRY_WRITE, rest_ident_delete, REST_REGISTRY },
	{ "GET", "devices/{D}/modules", HUB_REGISTRY_READ, rest_module_list, REST_REGISTRY },
	{ "GET", "devices/{D}/modules/{M}", HUB_REGISTRY_READ, rest_ident_get, REST_REGISTRY },
	{ "PUT", "devices/{D}/modules/{M}", HUB_REGISTRY_WRITE, rest_ident_put, REST_REGISTRY },
	{ "DELETE", "devices/{D}/modules/{M}", HUB_REGISTRY_WRITE, rest_ident_delete, REST_REGISTRY },
	{ "DELETE", "devices/{D}/commands", HUB_SERVICE_CONNECT, rest_purge, REST_FREE },
	{ "POST", "devices/{D}/applyConfigurationContent", HUB_REGISTRY_WRITE, rest_apply_content, REST_CONFIGURATION },
	{ "POST", "devices/{D}/messages/events", DEVICE_API | RAW_BODY, rest_telemetry, REST_TELEMETRY },
	{ "POST", "devices/{D}/modules/{M}/messages/events", DEVICE_API | RAW_BODY, rest_telemetry, REST_TELEMETRY },
	{ "GET", "devices/{D}/messages/devicebound", DEVICE_API | RAW_BODY, rest_c2d_receive, REST_DEVICE },
	{ "DELETE", "devices/{D}/messages/devicebound/{L}", DEVICE_API | RAW_BODY, rest_c2d_complete, REST_DEVICE },
	{ "POST", "devices/{D}/messages/devicebound/{L}/abandon", DEVICE_API | RAW_BODY, rest_c2d_abandon, REST_DEVICE },
	{ "POST", "devices/{D}/files", DEVICE_API, rest_upload_start, REST_DEVICE },
	{ "POST", "devices/{D}/files/notifications", DEVICE_API, rest_upload_done, REST_DEVICE },
	{ "POST", "devices/{D}/files/notifications/{L}", DEVICE_API, rest_upload_done, REST_DEVICE },
	{ "POST", "messages/devicebound", HUB_SERVICE_CONNECT | RAW_BODY, rest_c2d_send, REST_FREE },
	{ "GET", "messages/servicebound/feedback", HUB_SERVICE_CONNECT | RAW_BODY, rest_feedback, REST_FREE },
	{ "DELETE", "messages/servicebound/feedback/{L}", HUB_SERVICE_CONNECT | RAW_BODY, rest_feedback_complete, REST_FREE },
	{ "POST", "messages/servicebound/feedback/{L}/abandon", HUB_SERVICE_CONNECT | RAW_BODY, rest_feedback_abandon, REST_FREE },
	{ "GET", "messages/servicebound/filenotifications", HUB_SERVICE_CONNECT | RAW_BODY, rest_files, REST_FREE },
	{ "DELETE", "messages/servicebound/filenotifications/{L}", HUB_SERVICE_CONNECT | RAW_BODY, rest_files_complete, REST_FREE },
	{ "POST", "messages/servicebound/filenotifications/{L}/abandon", HUB_SERVICE_CONNECT | RAW_BODY, rest_files_abandon, REST_FREE },
	{ "GET", "configurations", HUB_REGISTRY_READ, rest_config_list, REST_CONFIGURATION },
	{ "POST", "configurations/testQueries", HUB_REGISTRY_READ, rest_config_test, REST_CONFIGURATION },
	{ "GET", "configurations/{L}", HUB_REGISTRY_READ, rest_config_get, REST_CONFIGURATION },
	{ "PUT", "configurations/{L}", HUB_REGISTRY_WRITE, rest_config_put, REST_CONFIGURATION },
	{ "DELETE", "configurations/{L}", HUB_REGISTRY_WRITE, rest_config_delete, REST_CONFIGURATION },
	{ "POST", "jobs/create", HUB_REGISTRY_WRITE, rest_transfer_create, REST_JOB },
	{ "GET", "jobs", HUB_REGISTRY_WRITE, rest_transfer_list, REST_JOB },
	{ "GET", "jobs/{L}", HUB_REGISTRY_WRITE, rest_transfer_get, REST_JOB },
	{ "DELETE", "jobs/{L}", HUB_REGISTRY_WRITE, rest_transfer_cancel, REST_JOB },
	{ "GET", "jobs/v2/query", HUB_SERVICE_CONNECT, rest_job_query, REST_JOB },
	{ "GET", "jobs/v2/{L}", HUB_SERVICE_CONNECT, rest_job_get, REST_JOB },
	{ "PUT", "jobs/v2/{L}", HUB_SERVICE_CONNECT, rest_job_put, REST_JOB },
	{ "POST", "jobs/v2/{L}/cancel", HUB_SERVICE_CONNECT, rest_job_cancel, REST_JOB },
	{ "GET", "statistics/devices", HUB_REGISTRY_READ, rest_device_statistics, REST_FREE },
	{ "GET", "statistics/service", HUB_REGISTRY_READ, rest_service_statistics, REST_FREE },
	{ "GET", "twins/{D}", HUB_SERVICE_CONNECT, rest_twin_get, REST_TWIN_READ },
	{ "PATCH", "twins/{D}", HUB_SERVICE_CONNECT, rest_twin_patch, REST_TWIN_UPDATE },
	{ "PUT", "twins/{D}", HUB_SERVICE_CONNECT, rest_twin_put, REST_TWIN_UPDATE },
	{ "POST", "twins/{D}/methods", HUB_SERVICE_CONNECT, rest_method, REST_METHOD },
	{ "GET", "twins/{D}/modules/{M}", HUB_SERVICE_CONNECT, rest_twin_get, REST_TWIN_READ },
	{ "PATCH", "twins/{D}/modules/{M}", HUB_SERVICE_CONNECT, rest_twin_patch, REST_TWIN_UPDATE },
	{ "PUT", "twins/{D}/modules/{M}", HUB_SERVICE_CONNECT, rest_twin_put, REST_TWIN_UPDATE },
	{ "POST", "twins/{D}/modules/{M}/methods", HUB_SERVICE_CONNECT, rest_method, REST_METHOD },
	{ "GET", "devices/{D}/modules/{M}/devicesAndModulesInDeviceScope", SCOPE_CALLER, rest_scope_list, REST_SCOPE },
	{ "GET", "devices/{D}/modules/{M}/deviceAndModuleInDeviceScope", SCOPE_CALLER, rest_scope_one, REST_SCOPE },
	{ "POST", "devices/{D}/modules/{M}/devicesAndModulesInTargetDeviceScope", SCOPE_CALLER, rest_scope_target_list, REST_SCOPE },
	{ "POST", "devices/{D}/modules/{M}/getDeviceAndModuleOnBehalfOf", SCOPE_CALLER, rest_scope_on_behalf, REST_SCOPE },
	{ "PUT", "devices/{D}/modules/{M}/putModuleOnBehalfOf", SCOPE_CALLER, rest_behalf_put, REST_SCOPE },
	{ "POST", "devices/{D}/modules/{M}/getModuleOnBehalfOf", SCOPE_CALLER, rest_behalf_get, REST_SCOPE },
	{ "POST", "devices/{D}/modules/{M}/getModulesOnTargetDevice", SCOPE_CALLER, rest_behalf_list, REST_SCOPE },
	{ "POST", "devices/{D}/modules/{M}/deleteModuleOnBehalfOf", SCOPE_CALLER, rest_behalf_delete, REST_SCOPE },
	{ "GET", "digitaltwins/{D}", HUB_SERVICE_CONNECT, rest_digital_get, REST_TWIN_READ },
	{ "PATCH", "digitaltwins/{D}", HUB_SERVICE_CONNECT, rest_digital_patch, REST_TWIN_UPDATE },
	{ "POST", "digitaltwins/{D}/commands/{L}", HUB_SERVICE_CONNECT, rest_digital_command, REST_METHOD },
	{ "POST", "digitaltwins/{D}/components/{C}/commands/{L}", HUB_SERVICE_CONNECT, rest_digital_command, REST_METHOD },
};

/* --- answers ---------------------------------------------------------------------------------------------- */

struct rest_reply {
	struct hf_list node;
	struct hub_wait wait;
	struct hub_rest *rest;
	struct hf_http_exchange *x;
	int status;
	char *text, *headers;
};

json_t *rest_error_doc(const struct hub_error *err, bool nested)
{
	char when[32], tracking[96];
	json_t *inner, *out;
	char *text = NULL;

	hf_iso8601(hf_clock_wall_ms(), when);
	snprintf(tracking, sizeof tracking, "%016llx%016llx-G:0-TimeStamp:%s", (unsigned long long)hf_random_u64(),
		 (unsigned long long)hf_random_u64(), when);
	if (!nested)
		return json_pack("{s:o, s:o}", "Message", json_sprintf("ErrorCode:%s;%s", err->name, err->message),
				 "ExceptionMessage", json_sprintf("Tracking ID:%s", tracking));
	inner = json_pack("{ss* si ss ss}", "message", err->message, "errorCode", err->code, "trackingId", tracking,
			  "timestampUtc", when);
	if (inner)
		text = json_dumps(inner, JSON_COMPACT);
	json_decref(inner);
	out = json_pack("{ss* ss}", "Message", text, "ExceptionMessage", "");
	free(text);
	return out;
}

static void send_text(struct hf_http_exchange *x, int status, const char *text, const char *headers)
{
	char all[1024];

	snprintf(all, sizeof all, "x-ms-request-id: %016llx\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n%s", (unsigned long long)hf_random_u64(),
		 headers ? headers : "");
	hf_http_respond(x, status, text ? JSON_TYPE : NULL, hf_span_str(text), all);
}

void rest_bytes(struct rest_req *q, int status, const char *type, struct hf_span body, const char *headers)
{
	hf_autobuf struct hf_buf all = HF_BUF_INIT(1 << 20);

	hf_buf_printf(&all, "x-ms-request-id: %016llx\r\n", (unsigned long long)hf_random_u64());
	hf_buf_puts(&all, headers);
	if (all.err)
		rest_refuse(q, 500, 500001, "ServerError", "no memory");
	else
		hf_http_respond(hf_take(q->x), status, type, body, hf_buf_cstr(&all));
}

void rest_json(struct rest_req *q, int status, json_t *doc, const char *headers)
{
	char *text = doc ? json_dumps(doc, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;

	json_decref(doc);
	if (!text && status != 204) {
		send_text(hf_take(q->x), 500, "{\"Message\":\"ErrorCode:ServerError;no memory\"}",
			  "iothub-errorcode: ServerError\r\n");
		return;
	}
	send_text(hf_take(q->x), status, text, headers);
	if (text)
		explicit_bzero(text, strlen(text));	/* it may hold keys */
	free(text);
}

void rest_error(struct rest_req *q, const struct hub_error *err)
{
	char header[128];

	snprintf(header, sizeof header, "iothub-errorcode: %s\r\n", err->name);
	rest_json(q, err->http_status, rest_error_doc(err, false), header);
}

void rest_decline(struct rest_req *q, const struct hub_error *err)
{
	static struct hf_log_limit limit;

	hf_metric_add(HUB_M_SERVICE_REFUSED, 1);
	hf_log_limited(&limit, HF_LOG_NOTICE, "hub.service.refused", "%.*s: %d %s: %s", (int)hf_min(q->http->path.len, 120u),
		       (const char *)q->http->path.ptr, err->http_status, err->name, err->message);
	rest_error(q, err);
}

void rest_refuse(struct rest_req *q, int http, int code, const char *name, const char *fmt, ...)
{
	struct hub_error err = { .http_status = http, .code = code, .name = name };
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(err.message, sizeof err.message, fmt, ap);
	va_end(ap);
	hf_utf8_repair(err.message);
	rest_error(q, &err);
}

static void reply_free(struct rest_reply *p)
{
	hf_list_del(&p->node);
	if (p->text)
		explicit_bzero(p->text, strlen(p->text));
	free(p->text);
	free(p->headers);
	free(p);
}

static void on_commit(void *arg, int err)
{
	struct rest_reply *p = arg;

	if (err == HF_EFULL)
		send_text(p->x, 503, "{\"Message\":\"ErrorCode:ServiceUnavailable;the storage is full\"}",
			  "iothub-errorcode: ServiceUnavailable\r\n");
	else if (err)
		send_text(p->x, 500, "{\"Message\":\"ErrorCode:ServerError;not stored\"}", "iothub-errorcode: ServerError\r\n");
	else
		send_text(p->x, p->status, p->text, p->headers);
	reply_free(p);
}

void rest_committed(struct rest_req *q, int status, json_t *doc, const char *headers)
{
	struct rest_reply *p = calloc(1, sizeof *p);

	if (p) {
		p->text = doc ? json_dumps(doc, JSON_COMPACT) : NULL;
		p->headers = headers ? strdup(headers) : NULL;
		hf_list_init(&p->node);
	}
	if (!p || (doc && !p->text) || (headers && !p->headers)) {
		if (p)
			reply_free(p);
		json_decref(doc);
		rest_refuse(q, 500, 500001, "ServerError", "no memory");
		return;
	}
	json_decref(doc);
	p->rest = q->rest;
	p->status = status;
	p->x = hf_take(q->x);
	hf_list_add_tail(&q->rest->replies, &p->node);
	hub_commit_wait(q->m, &p->wait, on_commit, p);
}

/* --- what handlers ask ------------------------------------------------------------------------------------ */

const struct hub_ident *rest_ident(struct rest_req *q)
{
	const struct hub_ident *i = hub_ident_find(q->m, hf_span_str(q->id));

	if (i)
		return i;
	if (*q->module && hub_ident_find(q->m, hf_span_str(q->device)))
		rest_refuse(q, 404, 404010, "ModuleNotFound", "Module %.200s not registered", q->id);
	else
		rest_refuse(q, 404, 404001, "DeviceNotFound", "E2 Device %s not registered", q->device);
	return NULL;
}

const char *rest_if_match(const struct rest_req *q)
{
	return q->has_if_match ? q->if_match : NULL;
}

int64_t rest_number(struct rest_req *q, const char *name, int64_t max, int64_t dflt)
{
	hf_autobuf struct hf_buf text = HF_BUF_INIT(64);
	int64_t v;

	if (!hf_http_query(q->http, name, &text) || hf_buf_len(&text) == 0)
		return dflt;
	return hf_parse_i64(hf_buf_span(&text), 0, max, &v) == 0 ? v : -1;
}

/* --- authority -------------------------------------------------------------------------------------------- */

/* $edgeHub of an edge device, or the edge device for it. */
static const char *check_scope_caller(struct rest_req *q, const struct hub_claim *claim)
{
	const struct hub_ident *device = hub_ident_find(q->m, hf_span_str(q->device)), *who;
	const char *why;

	if (strcmp(q->module, "$edgeHub") != 0 || !device || !device->is_edge)
		return "the caller is not the $edgeHub of an edge device";
	why = hub_ident_usable(q->m, hf_span_str(strcmp(claim->ident, q->device) == 0 ? q->device : q->id), &who);
	if (!why)
		why = hub_claim_act_as(q->m, claim, who, NULL);
	if (!why)
		q->caller = who;
	return why;
}

/* The identity of the path. Whether it is enabled is another question, with another answer. */
static const char *check_identity(struct rest_req *q, const struct hub_claim *claim, unsigned rights)
{
	const struct hub_ident *who = hub_ident_find(q->m, hf_span_str(q->id));
	const char *why;

	if (rights & SCOPE_CALLER)
		return check_scope_caller(q, claim);
	if (!(rights & DEVICE_TOKEN))
		return "a device token cannot do this";
	why = who ? hub_claim_act_as(q->m, claim, who, NULL) : "identity unknown";
	if (!why)
		q->caller = who;
	return why;
}

/* No token: the TLS certificate speaks for a device. */
static const char *check_cert(struct rest_req *q, unsigned rights)
{
	struct hf_conn *conn = hf_http_exchange_conn(q->x);
	const struct hub_ident *who = hub_ident_find(q->m, hf_span_str(q->id));
	const char *why;

	if (!(rights & DEVICE_TOKEN) || !conn)
		return "no Authorization header";
	why = who ? hub_cert_act_as(q->m, hf_conn_tls(conn), who) : "identity unknown";
	q->auth_type = "x509";
	if (!why)
		q->caller = who;
	return why;
}

static const char *authorize(struct rest_req *q, unsigned rights)
{
	struct hub_claim claim;
	struct hf_span token;
	const char *why;

	if (q->session)
		return q->session->rights & rights & POLICY_RIGHTS ? NULL : "the policy lacks the right";
	if (!hf_http_header(q->http, "Authorization", &token))
		return check_cert(q, rights);
	why = hub_claim_verify(q->m, token, &claim);
	if (why)
		return why;
	q->auth_type = claim.is_policy ? "policy" : "sas";
	if (!claim.is_policy)
		return check_identity(q, &claim, rights);
	if (!(claim.rights & rights & POLICY_RIGHTS))
		return "the policy lacks the right";
	return hub_claim_covers(&claim, q->device, q->module) ? NULL : "the token is for something else";
}

/* --- routing ---------------------------------------------------------------------------------------------- */

static int take_id(const char *seg, char out[HF_ID_MAX + 1])
{
	if (strlen(seg) > HF_ID_MAX || strchr(seg, '/'))
		return HF_EINVALID;
	snprintf(out, HF_ID_MAX + 1, "%s", seg);
	return 0;
}

static bool route_fits(const char *pattern, char *const *seg, unsigned n, struct rest_req *q)
{
	struct hf_span rest = hf_span_str(pattern), part;
	unsigned i = 0;

	q->device[0] = q->module[0] = q->component[0] = q->param[0] = '\0';
	for (; rest.len; i++) {
		hf_span_cut(&rest, '/', &part);
		if (i >= n)
			return false;
		if (hf_span_is(part, "{D}")) {
			if (take_id(seg[i], q->device) != 0)
				return false;
		} else if (hf_span_is(part, "{M}")) {
			if (take_id(seg[i], q->module) != 0)
				return false;
		} else if (hf_span_is(part, "{C}")) {
			if (take_id(seg[i], q->component) != 0)
				return false;
		} else if (hf_span_is(part, "{L}")) {
			snprintf(q->param, sizeof q->param, "%s", seg[i]);	/* a cut one names nothing either */
		} else if (!hf_span_ieq(part, hf_span_str(seg[i]))) {
			return false;
		}
	}
	return i == n;
}

/* Segments, decoded each for itself, so that an encoded slash stays inside its segment. */
static int split_path(struct hf_span path, char *seg[MAX_SEGMENTS], unsigned *ret_n)
{
	unsigned n = 0;

	if (path.len && path.ptr[0] == '/')
		path = hf_span_skip(path, 1);
	while (path.len) {
		hf_autobuf struct hf_buf text = HF_BUF_INIT(1024);
		struct hf_span part;

		hf_span_cut(&path, '/', &part);
		if (part.len == 0)
			continue;
		*ret_n = n;
		if (n == MAX_SEGMENTS || hf_uri_decode(part, &text) != 0 || text.err ||
		    memchr(hf_buf_cstr(&text), 0, hf_buf_len(&text)) || !hf_utf8_ok(hf_buf_span(&text)))
			return HF_EINVALID;
		seg[n] = strdup(hf_buf_cstr(&text));
		if (!seg[n])
			return -ENOMEM;
		n++;
	}
	*ret_n = n;
	return 0;
}

static bool device_usable(struct rest_req *q)
{
	const struct hub_ident *i = rest_ident(q);
	const struct hub_ident *device = i ? hub_ident_find(q->m, hf_span_str(i->device_id)) : NULL;

	if (i && (!device || !device->enabled || !i->enabled))
		rest_refuse_device(q, 403, 403012, "DeviceDisabled", "%.200s is disabled", device && device->enabled ? i->id : i->device_id);
	return q->x != NULL;
}

static void dispatch(struct rest_req *q, const struct rest_route *route)
{
	static struct hf_log_limit limit;
	struct hf_span match;
	const char *why;

	snprintf(q->id, sizeof q->id, "%s%s%s", q->device, *q->module ? "/" : "", q->module);
	why = authorize(q, route->rights);
	if (why) {
		hf_metric_add(HUB_M_REST_REFUSED, 1);
		hf_log_limited(&limit, HF_LOG_NOTICE, "hub.rest.refused", "%s %s: %s", route->method, route->path, why);
		rest_refuse(q, 401, 401002, "IotHubUnauthorizedAccess", "Unauthorized: %s", why);
		return;
	}
	if ((route->rights & DEVICE_TOKEN) && !device_usable(q))
		return;
	q->has_if_match = hf_http_header(q->http, "If-Match", &match);
	if (q->has_if_match && match.len >= sizeof q->if_match) {
		rest_refuse(q, 400, 400004, "ArgumentInvalid", "If-Match is too long");
		return;
	}
	if (q->has_if_match)
		memcpy(q->if_match, match.ptr, match.len);
	if (q->http->body.len && !(route->rights & RAW_BODY)) {
		json_error_t bad;

		q->body = json_loadb((const char *)q->http->body.ptr, q->http->body.len, JSON_DECODE_ANY, &bad);
		if (!q->body) {
			rest_refuse(q, 400, 400006, "IotHubFormatError", "line %d: %.120s", bad.line, bad.text);
			return;
		}
	}
	if (rest_gate(q, route->kind))
		route->fn(q);
}

bool rest_route(struct rest_req *q, const struct rest_route *table, size_t n_routes, char *const *seg, unsigned n)
{
	bool known = false;

	for (size_t i = 0; i < n_routes; i++) {
		if (!route_fits(table[i].path, seg, n, q))
			continue;
		known = true;
		if (strcmp(table[i].method, q->http->method) != 0)
			continue;
		dispatch(q, &table[i]);
		return true;
	}
	if (known)
		rest_refuse(q, 405, 405000, "GenericMethodNotAllowed", "%s is not offered here", q->http->method);
	return known;
}

void rest_service(struct rest_req *q, char *const *seg, unsigned n)
{
	if (!rest_route(q, routes, HF_ARRAY_LEN(routes), seg, n))
		rest_refuse(q, 404, 404000, "GenericNotFound", "no such resource");
}

static void handle(void *arg, const struct hf_http_request *http, struct hf_http_exchange *x)
{
	struct hub_rest *rest = arg;
	struct rest_req q = { .rest = rest, .m = rest->model, .http = http, .x = x };
	char *seg[MAX_SEGMENTS];
	unsigned n = 0;

	hf_metric_add(HUB_M_REST_REQUESTS, 1);
	if (rest_is_blob(http)) {
		rest_blob(&q);
	} else if (split_path(http->path, seg, &n) != 0) {
		rest_refuse(&q, 400, 400004, "ArgumentInvalid", "the path cannot be read");
	} else if (hf_ws_wanted(http)) {
		char path[64] = "";

		if (n == 2)
			snprintf(path, sizeof path, "%s/%s", seg[0], seg[1]);
		rest_websocket(&q, path);
	} else if (rest->portal && n && strcmp(seg[0], "portal") == 0) {
		rest_portal(&q, seg + 1, n - 1);
	} else {
		rest_service(&q, seg, n);
	}
	if (q.x)
		rest_refuse(&q, 500, 500001, "ServerError", "no answer");
	json_decref(q.body);
	for (unsigned i = 0; i < n; i++)
		free(seg[i]);
}

static void on_refused(void *arg)
{
	(void)arg;
	hf_metric_add(HUB_M_HTTP_REFUSED, 1);
}

void hub_rest_on_websocket(struct hub_rest *rest, void (*fn)(void *arg, enum hub_ws_protocol protocol, struct hf_conn *conn),
			   void *arg)
{
	rest->on_websocket = fn;
	rest->on_websocket_arg = arg;
}

void hub_rest_set_portal(struct hub_rest *rest, struct hub_portal *portal)
{
	rest->portal = portal;
}

int hub_rest_create(struct hf_loop *loop, struct hub_model *model, int listen_fd, struct hf_tls_ctx *tls,
		    struct hub_rest **ret_rest)
{
	struct hub_rest *rest = calloc(1, sizeof *rest);
	int r;

	if (!rest) {
		close(listen_fd);
		return -ENOMEM;
	}
	rest->loop = loop;
	rest->model = model;
	hf_list_init(&rest->replies);
	hf_list_init(&rest->calls);
	hf_list_init(&rest->puts);
	r = hf_http_srv_create(loop, listen_fd, &(struct hf_http_srv_cfg){ .tls = tls, .on_refused = on_refused,
								 .body_sink = rest_blob_sink }, handle, rest, &rest->srv);
	if (r != 0)
		free(rest);
	else
		*ret_rest = rest;
	return r;
}

void hub_rest_destroy(struct hub_rest **prest)
{
	struct hub_rest *rest = *prest;

	if (!rest)
		return;
	*prest = NULL;
	while (!hf_list_empty(&rest->replies)) {
		struct rest_reply *p = hf_container_of(rest->replies.next, struct rest_reply, node);

		hub_wait_cancel(&p->wait);
		send_text(p->x, 503, NULL, NULL);
		reply_free(p);
	}
	rest_calls_stop(rest);
	rest_blobs_stop(rest);
	hf_http_srv_destroy(&rest->srv);
	free(rest);
}
