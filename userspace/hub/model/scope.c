/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Device scopes: who owns one, and whether an identity may take it as its parent (iothub-protocol 5.3). */
#include "core/log.h"
#include "core/util.h"
#include "hub/metrics.h"
#include "hub/model/model_int.h"

#include <holdfast/err.h>
#include <stdarg.h>
#include <stdio.h>

int hub_scope_refuse(struct hub_error *err, const char *device_id, const char *fmt, ...)
{
	static struct hf_log_limit limit;
	char text[200];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	hf_metric_add(HUB_M_SCOPE_REFUSED, 1);
	hf_log_limited(&limit, HF_LOG_NOTICE, "hub.scope.refused", "%.128s: %s", device_id, text);
	return hub_refuse(err, HF_EINVALID, 400, 400028, "InvalidDeviceScope", "%s", text);
}

struct hub_entry *hub_scope_owner(struct hub_model *m, const char *scope)
{
	struct hf_span s = hf_span_str(scope);
	struct hub_entry *e;
	size_t n;

	if (!scope || !hf_span_starts(s, HUB_SCOPE_PREFIX))
		return NULL;
	s = hf_span_skip(s, strlen(HUB_SCOPE_PREFIX));
	for (n = s.len; n > 0 && s.ptr[n - 1] != '-'; n--)
		;
	if (n < 2)
		return NULL;
	e = hub_entry_find(m, hf_span(s.ptr, n - 1));
	return e && e->ident.is_edge && strcmp(e->ident.device_scope, scope) == 0 ? e : NULL;
}

const struct hub_ident *hub_ident_parent(struct hub_model *m, const struct hub_ident *ident)
{
	struct hub_entry *e = hub_scope_owner(m, ident->parent_scope);

	return e ? &e->ident : NULL;
}

/* Layers of edge devices below and including this one. */
static unsigned layers_below(struct hub_model *m, const struct hub_ident *edge, unsigned limit)
{
	unsigned deepest = 0;

	if (limit == 0)
		return 1;
	for (size_t i = 0; i < m->n_devices; i++) {
		const struct hub_ident *d = &m->devices[i]->ident;

		if (d->is_edge && strcmp(d->parent_scope, edge->device_scope) == 0) {
			unsigned below = layers_below(m, d, limit - 1);

			deepest = hf_max(deepest, below);
		}
	}
	return deepest + 1;
}

int hub_scope_check(struct hub_model *m, const struct hub_ident *child, const char *parent_scope, struct hub_error *err)
{
	struct hub_entry *parent = hub_scope_owner(m, parent_scope), *e = parent;
	unsigned layers = 0;

	if (!parent)
		return hub_scope_refuse(err, child->id, "scope %.150s belongs to no edge device", parent_scope);
	if (strcmp(child->parent_scope ? child->parent_scope : "", parent_scope) != 0 &&
	    parent->n_children >= HUB_MAX_CHILDREN)
		return hub_scope_refuse(err, child->id, "%s has %u children already", parent->ident.id, parent->n_children);
	for (; e && layers <= HUB_MAX_LAYERS; layers++) {
		if (strcmp(e->ident.id, child->id) == 0)
			return hub_scope_refuse(err, child->id, "%s would be its own ancestor", child->id);
		e = hub_scope_owner(m, e->ident.parent_scope);
	}
	if (child->is_edge)
		layers += layers_below(m, child, HUB_MAX_LAYERS);
	if (layers > HUB_MAX_LAYERS)
		return hub_scope_refuse(err, child->id, "edge devices would be nested deeper than %d layers", HUB_MAX_LAYERS);
	return 0;
}
