/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Routing of the HTTPS side. */
#include "core/log.h"
#include "core/metric.h"
#include "core/util.h"
#include "hub/auth.h"
#include "hub/metrics.h"
#include "hub/rest/rest_int.h"
#include "ws/ws.h"

#include <errno.h>
#include <holdfast/err.h>
#include <stdio.h>

#define MAX_SEGMENTS 8
#define DEVICE_API (HUB_DEVICE_CONNECT | REST_DEVICE_TOKEN)

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
	{ "POST", "devices/{D}/messages/events", DEVICE_API | REST_RAW_BODY, rest_telemetry, REST_TELEMETRY },
	{ "POST", "devices/{D}/modules/{M}/messages/events", DEVICE_API | REST_RAW_BODY, rest_telemetry, REST_TELEMETRY },
	{ "GET", "devices/{D}/messages/devicebound", DEVICE_API | REST_RAW_BODY, rest_c2d_receive, REST_DEVICE },
	{ "DELETE", "devices/{D}/messages/devicebound/{L}", DEVICE_API | REST_RAW_BODY, rest_c2d_complete, REST_DEVICE },
	{ "POST", "devices/{D}/messages/devicebound/{L}/abandon", DEVICE_API | REST_RAW_BODY, rest_c2d_abandon, REST_DEVICE },
	{ "POST", "devices/{D}/files", DEVICE_API, rest_upload_start, REST_DEVICE },
	{ "POST", "devices/{D}/files/notifications", DEVICE_API, rest_upload_done, REST_DEVICE },
	{ "POST", "devices/{D}/files/notifications/{L}", DEVICE_API, rest_upload_done, REST_DEVICE },
	{ "POST", "messages/devicebound", HUB_SERVICE_CONNECT | REST_RAW_BODY, rest_c2d_send, REST_FREE },
	{ "GET", "messages/servicebound/feedback", HUB_SERVICE_CONNECT | REST_RAW_BODY, rest_feedback, REST_FREE },
	{ "DELETE", "messages/servicebound/feedback/{L}", HUB_SERVICE_CONNECT | REST_RAW_BODY, rest_feedback_complete, REST_FREE },
	{ "POST", "messages/servicebound/feedback/{L}/abandon", HUB_SERVICE_CONNECT | REST_RAW_BODY, rest_feedback_abandon, REST_FREE },
	{ "GET", "messages/servicebound/filenotifications", HUB_SERVICE_CONNECT | REST_RAW_BODY, rest_files, REST_FREE },
	{ "DELETE", "messages/servicebound/filenotifications/{L}", HUB_SERVICE_CONNECT | REST_RAW_BODY, rest_files_complete, REST_FREE },
	{ "POST", "messages/servicebound/filenotifications/{L}/abandon", HUB_SERVICE_CONNECT | REST_RAW_BODY, rest_files_abandon, REST_FREE },
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
	{ "GET", "devices/{D}/modules/{M}/devicesAndModulesInDeviceScope", REST_SCOPE_CALLER, rest_scope_list, REST_SCOPE },
	{ "GET", "devices/{D}/modules/{M}/deviceAndModuleInDeviceScope", REST_SCOPE_CALLER, rest_scope_one, REST_SCOPE },
	{ "POST", "devices/{D}/modules/{M}/devicesAndModulesInTargetDeviceScope", REST_SCOPE_CALLER, rest_scope_target_list, REST_SCOPE },
	{ "POST", "devices/{D}/modules/{M}/getDeviceAndModuleOnBehalfOf", REST_SCOPE_CALLER, rest_scope_on_behalf, REST_SCOPE },
	{ "PUT", "devices/{D}/modules/{M}/putModuleOnBehalfOf", REST_SCOPE_CALLER, rest_behalf_put, REST_SCOPE },
	{ "POST", "devices/{D}/modules/{M}/getModuleOnBehalfOf", REST_SCOPE_CALLER, rest_behalf_get, REST_SCOPE },
	{ "POST", "devices/{D}/modules/{M}/getModulesOnTargetDevice", REST_SCOPE_CALLER, rest_behalf_list, REST_SCOPE },
	{ "POST", "devices/{D}/modules/{M}/deleteModuleOnBehalfOf", REST_SCOPE_CALLER, rest_behalf_delete, REST_SCOPE },
	{ "GET", "digitaltwins/{D}", HUB_SERVICE_CONNECT, rest_digital_get, REST_TWIN_READ },
	{ "PATCH", "digitaltwins/{D}", HUB_SERVICE_CONNECT, rest_digital_patch, REST_TWIN_UPDATE },
	{ "POST", "digitaltwins/{D}/commands/{L}", HUB_SERVICE_CONNECT, rest_digital_command, REST_METHOD },
	{ "POST", "digitaltwins/{D}/components/{C}/commands/{L}", HUB_SERVICE_CONNECT, rest_digital_command, REST_METHOD },
};

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
	why = rest_authorize(q, route->rights);
	if (why) {
		hf_metric_add(HUB_M_REST_REFUSED, 1);
		hf_log_limited(&limit, HF_LOG_NOTICE, "hub.rest.refused", "%s %s: %s", route->method, route->path, why);
		rest_refuse(q, 401, 401002, "IotHubUnauthorizedAccess", "Unauthorized: %s", why);
		return;
	}
	if ((route->rights & REST_DEVICE_TOKEN) && !device_usable(q))
		return;
	q->has_if_match = hf_http_header(q->http, "If-Match", &match);
	if (q->has_if_match && match.len >= sizeof q->if_match) {
		rest_refuse(q, 400, 400004, "ArgumentInvalid", "If-Match is too long");
		return;
	}
	if (q->has_if_match)
		memcpy(q->if_match, match.ptr, match.len);
	if (q->http->body.len && !(route->rights & REST_RAW_BODY)) {
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

/* Some clients can send no other method than POST and name the one they mean. False: a method that cannot be meant. */
static bool override_method(struct hf_http_request *http)
{
	static const char *const methods[] = { "PATCH", "PUT", "DELETE" };
	struct hf_span meant;

	if (strcmp(http->method, "POST") != 0 || !hf_http_header(http, "X-HTTP-Method-Override", &meant))
		return true;
	for (size_t i = 0; i < HF_ARRAY_LEN(methods); i++)
		if (hf_span_is(meant, methods[i])) {
			snprintf(http->method, sizeof http->method, "%s", methods[i]);
			return true;
		}
	return false;
}

static void handle(void *arg, const struct hf_http_request *http, struct hf_http_exchange *x)
{
	struct hub_rest *rest = arg;
	struct hf_http_request meant = *http;
	bool is_blob = rest_is_blob(http), is_upgrade = !is_blob && hf_ws_wanted(http), is_path;
	struct rest_req q = { .rest = rest, .m = rest->model, .http = &meant, .x = x };
	char *seg[MAX_SEGMENTS];
	unsigned n = 0;

	hf_metric_add(HUB_M_REST_REQUESTS, 1);
	is_path = !is_blob && split_path(http->path, seg, &n) == 0;
	if (is_blob) {
		rest_blob(&q);
	} else if (!is_path && is_upgrade) {
		rest_refuse_upgrade(&q, 400, 400004, "ArgumentInvalid", "the path cannot be read");
	} else if (!is_path) {
		rest_refuse(&q, 400, 400004, "ArgumentInvalid", "the path cannot be read");
	} else if (!is_upgrade && !override_method(&meant)) {
		rest_refuse(&q, 400, 400004, "ArgumentInvalid", "X-HTTP-Method-Override is PATCH, PUT or DELETE");
	} else if (is_upgrade) {
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
	rest_replies_stop(rest);
	rest_calls_stop(rest);
	rest_blobs_stop(rest);
	hf_http_srv_destroy(&rest->srv);
	free(rest);
}
