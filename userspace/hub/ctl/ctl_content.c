/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Control commands about what runs on an edge device: its modules and their desired properties (iothub-protocol 5.8). */
#include "core/util.h"
#include "hub/model/content.h"
#include "hub/ctl/ctl_int.h"
#include <stdio.h>

/* The edge device of args, NULL after answering. */
static const struct hub_ident *edge_of(struct hub_ctl *ctl, struct hf_ctl_call *call, const json_t *args)
{
	const struct hub_ident *d = hub_ctl_ident(ctl, call, args);

	if (d && (d->module_id || !d->is_edge)) {
		hf_ctl_fail(call, "invalid", "\"%s\" is not an edge device; see: device list --edge-enabled", d->id);
		return NULL;
	}
	return d;
}

/* {"modules": [ids]} of a device. */
static json_t *module_names(struct hub_model *m, const char *device_id)
{
	json_t *names = json_array();
	const struct hub_ident *module = NULL;

	while ((module = hub_module_next(m, device_id, module ? module->module_id : NULL)))
		if (json_array_append_new(names, json_string(module->module_id)) != 0) {
			json_decref(names);
			return NULL;
		}
	return json_pack("{so}", "modules", names);
}

void hub_ctl_deployment_apply(void *arg, struct hf_ctl_call *call, const json_t *args)
{
	struct hub_ctl *ctl = arg;
	const json_t *content = json_object_get(args, "content"), *inner = json_object_get(content, "content");
	const struct hub_ident *edge = edge_of(ctl, call, args);
	struct hub_error err = { 0 };

	if (!edge)
		return;
	if (json_is_object(inner))		/* as a configuration holds it */
		content = inner;
	if (!json_is_object(json_object_get(content, "modulesContent")))
		hf_ctl_fail(call, "invalid", "the content needs an object modulesContent; deployment show prints one");
	else if (hub_content_apply(ctl->model, edge, json_object_get(content, "modulesContent"), false, &err) != 0)
		hub_ctl_error(call, &err);
	else
		hub_ctl_ok_committed(ctl, call, module_names(ctl->model, edge->device_id));
}

static int add_module(struct hub_model *m, const struct hub_ident *module, json_t *modules)
{
	json_t *twin = hub_twin_doc(m, module), *desired = json_object_get(json_object_get(twin, "properties"), "desired");
	int r = twin ? 0 : -1;

	json_object_del(desired, "$metadata");
	json_object_del(desired, "$version");
	if (r == 0)
		r = json_object_set_new(modules, module->module_id, json_pack("{sO}", HUB_CONTENT_SECTION, desired));
	json_decref(twin);
	return r;
}

void hub_ctl_deployment_show(void *arg, struct hf_ctl_call *call, const json_t *args)
{
	struct hub_ctl *ctl = arg;
	const struct hub_ident *edge = edge_of(ctl, call, args), *module = NULL;
	json_t *modules;
	int r = 0;

	if (!edge)
		return;
	modules = json_object();
	while (r == 0 && (module = hub_module_next(ctl->model, edge->device_id, module ? module->module_id : NULL)))
		r = add_module(ctl->model, module, modules);
	if (r != 0) {
		json_decref(modules);
		hf_ctl_fail(call, "failed", "out of memory");
		return;
	}
	hf_ctl_item(call, json_pack("{so}", "modulesContent", modules));
	hf_ctl_ok(call);
}
