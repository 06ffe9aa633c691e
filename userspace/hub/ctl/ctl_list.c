/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Control commands that walk the registry: lists, queries, export. Each goes on where it was, a slice a turn, by ids:
 * what it points at may be gone meanwhile. */
#include "core/util.h"
#include "hub/ctl/ctl_int.h"
#include "hub/query/query.h"
#include <errno.h>
#include <holdfast/err.h>
#include <stdio.h>

static const char *const NO_MEMORY = "out of memory";

struct walk {
	struct hub_model *m;
	char after[HF_ID_MAX + 1], module[HF_ID_MAX + 1];	/* "" = before the first */
	char *parent_scope;					/* only its children */
	bool edge_only;
	unsigned layer;						/* of an export */
};

static void walk_end(void *arg)
{
	struct walk *w = arg;

	free(w->parent_scope);
	free(w);
}

static struct walk *walk_new(struct hub_ctl *ctl, struct hf_ctl_call *call)
{
	struct walk *w = calloc(1, sizeof *w);

	if (w)
		w->m = ctl->model;
	else
		hf_ctl_fail(call, "failed", "%s", NO_MEMORY);
	return w;
}

static const struct hub_ident *step(struct walk *w)
{
	const struct hub_ident *d = hub_device_next(w->m, *w->after ? w->after : NULL);

	if (d)
		snprintf(w->after, sizeof w->after, "%s", d->device_id);
	return d;
}

/* --- devices, children ------------------------------------------------------------------------------------ */

static json_t *next_device(void *arg, const char **ret_failed)
{
	struct walk *w = arg;
	const struct hub_ident *d;
	json_t *doc;

	do
		d = step(w);
	while (d && w->edge_only && !d->is_edge);
	doc = d ? hub_ident_doc(w->m, d) : NULL;
	if (d && !doc)
		*ret_failed = NO_MEMORY;
	return doc;
}

void hub_ctl_device_list(void *arg, struct hf_ctl_call *call, const json_t *args)
{
	static const struct hub_ctl_source source = { next_device, walk_end };
	struct walk *w = walk_new(arg, call);

	if (!w)
		return;
	w->edge_only = json_is_true(json_object_get(args, "edgeEnabled"));
	hub_ctl_stream(arg, call, &source, w);
}

static json_t *next_child(void *arg, const char **ret_failed)
{
	struct walk *w = arg;
	const struct hub_ident *d;
	json_t *item;

	do
		d = step(w);
	while (d && strcmp(d->parent_scope, w->parent_scope) != 0);
	item = d ? json_pack("{ss sb}", "deviceId", d->id, "edgeEnabled", d->is_edge) : NULL;
	if (d && !item)
		*ret_failed = NO_MEMORY;
	return item;
}

void hub_ctl_list_children(void *arg, struct hf_ctl_call *call, const json_t *args)
{
	static const struct hub_ctl_source source = { next_child, walk_end };
	const struct hub_ident *parent = hub_ctl_ident(arg, call, args);
	struct walk *w;

	if (!parent)
		return;
	if (parent->module_id || !parent->is_edge) {
		hf_ctl_fail(call, "invalid", "\"%s\" is not an edge device: it has no children", parent->id);
		return;
	}
	w = walk_new(arg, call);
	if (!w)
		return;
	w->parent_scope = strdup(parent->device_scope);
	if (w->parent_scope) {
		hub_ctl_stream(arg, call, &source, w);
	} else {
		walk_end(w);
		hf_ctl_fail(call, "failed", "%s", NO_MEMORY);
	}
}

void hub_ctl_module_list(void *arg, struct hf_ctl_call *call, const json_t *args)
{
	struct hub_ctl *ctl = arg;
	const struct hub_ident *device = hub_ctl_ident(ctl, call, args), *m;
	const char *after = NULL;

	if (!device)
		return;
	while ((m = hub_module_next(ctl->model, device->device_id, after))) {
		hf_ctl_item(call, hub_ident_doc(ctl->model, m));
		after = m->module_id;
	}
	hf_ctl_ok(call);
}

/* --- queries ---------------------------------------------------------------------------------------------- */

struct rows {
	struct hub_model *m;
	struct hub_query *q;
	json_t *page;
	size_t at;
	char *token;
	bool last;
};

static void rows_end(void *arg)
{
	struct rows *r = arg;

	hub_query_destroy(&r->q);
	json_decref(r->page);
	free(r->token);
	free(r);
}

