/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Control commands about the registry, in the words of `az iot hub device-identity` (iothub-protocol 5.11). */
#include "core/util.h"
#include "hub/ctl_int.h"
#include <errno.h>
#include <holdfast/err.h>
#include <stdio.h>

/* The service document for what the command line says. NULL: answered already. */
static json_t *document(struct hub_ctl *ctl, struct hf_ctl_call *call, const json_t *args)
{
	const char *pk = hub_arg(args, "primaryKey"), *sk = hub_arg(args, "secondaryKey");
	const char *pt = hub_arg(args, "primaryThumbprint"), *st = hub_arg(args, "secondaryThumbprint");
	const char *method = hub_arg(args, "authMethod"), *status = hub_arg(args, "status");
	const char *parent = hub_arg(args, "parent");
	bool edge = json_is_true(json_object_get(args, "edgeEnabled"));
	const char *type = "sas";
	json_t *doc, *auth;

	if (method && strcmp(method, "x509_thumbprint") == 0)
		type = "selfSigned";
	else if (method && strcmp(method, "x509_ca") == 0)
		type = "certificateAuthority";
	else if (method && strcmp(method, "shared_private_key") != 0) {
		hf_ctl_fail(call, "invalid", "authMethod is shared_private_key, x509_thumbprint or x509_ca");
		return NULL;
	}
	auth = json_pack("{s:s, s:{s:s, s:s}, s:{s:s?, s:s?}}", "type", type, "symmetricKey", "primaryKey", pk ? pk : "",
			 "secondaryKey", sk ? sk : "", "x509Thumbprint", "primaryThumbprint", pt, "secondaryThumbprint", st);
	doc = json_pack("{s:o, s:{s:b}, s:s}", "authentication", auth, "capabilities", "iotEdge", edge, "status",
			status ? status : "enabled");
	if (doc && parent) {
		const struct hub_ident *p = hub_ident_find(ctl->model, hf_span_str(parent));

		if (!p || !p->is_edge) {
			hf_ctl_fail(call, "not-found", "parent \"%s\" is not a registered edge device", parent);
			json_decref(doc);
			return NULL;
		}
		if (edge)
			json_object_set_new(doc, "parentScopes", json_pack("[s]", p->device_scope));
		else
			json_object_set_new(doc, "deviceScope", json_string(p->device_scope));
	}
	if (!doc)
		hf_ctl_fail(call, "failed", "out of memory");
	return doc;
}

static void create(struct hub_ctl *ctl, struct hf_ctl_call *call, const json_t *args, bool module)
{
	const char *device = hub_arg(args, "deviceId"), *module_id = module ? hub_arg(args, "moduleId") : NULL;
	struct hub_error err = { 0 };
	json_t *doc, *made = NULL;

	if (!device || (module && !module_id)) {
		hf_ctl_fail(call, "invalid", "%s is missing", device ? "moduleId" : "deviceId");
		return;
	}
	doc = document(ctl, call, args);
	if (!doc)
		return;
	if (hub_ident_put(ctl->model, device, module_id, doc, NULL, &made, &err) != 0)
		hub_ctl_error(call, &err);
	else
		hub_ctl_ok_committed(ctl, call, made);
	json_decref(doc);
}

void hub_ctl_device_create(void *arg, struct hf_ctl_call *call, const json_t *args)
{
	create(arg, call, args, false);
}

void hub_ctl_module_create(void *arg, struct hf_ctl_call *call, const json_t *args)
{
	create(arg, call, args, true);
}

void hub_ctl_device_list(void *arg, struct hf_ctl_call *call, const json_t *args)
{
	struct hub_ctl *ctl = arg;
	bool edge_only = json_is_true(json_object_get(args, "edgeEnabled"));
	const char *after = NULL;
	const struct hub_ident *d;

	while ((d = hub_device_next(ctl->model, after))) {
		if (!edge_only || d->is_edge)
			hf_ctl_item(call, hub_ident_doc(ctl->model, d));
		after = d->id;
	}
	hf_ctl_ok(call);
}

void hub_ctl_device_show(void *arg, struct hf_ctl_call *call, const json_t *args)
{
	struct hub_ctl *ctl = arg;
	const struct hub_ident *ident = hub_ctl_ident(ctl, call, args);
	json_t *doc;
	char cs[1024];

	if (!ident)
		return;
	doc = hub_ident_doc(ctl->model, ident);
	snprintf(cs, sizeof cs, "HostName=%s;DeviceId=%s%s%s;SharedAccessKey=%s", ctl->host, ident->device_id,
		 ident->module_id ? ";ModuleId=" : "", ident->module_id ? ident->module_id : "", ident->primary_key);
	if (ident->auth == HUB_AUTH_SAS)
		json_object_set_new(doc, "connectionString", json_string(cs));
	hf_ctl_item(call, doc);
	hf_ctl_ok(call);
}

