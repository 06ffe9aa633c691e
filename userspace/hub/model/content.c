/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "hub/model/content.h"
#include "core/util.h"
#include "hub/model/model_int.h"

#include <errno.h>
#include <holdfast/err.h>
#include <stdio.h>

#define MAX_PATH 10	/* steps: twins may not be deeper */
#define BAD(err, ...) hub_refuse(err, HF_EINVALID, 400, 400004, "ArgumentInvalid", __VA_ARGS__)

/* The whole section, or a path below. */
static bool key_ok(const char *key)
{
	size_t n = strlen(HUB_CONTENT_SECTION), steps = 0;

	if (strncmp(key, HUB_CONTENT_SECTION, n) != 0)
		return false;
	for (key += n; *key; key++) {
		if (*key == '.' && (++steps > MAX_PATH || key[1] == '.' || !key[1]))
			return false;	/* too deep, or a step without a name */
		if (!steps)
			return false;
	}
	return true;
}

const char *hub_content_check_parts(const json_t *parts)
{
	const char *key;
	json_t *v;

	if (!json_is_object(parts))
		return "the content of an identity must be an object";
	json_object_foreach((json_t *)parts, key, v)
		if (!key_ok(key) || (strcmp(key, HUB_CONTENT_SECTION) == 0 && !json_is_object(v)))
			return "keys must be properties.desired or a path below, with an object for the whole";
	return NULL;
}

const json_t *hub_content_listed(const json_t *modules_content)
{
	const json_t *agent = json_object_get(json_object_get(modules_content, "$edgeAgent"), HUB_CONTENT_SECTION);

	return json_object_get(agent, "modules");
}