static json_t *next_row(void *arg, const char **ret_failed)
{
	struct rows *r = arg;

	while (r->at == json_array_size(r->page) && !r->last) {
		char *next = NULL;
		int err;

		json_decref(hf_take(r->page));
		r->at = 0;
		err = hub_query_run(r->m, r->q, 1000, r->token, &r->page, &next);
		free(r->token);
		r->token = next;
		r->last = !next;
		if (err != 0) {
			*ret_failed = hf_strerror(err);
			return NULL;
		}
	}
	return json_incref(json_array_get(r->page, r->at++));
}

void hub_ctl_query(void *arg, struct hf_ctl_call *call, const json_t *args)
{
	static const struct hub_ctl_source source = { next_row, rows_end };
	struct hub_ctl *ctl = arg;
	const char *text = hub_arg(args, "query");
	struct rows *r;
	char why[256];

	if (!text) {
		hf_ctl_fail(call, "invalid", "query is missing");
		return;
	}
	r = calloc(1, sizeof *r);
	if (!r) {
		hf_ctl_fail(call, "failed", "%s", NO_MEMORY);
		return;
	}
	r->m = ctl->model;
	if (hub_query_parse(hf_span_str(text), &r->q, why, sizeof why) == 0) {
		hub_ctl_stream(ctl, call, &source, r);
	} else {
		free(r);
		hf_ctl_fail(call, "invalid", "%s", why);
	}
}

/* --- export ----------------------------------------------------------------------------------------------- */

/* How many edge devices are above it. */
static unsigned layer_of(struct hub_model *m, const struct hub_ident *d)
{
	unsigned n = 0;

	while ((d = hub_ident_parent(m, d)))
		n++;
	return n;
}

/* Members of the twin that an import sets. */
static int add_twin(struct hub_model *m, const struct hub_ident *i, json_t *record)
{
	json_t *twin = hub_twin_doc(m, i), *tags = json_object_get(twin, "tags");
	json_t *desired = json_object_get(json_object_get(twin, "properties"), "desired");
	int r = twin ? 0 : -1;

	json_object_del(desired, "$metadata");
	json_object_del(desired, "$version");
	if (json_object_size(tags))
		r |= json_object_set(record, "tags", tags);
	if (json_object_size(desired))
		r |= json_object_set_new(record, "properties", json_pack("{sO}", "desired", desired));
	json_decref(twin);
	return r;
}

/* What `import` takes to make the same identity in another hub: keys, but nothing that belongs to this one. */
static json_t *record_of(struct hub_model *m, const struct hub_ident *i)
{
	static const char *const kept[] = { "deviceId", "moduleId", "managedBy", "status", "statusReason", "authentication",
					    "capabilities" };
	const struct hub_ident *parent = i->module_id ? NULL : hub_ident_parent(m, i);
	json_t *doc = hub_ident_doc(m, i), *record = json_object(), *v;
	int r = doc && record ? add_twin(m, i, record) : -1;

	for (unsigned k = 0; r == 0 && k < HF_ARRAY_LEN(kept); k++)
		if ((v = json_object_get(doc, kept[k])) && !json_is_null(v))
			r |= json_object_set(record, kept[k], v);
	if (r == 0 && parent)
		r = json_object_set_new(record, "parent", json_string(parent->id));
	json_decref(doc);
	if (r == 0)
		return record;
	json_decref(record);
	return NULL;
}

static bool is_of_layer(struct walk *w, const struct hub_ident *d)
{
	return w->layer < HUB_MAX_LAYERS ? d->is_edge && layer_of(w->m, d) == w->layer : !d->is_edge;
}

/* Parents come before their children: edge devices layer by layer, then leaves; a device's modules follow it. */
static json_t *next_record(void *arg, const char **ret_failed)
{
	struct walk *w = arg;
	const struct hub_ident *i = *w->after ? hub_module_next(w->m, w->after, *w->module ? w->module : NULL) : NULL;
	json_t *record;

	if (i && !is_of_layer(w, hub_ident_find(w->m, hf_span_str(w->after))))
		i = NULL;
	if (i)
		snprintf(w->module, sizeof w->module, "%s", i->module_id);
	while (!i && w->layer <= HUB_MAX_LAYERS) {
		w->module[0] = '\0';
		i = step(w);
		if (!i) {
			w->layer++;
			w->after[0] = '\0';
		} else if (!is_of_layer(w, i)) {
			i = NULL;
		}
	}
	record = i ? record_of(w->m, i) : NULL;
	if (i && !record)
		*ret_failed = NO_MEMORY;
	return record;
}

void hub_ctl_export(void *arg, struct hf_ctl_call *call, const json_t *args)
{
	static const struct hub_ctl_source source = { next_record, walk_end };
	struct walk *w = walk_new(arg, call);

	(void)args;
	if (w)
		hub_ctl_stream(arg, call, &source, w);
}
