/* SPDX-License-Identifier: GPL-3.0-or-later */
/* hub/rest/rest_int.h - what the request handlers share. */
#pragma once
#include "http/http.h"
#include "hub/rest/rest.h"

struct hub_portal_session;
#define REST_MAX_PAGE 1000

struct hub_rest {
	struct hf_loop *loop;
	struct hub_model *model;
	struct hub_portal *portal;	/* NULL = none */
	struct hf_http_srv *srv;
	struct hf_list replies;		/* struct rest_reply: wait for their commit */
	struct hf_list calls;		/* struct rest_call: wait for a device */
	struct hf_list puts;		/* struct rest_put: wait for a sync */
	void (*on_websocket)(void *arg, enum hub_ws_protocol protocol, struct hf_conn *conn);
	void *on_websocket_arg;
};

/* One request while its handler runs. */
struct rest_req {
	struct hub_rest *rest;
	struct hub_model *m;
	const struct hf_http_request *http;
	struct hf_http_exchange *x;	/* NULL once answered */
	char device[HF_ID_MAX + 1], module[HF_ID_MAX + 1];	/* of the path, "" when absent */
	char id[HF_IDENT_MAX + 1];	/* "D" or "D/M" of the path */
	char component[HF_ID_MAX + 1];	/* of a digital twin, in the path */
	char param[512];		/* lock token, correlation id, job, configuration or command of the path */
	char if_match[256];
	bool has_if_match;
	json_t *body;			/* NULL when empty */
	const struct hub_ident *caller;	/* device token or certificate: whose; NULL for a policy token */
	const char *auth_type;		/* "sas", "policy" or "x509" */
	struct hub_portal_session *session;	/* a browser that is signed in to the portal asks; else NULL */
};
typedef void (*rest_handler)(struct rest_req *q);

/* rest_reply.c: answers. Each ends the request. doc is taken; headers: complete lines or NULL. */
void rest_json(struct rest_req *q, int status, json_t *doc, const char *headers);
void rest_error(struct rest_req *q, const struct hub_error *err);
/* As rest_error, counted and logged: for jobs, configurations and their like. */
void rest_decline(struct rest_req *q, const struct hub_error *err);
void rest_refuse(struct rest_req *q, int http, int code, const char *name, const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));
/* A body that is not JSON of the API: a message, a batch of records. type NULL: no Content-Type. */
void rest_bytes(struct rest_req *q, int status, const char *type, struct hf_span body, const char *headers);
/* As rest_json (doc NULL: no body), but only once everything changed so far is committed; else 500. */
void rest_committed(struct rest_req *q, int status, json_t *doc, const char *headers);
/* 200 with a document and its member etag as ETag; written: only once that is committed. */
void rest_document(struct rest_req *q, json_t *doc, bool written);
/* Document of an error: Message holds "ErrorCode:NAME;text", or JSON with the number when `nested`. */
json_t *rest_error_doc(const struct hub_error *err, bool nested);
const struct hub_ident *rest_ident(struct rest_req *q);	/* of the path; NULL: 404 was answered */
void rest_replies_stop(struct hub_rest *rest);

/* rest_auth.c: may this request do what asks for `rights`? NULL: yes, and q says who asks; else why not. */
const char *rest_authorize(struct rest_req *q, unsigned rights);

/* rest.c */
const char *rest_if_match(const struct rest_req *q);	/* NULL when absent */
/* Number in a query parameter; dflt when absent, -1 when not a number in [0, max]. */
int64_t rest_number(struct rest_req *q, const char *name, int64_t max, int64_t dflt);

/* rest_gate.c: what a request is to the limits (hub/fault/throttle.h) and the faults (hub/fault/fault.h). */
enum rest_kind {
	REST_FREE,		/* neither */
	REST_REGISTRY, REST_QUERY, REST_TWIN_READ, REST_TWIN_UPDATE, REST_CONFIGURATION, REST_JOB,
	REST_METHOD, REST_TELEMETRY, REST_SCOPE,
	REST_DEVICE,		/* of a device, other than telemetry */
	REST_C2D,		/* asked by the handler, which knows the device */
	REST__KINDS
};
/* False: answered, dropped, or put off. */
bool rest_gate(struct rest_req *q, enum rest_kind kind);

/* --- routes --- */
/* Beside the policy rights of auth.h: which device tokens will do, and that the body is not JSON. */
enum { REST_SCOPE_CALLER = 16, REST_DEVICE_TOKEN = 32, REST_RAW_BODY = 64 };
struct rest_route {
	const char *method, *path;	/* {D} and {M} stand for a device and a module */
	unsigned rights;		/* one of them is enough */
	rest_handler fn;
	enum rest_kind kind;
};
/* Runs the route of the table that fits, or answers 405; false: none has this path, nothing was answered. */
bool rest_route(struct rest_req *q, const struct rest_route *table, size_t n_routes, char *const *seg, unsigned n);
void rest_service(struct rest_req *q, char *const *seg, unsigned n);	/* the same with the service and device API; else 404 */

