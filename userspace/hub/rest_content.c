/* SPDX-License-Identifier: GPL-3.0-or-later */
/* applyConfigurationContent: sets the modules of one edge device and their desired properties (5.8). */
#include "core/util.h"
#include "hub/rest_int.h"

#include <errno.h>
#include <holdfast/err.h>
#include <stdio.h>

#define SECTION "properties.desired"
#define MAX_PATH 10	/* steps: twins may not be deeper */

/* May the key name desired properties: the whole, or a path below. */
static bool key_ok(const char *key)
{
	size_t n = strlen(SECTION), steps = 0;

	for (const char *c = key; *c; c++)
		steps += *c == '.';
	if (steps > MAX_PATH + 1)
		return false;
	return strncmp(key, SECTION, n) == 0 && (key[n] == '\0' || (key[n] == '.' && key[n + 1] != '\0'));
}

static const json_t *listed(const json_t *modules_content, const char *kind)
{
	const json_t *agent = json_object_get(json_object_get(modules_content, "$edgeAgent"), SECTION);

	return json_object_get(agent, kind);
}

static bool exists(struct rest_req *q, const char *module)
{
	char id[HF_IDENT_MAX + 1];

	return snprintf(id, sizeof id, "%s/%s", q->device, module) < (int)sizeof id &&
	       hub_ident_find(q->m, hf_span_str(id));
}

static const char *check(struct rest_req *q, const json_t *content)
{
	const json_t *named = listed(content, "modules");
	const char *module, *key;
	json_t *parts, *v;

	if (!json_is_object(content))
		return "modulesContent must be an object";
	if (named && !json_is_object(named))
		return "the modules of $edgeAgent must be an object";
	json_object_foreach((json_t *)content, module, parts) {
		if (!json_is_object(parts))
			return "each module's content must be an object";
		if (!exists(q, module) && !json_object_get(named, module))
			return "content for a module that neither exists nor is listed for $edgeAgent";
		json_object_foreach(parts, key, v)
			if (!key_ok(key) || (strcmp(key, SECTION) == 0 && !json_is_object(v)))
				return "keys must be properties.desired or a path below, with an object for the whole";
	}
	return NULL;
}

/* Creates what is listed, deletes what was managed and no longer is. */
static int set_modules(struct rest_req *q, const json_t *content, struct hub_error *err)
{
	const json_t *named = listed(content, "modules");
	json_t *doc = json_pack("{ss}", "managedBy", "iotEdge"), *v;
	const struct hub_ident *mod, *next;
	const char *name;
	int r = doc ? 0 : -ENOMEM;

	json_object_foreach((json_t *)named, name, v)
		if (r == 0 && !exists(q, name))
			r = hub_ident_put(q->m, q->device, name, doc, NULL, NULL, err);
	json_decref(doc);
	for (mod = named ? hub_module_next(q->m, q->device, NULL) : NULL; r == 0 && mod; mod = next) {
		char id[HF_ID_MAX + 1];

		next = hub_module_next(q->m, q->device, mod->module_id);
		snprintf(id, sizeof id, "%s", mod->module_id);
		if (id[0] != '$' && mod->managed_by && strcmp(mod->managed_by, "iotEdge") == 0 &&
		    !json_object_get(named, id))
			r = hub_ident_delete(q->m, q->device, id, NULL, err);
	}
	return r;
}

/* Puts v at the path below desired, making objects on the way. */
static int put_at(json_t *desired, const char *path, json_t *v)
{
	struct hf_span rest = hf_span_str(path), part;
	bool more = true;

	while (more) {
		hf_autofree char *name = NULL;
		json_t *sub;

		more = hf_span_cut(&rest, '.', &part);
		name = hf_span_dup(part);
		if (!name)
			return -ENOMEM;
		if (!more)
			return json_object_set(desired, name, v) ? -ENOMEM : 0;
		sub = json_object_get(desired, name);
		if (!json_is_object(sub)) {
			sub = json_object();
			if (json_object_set_new(desired, name, sub) != 0)
				return -ENOMEM;
		}
		desired = sub;
	}
	return 0;
}

static int set_desired(struct rest_req *q, const char *module, json_t *parts, struct hub_error *err)
{
	json_t *whole = json_object_get(parts, SECTION), *view = NULL, *desired, *doc, *v;
	const struct hub_ident *i;
	char id[HF_IDENT_MAX + 1];
	const char *key;
	int r = 0;

	if (json_object_size(parts) == 0)
		return 0;
	snprintf(id, sizeof id, "%s/%s", q->device, module);
	i = hub_ident_find(q->m, hf_span_str(id));
	if (!i)
		return -ENOMEM;
	if (!whole)
		view = hub_twin_device_view(q->m, i);
	desired = json_deep_copy(whole ? whole : json_object_get(view, "desired"));
	json_decref(view);
	if (!desired)
		return -ENOMEM;
	json_object_foreach(parts, key, v)
		if (r == 0 && strcmp(key, SECTION) != 0)
			r = put_at(desired, key + strlen(SECTION) + 1, v);
	doc = json_pack("{s{so}}", "properties", "desired", desired);
	if (r == 0)
		r = doc ? hub_twin_update(q->m, i, doc, true, NULL, NULL, err) : -ENOMEM;
	json_decref(doc);
	return r;
}

void rest_apply_content(struct rest_req *q)
{
	const struct hub_ident *d = rest_ident(q);
	struct hub_error err = { .http_status = 500, .code = 500001, .name = "ServerError", .message = "no memory" };
	const json_t *content = json_object_get(q->body, "modulesContent");
	const char *why, *module;
	json_t *parts;
	int r;

	if (!d)
		return;
	why = !d->is_edge ? "only an edge device takes this" : check(q, content);
	if (why) {
		rest_refuse(q, 400, 400004, "ArgumentInvalid", "%s", why);
		return;
	}
	r = set_modules(q, content, &err);
	json_object_foreach((json_t *)content, module, parts)
		if (r == 0)
			r = set_desired(q, module, parts, &err);
	if (r != 0)
		rest_error(q, &err);
	else
		rest_committed(q, 204, NULL, NULL);
}
