/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Control commands about parent and child (iothub-protocol 5.3, 5.11). Leaves are added to the children of an edge
 * device; an edge device gets an edge device as its parent by set-parent. */
#include "core/util.h"
#include "hub/ctl/ctl_int.h"
#include <errno.h>
#include <stdio.h>

enum change { ADD_LEAVES, SET_PARENT, REMOVE };

/* Sets or clears (scope "") the parent of one device. */
static int put_parent(struct hub_ctl *ctl, const struct hub_ident *child, const char *scope, struct hub_error *err)
{
	json_t *doc = !child->is_edge ? json_pack("{ss}", "deviceScope", scope)
		      : *scope	      ? json_pack("{s[s]}", "parentScopes", scope)
				      : json_pack("{s[]}", "parentScopes");
	int r = doc ? hub_ident_put(ctl->model, child->device_id, NULL, doc, "*", NULL, err) : -ENOMEM;

	json_decref(doc);
	return r;
}

/* False after answering. */
static bool child_fits(struct hf_ctl_call *call, const struct hub_ident *parent, const struct hub_ident *c, enum change change,
		       bool force)
{
	bool is_child = *c->parent_scope && strcmp(c->parent_scope, parent->device_scope) == 0;

	if (change == REMOVE && !is_child)
		hf_ctl_fail(call, "invalid", "\"%s\" is not a child of \"%s\"; see: device list-children -d %s", c->id, parent->id,
			    parent->id);
	else if (change == ADD_LEAVES && c->is_edge)
		hf_ctl_fail(call, "invalid", "\"%s\" is an edge device, not a leaf; nest it with: device set-parent -d %s --pd %s",
			    c->id, c->id, parent->id);
	else if (change != REMOVE && !force && *c->parent_scope && !is_child)
		hf_ctl_fail(call, "invalid", "\"%s\" has another parent already; --force moves it", c->id);
	else
		return true;
	return false;
}

static const struct hub_ident *child_of(struct hub_ctl *ctl, const json_t *name)
{
	const struct hub_ident *c = json_is_string(name) ? hub_ident_find(ctl->model, hf_span_str(json_string_value(name))) : NULL;

	return c && !c->module_id ? c : NULL;
}

/* All children are checked before the first one is changed. */
static void change_children(struct hub_ctl *ctl, struct hf_ctl_call *call, const char *parent_id, const json_t *list,
			    enum change change, bool force)
{
	const struct hub_ident *parent = parent_id ? hub_ident_find(ctl->model, hf_span_str(parent_id)) : NULL, *c;
	struct hub_error err = { .name = "ServerError", .code = 500001, .message = "out of memory" };
	json_t *name;
	size_t i;

	if (!parent || parent->module_id || !parent->is_edge) {
		hf_ctl_fail(call, parent ? "invalid" : "not-found", "\"%.128s\" is not %s; see: device list --edge-enabled",
			    parent_id ? parent_id : "", parent ? "an edge device" : "registered");
		return;
	}
	if (json_array_size(list) == 0) {
		hf_ctl_fail(call, "invalid", "childList is empty");
		return;
	}
	json_array_foreach((json_t *)list, i, name) {
		c = child_of(ctl, name);
		if (!c)
			hf_ctl_fail(call, "not-found", "child \"%.128s\" is not registered",
				    json_is_string(name) ? json_string_value(name) : "");
		if (!c || !child_fits(call, parent, c, change, force))
			return;
	}
	json_array_foreach((json_t *)list, i, name) {
		c = child_of(ctl, name);
		if (put_parent(ctl, c, change == REMOVE ? "" : parent->device_scope, &err) != 0) {
			if (json_array_size(list) == 1)
				hf_ctl_fail(call, "invalid", "%s (%d): %s", err.name, err.code, err.message);
			else
				hf_ctl_fail(call, "invalid", "%s: %s (%d): %s (children changed before: %zu of %zu)", c->id,
					    err.name, err.code, err.message, i, json_array_size(list));
			return;
		}
	}
	hub_ctl_ok_committed(ctl, call, NULL);
}

void hub_ctl_add_children(void *arg, struct hf_ctl_call *call, const json_t *args)
{
	change_children(arg, call, hub_arg(args, "deviceId"), json_object_get(args, "childList"), ADD_LEAVES,
			json_is_true(json_object_get(args, "force")));
}

void hub_ctl_remove_children(void *arg, struct hf_ctl_call *call, const json_t *args)
{
	change_children(arg, call, hub_arg(args, "deviceId"), json_object_get(args, "childList"), REMOVE, false);
}

void hub_ctl_set_parent(void *arg, struct hf_ctl_call *call, const json_t *args)
{
	json_t *child = json_object_get(args, "deviceId"), *list = child ? json_pack("[O]", child) : NULL;

	if (list)
		change_children(arg, call, hub_arg(args, "parent"), list, SET_PARENT, json_is_true(json_object_get(args, "force")));
	else
		hf_ctl_fail(call, "invalid", "deviceId and parent are needed");
	json_decref(list);
}

void hub_ctl_get_parent(void *arg, struct hf_ctl_call *call, const json_t *args)
{
	struct hub_ctl *ctl = arg;
	const struct hub_ident *child = hub_ctl_ident(ctl, call, args), *parent;

	if (!child)
		return;
	parent = hub_ident_parent(ctl->model, child);
	if (!parent) {
		hf_ctl_fail(call, "not-found", "\"%s\" has no parent; device set-parent gives it one", child->id);
		return;
	}
	hf_ctl_item(call, json_pack("{s:s}", "deviceId", parent->id));
	hf_ctl_ok(call);
}