const char *hub_content_check_modules(const json_t *modules_content)
{
	const json_t *listed = hub_content_listed(modules_content);
	const char *module, *why;
	json_t *parts;

	if (!json_is_object(modules_content))
		return "modulesContent must be an object";
	if (listed && !json_is_object(listed))
		return "the modules of $edgeAgent must be an object";
	json_object_foreach((json_t *)modules_content, module, parts) {
		why = hub_id_valid(module) ? hub_content_check_parts(parts) : "a module id is not valid";
		if (why)
			return why;
	}
	return NULL;
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
			return json_object_set_new(desired, name, json_deep_copy(v)) ? -ENOMEM : 0;
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

json_t *hub_content_next(const json_t *now, const json_t *parts)
{
	const json_t *whole = json_object_get(parts, HUB_CONTENT_SECTION);
	json_t *next = json_deep_copy(whole ? whole : now), *v;
	const char *key;

	json_object_foreach((json_t *)parts, key, v)
		if (next && strcmp(key, HUB_CONTENT_SECTION) != 0 &&
		    put_at(next, key + strlen(HUB_CONTENT_SECTION) + 1, v) != 0) {
			json_decref(next);
			next = NULL;
		}
	return next;
}

/* {"properties": {"desired": next}} for an identity that may not exist yet (e NULL). */
static int make_patch(const struct hub_entry *e, const json_t *parts, json_t **ret_patch, struct hub_error *err)
{
	json_t *nothing = e ? NULL : json_object(), *next = hub_content_next(e ? e->twin.desired : nothing, parts);
	json_t *patch = next ? json_pack("{s{so}}", "properties", "desired", next) : NULL;
	int r = patch ? hub_twin_check(e ? &e->ident : NULL, patch, true, err) : -ENOMEM;

	json_decref(nothing);
	if (r != 0)
		json_decref(patch);
	else
		*ret_patch = patch;
	return r;
}

int hub_content_set(struct hub_model *m, const struct hub_ident *ident, const json_t *parts, bool unless_equal,
		    struct hub_error *err)
{
	const struct hub_entry *e = hf_container_of(ident, struct hub_entry, ident);
	json_t *patch;
	int r;

	if (json_object_size(parts) == 0)
		return 0;
	r = make_patch(e, parts, &patch, err);
	if (r != 0)
		return r;
	if (!unless_equal || !hub_twin_has_desired(ident, json_object_get(json_object_get(patch, "properties"), "desired")))
		r = hub_twin_update(m, ident, patch, true, NULL, NULL, err);
	json_decref(patch);
	return r;
}

static struct hub_entry *module_of(struct hub_model *m, const struct hub_ident *edge, const char *module)
{
	char id[HF_IDENT_MAX + 1];

	snprintf(id, sizeof id, "%s/%s", edge->device_id, module);	/* both are at most HF_ID_MAX long */
	return hub_entry_find(m, hf_span_str(id));
}

static bool is_managed(const struct hub_ident *mod)
{
	return mod->module_id[0] != '$' && mod->managed_by && strcmp(mod->managed_by, "iotEdge") == 0;
}

/* Everything that could be refused, before anything changes. */
static int check(struct hub_model *m, const struct hub_ident *edge, const json_t *content, struct hub_error *err)
{
	const json_t *listed = hub_content_listed(content);
	const struct hub_entry *device = hf_container_of(edge, struct hub_entry, ident);
	const char *why = hub_content_check_modules(content), *module;
	size_t n = device->n_modules;
	json_t *parts, *patch, *v;
	int r;

	if (!edge->is_edge)
		return BAD(err, "only an edge device takes modules content");
	if (why)
		return BAD(err, "%s", why);
	for (size_t i = 0; listed && i < device->n_modules; i++)
		n -= is_managed(&device->modules[i]->ident) && !json_object_get(listed, device->modules[i]->ident.module_id);
	json_object_foreach((json_t *)listed, module, v) {
		if (!hub_id_valid(module))
			return BAD(err, "a module id is not valid");
		n += !module_of(m, edge, module);
	}
	if (n > HUB_MAX_MODULES)
		return hub_refuse(err, HF_ELIMIT, 403, 403003, "TooManyModulesOnDevice", "%s would have more than %d modules",
				  edge->device_id, HUB_MAX_MODULES);
	json_object_foreach((json_t *)content, module, parts) {
		const struct hub_entry *e = module_of(m, edge, module);

		if (!e && !json_object_get(listed, module))
			return BAD(err, "content for %s, which neither exists nor is listed for $edgeAgent", module);
		r = make_patch(e, parts, &patch, err);
		if (r != 0)
			return r;
		json_decref(patch);
	}
	return 0;
}

/* Creates what is listed, deletes what was managed and no longer is. */
static int set_modules(struct hub_model *m, const struct hub_ident *edge, const json_t *listed, struct hub_error *err)
{
	json_t *doc = json_pack("{ss}", "managedBy", "iotEdge"), *v;
	const struct hub_ident *mod, *next;
	const char *name;
	int r = doc ? 0 : -ENOMEM;

	json_object_foreach((json_t *)listed, name, v)
		if (r == 0 && !module_of(m, edge, name))
			r = hub_ident_put(m, edge->device_id, name, doc, NULL, NULL, err);
	json_decref(doc);
	for (mod = listed ? hub_module_next(m, edge->device_id, NULL) : NULL; r == 0 && mod; mod = next) {
		char id[HF_ID_MAX + 1];

		next = hub_module_next(m, edge->device_id, mod->module_id);
		snprintf(id, sizeof id, "%s", mod->module_id);
		if (is_managed(mod) && !json_object_get(listed, id))
			r = hub_ident_delete(m, edge->device_id, id, NULL, err);
	}
	return r;
}

int hub_content_apply(struct hub_model *m, const struct hub_ident *edge, const json_t *modules_content, bool unless_equal,
		      struct hub_error *err)
{
	const char *module;
	json_t *parts;
	int r;

	hub_error_default(err);
	r = check(m, edge, modules_content, err);
	if (r == 0)
		r = set_modules(m, edge, hub_content_listed(modules_content), err);
	json_object_foreach((json_t *)modules_content, module, parts) {
		/* A module that has content may have been managed and just gone from the list. */
		const struct hub_entry *e = r == 0 ? module_of(m, edge, module) : NULL;

		if (e)
			r = hub_content_set(m, &e->ident, parts, unless_equal, err);
	}
	return r;
}