void hub_ctl_device_update(void *arg, struct hf_ctl_call *call, const json_t *args)
{
	struct hub_ctl *ctl = arg;
	const struct hub_ident *ident = hub_ctl_ident(ctl, call, args);
	const char *status = hub_arg(args, "status"), *pk = hub_arg(args, "primaryKey"), *sk = hub_arg(args, "secondaryKey");
	struct hub_error err = { 0 };
	json_t *doc, *made = NULL, *keys;

	if (!ident)
		return;
	doc = hub_ident_doc(ctl->model, ident);
	if (status)
		json_object_set_new(doc, "status", json_string(status));
	keys = json_object_get(json_object_get(doc, "authentication"), "symmetricKey");
	if (pk)
		json_object_set_new(keys, "primaryKey", json_string(pk));
	if (sk)
		json_object_set_new(keys, "secondaryKey", json_string(sk));
	if (hub_ident_put(ctl->model, ident->device_id, ident->module_id, doc, "*", &made, &err) != 0)
		hub_ctl_error(call, &err);
	else
		hub_ctl_ok_committed(ctl, call, made);
	json_decref(doc);
}

void hub_ctl_device_delete(void *arg, struct hf_ctl_call *call, const json_t *args)
{
	struct hub_ctl *ctl = arg;
	const char *device = hub_arg(args, "deviceId");
	struct hub_error err = { 0 };

	if (!device)
		hf_ctl_fail(call, "invalid", "deviceId is missing");
	else if (hub_ident_delete(ctl->model, device, hub_arg(args, "moduleId"), "*", &err) != 0)
		hub_ctl_error(call, &err);
	else
		hub_ctl_ok_committed(ctl, call, NULL);
}

/* Sets or clears (scope "") the parent of one device. */
static int put_parent(struct hub_ctl *ctl, const struct hub_ident *child, const char *scope, struct hub_error *err)
{
	json_t *doc = hub_ident_doc(ctl->model, child);
	int r;

	if (!doc)
		return -ENOMEM;
	if (child->is_edge)
		json_object_set_new(doc, "parentScopes", *scope ? json_pack("[s]", scope) : json_array());
	else
		json_object_set_new(doc, "deviceScope", json_string(scope));
	r = hub_ident_put(ctl->model, child->device_id, NULL, doc, "*", NULL, err);
	json_decref(doc);
	return r;
}

/* All children are checked before the first one is changed. */
static bool children_fit(struct hub_ctl *ctl, struct hf_ctl_call *call, const struct hub_ident *parent,
			 const json_t *list, bool force, bool removing)
{
	json_t *name;
	size_t i;

	json_array_foreach(list, i, name) {
		const struct hub_ident *c = hub_ident_find(ctl->model, hf_span_str(json_string_value(name)));

		if (!c || c->module_id) {
			hf_ctl_fail(call, "not-found", "child \"%s\" is not registered", json_string_value(name));
			return false;
		}
		if (removing && strcmp(c->parent_scope, parent->device_scope) != 0) {
			hf_ctl_fail(call, "invalid", "\"%s\" is not a child of \"%s\"", c->id, parent->id);
			return false;
		}
		if (!removing && !force && *c->parent_scope && strcmp(c->parent_scope, parent->device_scope) != 0) {
			hf_ctl_fail(call, "invalid", "\"%s\" has a parent already; use --force to move it", c->id);
			return false;
		}
	}
	return true;
}

static void change_children(struct hub_ctl *ctl, struct hf_ctl_call *call, const json_t *args, bool removing)
{
	const struct hub_ident *parent = hub_ctl_ident(ctl, call, args);
	json_t *list = json_object_get(args, "childList"), *name;
	struct hub_error err = { 0 };
	size_t i;

	if (!parent)
		return;
	if (!parent->is_edge) {
		hf_ctl_fail(call, "invalid", "\"%s\" is not an edge device", parent->id);
		return;
	}
	if (json_array_size(list) == 0) {
		hf_ctl_fail(call, "invalid", "childList is empty");
		return;
	}
	if (!children_fit(ctl, call, parent, list, json_is_true(json_object_get(args, "force")), removing))
		return;
	json_array_foreach(list, i, name) {
		const struct hub_ident *c = hub_ident_find(ctl->model, hf_span_str(json_string_value(name)));

		if (put_parent(ctl, c, removing ? "" : parent->device_scope, &err) != 0) {
			hub_ctl_error(call, &err);
			return;
		}
	}
	hub_ctl_ok_committed(ctl, call, NULL);
}

