/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "hub/scope_api.h"
#include "http/http.h"
#include "core/util.h"
struct hub_scope_api { struct hf_http_srv *srv; struct hub_model *m; };
static void on_req(void *arg, const struct hf_http_request *req, struct hf_http_exchange *x)
{
	struct hub_scope_api *r = arg;
	json_t *devs = json_array(), *mods = json_array();
	const struct hub_ident *d, *m;
	const char *after = NULL;
	json_t *body = json_loadb((const char *)req->body.ptr, req->body.len, 0, NULL);
	const char *target = json_string_value(json_object_get(body, "targetDeviceId"));
	while ((d = hub_device_next(r->m, after))) {
		const char *ma = NULL;
		after = d->id;
		if (target && strcmp(target, d->id)) continue;
		json_array_append_new(devs, hub_ident_scope_record(r->m, d));
		while ((m = hub_module_next(r->m, d->device_id, ma))) { json_array_append_new(mods, hub_ident_scope_record(r->m, m)); ma = m->module_id; }
	}
	json_t *o = json_pack("{s:o,s:o,s:n}", "devices", devs, "modules", mods, "continuationLink");
	char *t = json_dumps(o, JSON_COMPACT);
	hf_http_respond(x, 200, "application/json; charset=utf-8", hf_span_str(t), NULL);
	free(t); json_decref(o); json_decref(body);
}
int hub_scope_api_create(struct hf_loop *loop, struct hub_model *m, const char *host, int listen_fd, struct hf_tls_ctx *tls, struct hub_scope_api **ret)
{
	struct hub_scope_api *r = calloc(1, sizeof *r);
	(void)host;
	r->m = m;
	*ret = r;
	return hf_http_srv_create(loop, listen_fd, &(struct hf_http_srv_cfg){ .tls = tls }, on_req, r, &r->srv);
}
void hub_scope_api_destroy(struct hub_scope_api **rest) { if (*rest) { hf_http_srv_destroy(&(*rest)->srv); free(*rest); *rest = NULL; } }
