/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Children whose edge device was deleted. In memory they are free at once; their records, which may be many, are written a
 * slice a tick, so that no commit holds the loop. A scope holds its owner's generation, so one in a record whose owner is
 * gone names nobody for ever: a start that finds it, after a crash, frees the child again. */
#include "core/util.h"
#include "hub/model/model_int.h"

#include <errno.h>

#define SLICE 1000

static bool is_child(const struct hub_ident *c, const struct hub_ident *parent)
{
	return *c->parent_scope && strcmp(c->parent_scope, parent->device_scope) == 0;
}

static void set_free(struct hub_model *m, struct hub_entry *child)
{
	child->ident.parent_scope[0] = '\0';
	if (!child->ident.is_edge)
		child->ident.device_scope[0] = '\0';
	m->n_unsaved += !child->is_unsaved;
	child->is_unsaved = true;
}

static void save(struct hub_model *m, size_t max)
{
	for (size_t i = 0; i < m->n_devices && m->n_unsaved && max; i++) {
		struct hub_entry *e = m->devices[i];

		if (!e->is_unsaved)
			continue;
		hub_children_forget(m, e);
		hub_dirty_ident(m, e->ident.id);
		max--;
	}
}

int hub_children_free(struct hub_model *m, struct hub_entry *parent)
{
	for (size_t i = 0; i < m->n_devices && parent->n_children; i++)
		if (is_child(&m->devices[i]->ident, &parent->ident) && hub_ident_new_etag(&m->devices[i]->ident) != 0)
			return -ENOMEM;
	for (size_t i = 0; i < m->n_devices && parent->n_children; i++) {
		if (!is_child(&m->devices[i]->ident, &parent->ident))
			continue;
		set_free(m, m->devices[i]);
		parent->n_children--;
	}
	hub_scopes_changed(m);
	save(m, SLICE);
	if (m->n_unsaved)
		hub_model_tick(m);
	return 0;
}

int hub_children_load(struct hub_model *m)
{
	for (size_t i = 0; i < m->n_devices; i++) {
		struct hub_entry *e = m->devices[i], *parent = hub_scope_owner(m, e->ident.parent_scope);

		if (parent) {
			parent->n_children++;
		} else if (*e->ident.parent_scope) {
			if (hub_ident_new_etag(&e->ident) != 0)
				return -ENOMEM;
			set_free(m, e);
		}
	}
	if (m->n_unsaved)
		hub_model_tick(m);
	return 0;
}

void hub_children_forget(struct hub_model *m, struct hub_entry *e)
{
	m->n_unsaved -= e->is_unsaved;
	e->is_unsaved = false;
}

bool hub_children_step(struct hub_model *m)
{
	save(m, SLICE);
	return m->n_unsaved > 0;
}

void hub_children_save(struct hub_model *m)
{
	save(m, m->n_unsaved);
}
