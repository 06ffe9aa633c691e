/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Scope sync for gateways, both generations (iothub-protocol 8.1, 8.2). The caller was authenticated as the
 * edge device of the path or its $edgeHub. */
#include "core/util.h"
#include "hub/rest/rest_int.h"

#include <errno.h>
#include <holdfast/err.h>
#include <stdio.h>

#define DEFAULT_PAGE 100

struct page {
	json_t *devices, *modules;
	char last[HF_ID_MAX + 1];	/* the last child of the page */
	bool more;
};

static int page_init(struct page *p)
{
	memset(p, 0, sizeof *p);
	p->devices = json_array();
	p->modules = json_array();
	return p->devices && p->modules ? 0 : -ENOMEM;
}

/* link is taken; NULL = last page. */
static void answer(struct rest_req *q, struct page *p, json_t *link)
{
	rest_json(q, 200, json_pack("{so so so}", "devices", p->devices, "modules", p->modules, "continuationLink",
				    link ? link : json_null()), NULL);
}

static void drop(struct rest_req *q, struct page *p)
{
	json_decref(p->devices);
	json_decref(p->modules);
	rest_refuse(q, 500, 500001, "ServerError", "no memory");
}

static int add(struct rest_req *q, struct page *p, const struct hub_ident *d)
{
	int r = json_array_append_new(p->devices, hub_ident_scope_record(q->m, d));

	for (const struct hub_ident *mod = hub_module_next(q->m, d->device_id, NULL); mod;
	     mod = hub_module_next(q->m, d->device_id, mod->module_id))
		r |= json_array_append_new(p->modules, hub_ident_scope_record(q->m, mod));
	return r;
}

/* The edge device first, then its children by id; `after` = last child of the page before, NULL = first page. */
static int fill(struct rest_req *q, const struct hub_ident *edge, const char *after, size_t size, struct page *p)
{
	int r = page_init(p);

	if (r == 0 && !after)
		r = add(q, p, edge);
	for (const struct hub_ident *d = hub_device_next(q->m, after); d && r == 0;
	     d = hub_device_next(q->m, d->device_id)) {
		if (strcmp(d->parent_scope, edge->device_scope) != 0)
			continue;
		p->more = json_array_size(p->devices) >= size;
		if (p->more)
			break;
		r = add(q, p, d);
		snprintf(p->last, sizeof p->last, "%s", d->device_id);
	}
	return r;
}

/* Tokens are "c" and the hex of the last child's id: safe in any URL. An edge device alone on the first page
 * leaves no last child; "c" alone then starts with the first one. */
static json_t *make_token(const struct page *p)
{
	hf_autobuf struct hf_buf b = HF_BUF_INIT(512);

	hf_buf_putc(&b, 'c');
	hf_hex_encode(hf_span_str(p->last), &b);
	return b.err ? NULL : json_string(hf_buf_cstr(&b));
}