void hub_ctl_add_children(void *arg, struct hf_ctl_call *call, const json_t *args)
{
	change_children(arg, call, args, false);
}

void hub_ctl_remove_children(void *arg, struct hf_ctl_call *call, const json_t *args)
{
	change_children(arg, call, args, true);
}

void hub_ctl_list_children(void *arg, struct hf_ctl_call *call, const json_t *args)
{
	struct hub_ctl *ctl = arg;
	const struct hub_ident *parent = hub_ctl_ident(ctl, call, args), *d;
	const char *after = NULL;

	if (!parent)
		return;
	while ((d = hub_device_next(ctl->model, after))) {
		if (*d->parent_scope && strcmp(d->parent_scope, parent->device_scope) == 0)
			hf_ctl_item(call, json_pack("{s:s}", "deviceId", d->id));
		after = d->id;
	}
	hf_ctl_ok(call);
}

void hub_ctl_get_parent(void *arg, struct hf_ctl_call *call, const json_t *args)
{
	struct hub_ctl *ctl = arg;
	const struct hub_ident *child = hub_ctl_ident(ctl, call, args), *d;
	const char *after = NULL;

	if (!child)
		return;
	while (*child->parent_scope && (d = hub_device_next(ctl->model, after))) {
		if (d->is_edge && strcmp(d->device_scope, child->parent_scope) == 0) {
			hf_ctl_item(call, json_pack("{s:s}", "deviceId", d->id));
			hf_ctl_ok(call);
			return;
		}
		after = d->id;
	}
	hf_ctl_fail(call, "not-found", "\"%s\" has no parent", child->id);
}

void hub_ctl_set_parent(void *arg, struct hf_ctl_call *call, const json_t *args)
{
	const char *child = hub_arg(args, "deviceId"), *parent = hub_arg(args, "parent");

	if (!child || !parent) {
		hf_ctl_fail(call, "invalid", "deviceId and parent are needed");
		return;
	}
	json_t *swapped = json_pack("{s:s, s:[s], s:b}", "deviceId", parent, "childList", child, "force",
				    json_is_true(json_object_get(args, "force")));
	if (swapped)
		change_children(arg, call, swapped, false);
	else
		hf_ctl_fail(call, "failed", "out of memory");
	json_decref(swapped);
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

/* One record of an import: a device, or with moduleId a module. False after answering. */
static bool import_one(struct hub_ctl *ctl, struct hf_ctl_call *call, const json_t *record, size_t i)
{
	const char *device = hub_arg(record, "deviceId"), *module = hub_arg(record, "moduleId");
	struct hub_error err = { 0 };
	json_t *doc;
	int r;

	if (!device) {
		hf_ctl_fail(call, "invalid", "record %zu: deviceId is missing", i);
		return false;
	}
	doc = json_object_get(record, "authentication") ? json_incref((json_t *)record) : document(ctl, call, record);
	if (!doc)
		return false;
	r = hub_ident_put(ctl->model, device, module, doc, NULL, NULL, &err);
	if (r == HF_EEXISTS || err.http_status == 409) {
		memset(&err, 0, sizeof err);
		r = hub_ident_put(ctl->model, device, module, doc, "*", NULL, &err);
	}
	json_decref(doc);
	if (r != 0)
		hf_ctl_fail(call, "invalid", "record %zu (%s): %s", i, device, err.message);
	return r == 0;
}

void hub_ctl_import(void *arg, struct hf_ctl_call *call, const json_t *args)
{
	struct hub_ctl *ctl = arg;
	json_t *devices = json_object_get(args, "devices"), *record;
	size_t i, first = (size_t)json_integer_value(json_object_get(args, "first"));	/* of a larger file: for messages */

	if (!json_is_array(devices)) {
		hf_ctl_fail(call, "invalid", "devices is a JSON array of {deviceId, primaryKey, parent, ...}");
		return;
	}
	json_array_foreach(devices, i, record)
		if (!import_one(ctl, call, record, first + i))
			return;
	hub_ctl_ok_committed(ctl, call, json_pack("{s:i}", "imported", (int)json_array_size(devices)));
}