/* rest_ws.c: path is decoded and has no slash in front. */
void rest_websocket(struct rest_req *q, const char *path);
/* As rest_refuse; counted and logged as an upgrade. */
void rest_refuse_upgrade(struct rest_req *q, int http, int code, const char *name, const char *why);
/* rest_portal.c: the path behind /portal. */
void rest_portal(struct rest_req *q, char *const *seg, unsigned n);
/* rest_registry.c */
void rest_device_list(struct rest_req *q);
void rest_ident_get(struct rest_req *q);
void rest_ident_put(struct rest_req *q);
void rest_ident_delete(struct rest_req *q);
void rest_module_list(struct rest_req *q);
void rest_device_statistics(struct rest_req *q);
void rest_service_statistics(struct rest_req *q);
void rest_purge(struct rest_req *q);
/* rest_bulk.c */
void rest_bulk(struct rest_req *q);
void rest_keys(struct rest_req *q);
/* rest_content.c */
void rest_apply_content(struct rest_req *q);
/* rest_jobs.c */
void rest_job_put(struct rest_req *q);
void rest_job_get(struct rest_req *q);
void rest_job_cancel(struct rest_req *q);
void rest_job_query(struct rest_req *q);
/* rest_transfer.c */
void rest_transfer_create(struct rest_req *q);
void rest_transfer_list(struct rest_req *q);
void rest_transfer_get(struct rest_req *q);
void rest_transfer_cancel(struct rest_req *q);
/* rest_configs.c */
void rest_config_list(struct rest_req *q);
void rest_config_get(struct rest_req *q);
void rest_config_put(struct rest_req *q);
void rest_config_delete(struct rest_req *q);
void rest_config_test(struct rest_req *q);
/* rest_twins.c */
void rest_twin_get(struct rest_req *q);
void rest_twin_patch(struct rest_req *q);
void rest_twin_put(struct rest_req *q);
void rest_method(struct rest_req *q);
/* Calls a method of target, and answers when it has an outcome: as methods do, or as commands of digital twins. */
void rest_call(struct rest_req *q, const struct hub_ident *target, struct hub_method_call *call, bool is_command);
void rest_calls_stop(struct hub_rest *rest);
/* rest_scope.c */
void rest_scope_list(struct rest_req *q);
void rest_scope_one(struct rest_req *q);
void rest_scope_target_list(struct rest_req *q);
void rest_scope_on_behalf(struct rest_req *q);
/* The device at the start of the body's authChain, which must end with the caller; NULL: 401 was answered. */
const struct hub_ident *rest_chain_target(struct rest_req *q);
/* rest_behalf.c */
void rest_behalf_put(struct rest_req *q);
void rest_behalf_get(struct rest_req *q);
void rest_behalf_list(struct rest_req *q);
void rest_behalf_delete(struct rest_req *q);
/* rest_digital.c */
void rest_digital_get(struct rest_req *q);
void rest_digital_patch(struct rest_req *q);
void rest_digital_command(struct rest_req *q);
/* rest_query.c */
void rest_query(struct rest_req *q);
/* rest_device.c */
/* As rest_refuse, counted and logged as a refusal of the device API. */
void rest_refuse_device(struct rest_req *q, int http, int code, const char *name, const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));
void rest_telemetry(struct rest_req *q);
void rest_c2d_receive(struct rest_req *q);
void rest_c2d_complete(struct rest_req *q);	/* or rejects */
void rest_c2d_abandon(struct rest_req *q);
/* rest_upload.c */
void rest_upload_start(struct rest_req *q);
void rest_upload_done(struct rest_req *q);
/* rest_blob.c: has its own authority and errors. */
bool rest_is_blob(const struct hf_http_request *http);
void rest_blob(struct rest_req *q);
void rest_blob_sink(void *arg, const struct hf_http_request *http, struct hf_http_sink *ret_sink);
void rest_blobs_stop(struct hub_rest *rest);
/* rest_messages.c */
void rest_c2d_send(struct rest_req *q);
void rest_feedback(struct rest_req *q);
void rest_feedback_complete(struct rest_req *q);
void rest_feedback_abandon(struct rest_req *q);
void rest_files(struct rest_req *q);
void rest_files_complete(struct rest_req *q);
void rest_files_abandon(struct rest_req *q);