static int nibble(uint8_t c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int read_token(struct hf_span t, char out[HF_ID_MAX + 1])
{
	size_t n = t.len ? (t.len - 1) / 2 : 0;

	if (t.len == 0 || t.ptr[0] != 'c' || (t.len - 1) % 2 || n > HF_ID_MAX)
		return HF_EINVALID;
	for (size_t i = 0; i < n; i++) {
		int hi = nibble(t.ptr[1 + 2 * i]), lo = nibble(t.ptr[2 + 2 * i]);

		if (hi < 0 || lo < 0 || (hi | lo) == 0)
			return HF_EINVALID;
		out[i] = (char)(hi << 4 | lo);
	}
	out[n] = '\0';
	return 0;
}

static const struct hub_ident *edge_of(struct rest_req *q)
{
	return hub_ident_find(q->m, hf_span_str(q->device));
}

void rest_scope_list(struct rest_req *q)
{
	hf_autobuf struct hf_buf token = HF_BUF_INIT(512), version = HF_BUF_INIT(64), path = HF_BUF_INIT(2048);
	int64_t size = rest_number(q, "deviceCount", REST_MAX_PAGE, DEFAULT_PAGE);
	char after[HF_ID_MAX + 1] = "";
	bool next = hf_http_query(q->http, "continuationToken", &token) && hf_buf_len(&token);
	struct page p;
	json_t *link = NULL;

	if (size < 0 || (next && read_token(hf_buf_span(&token), after) != 0)) {
		rest_refuse(q, 400, 400004, "ArgumentInvalid", "deviceCount is 0 to %d; tokens are used as given",
			    REST_MAX_PAGE);
		return;
	}
	if (size == 0)
		size = DEFAULT_PAGE;
	if (fill(q, edge_of(q), next ? after : NULL, (size_t)size, &p) != 0) {
		drop(q, &p);
		return;
	}
	if (p.more) {
		json_t *t = make_token(&p);

		if (!hf_http_query(q->http, "api-version", &version) || hf_buf_len(&version) == 0)
			hf_buf_puts(&version, "2018-08-30-preview");
		hf_buf_puts(&path, "/devices/");
		hf_uri_encode(hf_span_str(q->device), &path);
		hf_buf_printf(&path, "/modules/%%24edgeHub/devicesAndModulesInDeviceScope?deviceCount=%lld"
				     "&continuationToken=%s&api-version=", (long long)size, json_string_value(t));
		hf_uri_encode(hf_buf_span(&version), &path);
		json_decref(t);
		link = t && !path.err ? json_string(hf_buf_cstr(&path)) : NULL;
		if (!link) {
			drop(q, &p);
			return;
		}
	}
	answer(q, &p, link);
}

static bool in_scope(const struct hub_ident *edge, const struct hub_ident *d)
{
	return d && (d == edge || (*d->parent_scope && strcmp(d->parent_scope, edge->device_scope) == 0));
}

/* One device, and one module of it when asked for. */
static void answer_one(struct rest_req *q, const struct hub_ident *d, const char *module)
{
	const struct hub_ident *mod = NULL;
	char id[HF_IDENT_MAX + 1];
	struct page p;
	int r;

	if (module && *module) {
		if (snprintf(id, sizeof id, "%s/%s", d->device_id, module) < (int)sizeof id)
			mod = hub_ident_find(q->m, hf_span_str(id));
		if (!mod) {
			rest_refuse(q, 404, 404010, "ModuleNotFound", "Module %.128s not registered", module);
			return;
		}
	}
	r = page_init(&p);
	if (r == 0)
		r = json_array_append_new(p.devices, hub_ident_scope_record(q->m, d));
	if (r == 0 && mod)
		r = json_array_append_new(p.modules, hub_ident_scope_record(q->m, mod));
	if (r != 0)
		drop(q, &p);
	else
		answer(q, &p, NULL);
}

void rest_scope_one(struct rest_req *q)
{
	hf_autobuf struct hf_buf target = HF_BUF_INIT(512), module = HF_BUF_INIT(512);
	const struct hub_ident *d = NULL;

	if (hf_http_query(q->http, "targetDeviceId", &target))
		d = hub_ident_find(q->m, hf_buf_span(&target));
	hf_http_query(q->http, "targetModuleId", &module);
	if (!d || d->module_id || !in_scope(edge_of(q), d))
		rest_refuse(q, 404, 404001, "DeviceNotFound", "Device %.128s is not in the scope of %s",
			    hf_buf_cstr(&target), q->device);
	else
		answer_one(q, d, hf_buf_cstr(&module));
}

/* --- second generation ------------------------------------------------------------------------------------ */

/* Is b the next link after a? A module's own device may stand between the module and the device's parent. */
static bool is_next(const struct hub_ident *a, const struct hub_ident *b, bool after_module)
{
	if (!b->enabled || (after_module && a == b))
		return b->enabled;
	return b->is_edge && *a->parent_scope && strcmp(a->parent_scope, b->device_scope) == 0;
}

/* Walks "target;parent;...;actor": each must be the parent of the one before, the last the caller. Returns the
 * target's device, NULL when the chain does not hold. A target may be "D/M". */
static const struct hub_ident *chain_target(struct rest_req *q)
{
	struct hf_span rest = hf_span_str(json_string_value(json_object_get(q->body, "authChain"))), part;
	const struct hub_ident *target = NULL, *below = NULL, *at = NULL;
	bool more = true, is_module = false;

	for (unsigned n = 0; more; n++) {
		struct hf_span device;

		more = hf_span_cut(&rest, ';', &part);
		if (part.len == 0 && !more && n)
			break;		/* a ';' at the end */
		device = part;
		if (n == 0)
			is_module = hf_span_cut(&part, '/', &device);
		at = hub_ident_find(q->m, device);
		if (!at || at->module_id || (n && !is_next(below, at, is_module && n == 1)))
			return NULL;
		if (n == 0)
			target = at;
		below = at;
	}
	return at && strcmp(at->device_id, q->device) == 0 ? target : NULL;
}

const struct hub_ident *rest_chain_target(struct rest_req *q)
{
	const struct hub_ident *t = chain_target(q);

	if (!t)
		rest_refuse(q, 401, 401002, "IotHubUnauthorizedAccess", "the authChain does not hold");
	return t;
}

void rest_scope_target_list(struct rest_req *q)
{
	const char *token = json_string_value(json_object_get(q->body, "continuationLink"));
	const json_t *page_size = json_object_get(q->body, "pageSize");
	json_int_t size = page_size ? json_integer_value(page_size) : DEFAULT_PAGE;
	char after[HF_ID_MAX + 1] = "";
	const struct hub_ident *t;
	struct page p;
	json_t *link = NULL;

	if (size < 0 || size > REST_MAX_PAGE || (token && *token && read_token(hf_span_str(token), after) != 0)) {
		rest_refuse(q, 400, 400004, "ArgumentInvalid", "pageSize is 0 to %d; links are used as given", REST_MAX_PAGE);
		return;
	}
	t = rest_chain_target(q);
	if (!t)
		return;
	if (!t->is_edge) {
		rest_refuse(q, 400, 400004, "ArgumentInvalid", "%s is not an edge device", t->device_id);
		return;
	}
	if (fill(q, t, token && *token ? after : NULL, size ? (size_t)size : DEFAULT_PAGE, &p) != 0 ||
	    (p.more && !(link = make_token(&p))))
		drop(q, &p);
	else
		answer(q, &p, link);
}

void rest_scope_on_behalf(struct rest_req *q)
{
	const char *device = json_string_value(json_object_get(q->body, "targetDeviceId"));
	const char *module = json_string_value(json_object_get(q->body, "targetModuleId"));
	const struct hub_ident *t = rest_chain_target(q), *d;

	if (!t)
		return;
	d = device ? hub_ident_find(q->m, hf_span_str(device)) : NULL;
	if (!d || d->module_id || (d != t && !(t->is_edge && in_scope(t, d))))
		rest_refuse(q, 404, 404001, "DeviceNotFound", "Device %.128s is not in the scope of %s",
			    device ? device : "", t->device_id);
	else
		answer_one(q, d, module);
}
