/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Modules of a nested gateway, managed by the gateways above it (iothub-protocol 8.2). The path names the acting edge
 * device, the body's authChain the one whose modules these are. */
#include "hub/rest/rest_int.h"

#include <stdio.h>

/* Chain and module id of the body become what the path of the plain requests would say. False after answering. */
static bool take_target(struct rest_req *q, const json_t *module_id)
{
	const char *module = json_string_value(module_id);
	const struct hub_ident *device = rest_chain_target(q);

	if (!device)
		return false;
	if (!device->is_edge) {
		rest_refuse(q, 400, 400004, "ArgumentInvalid", "%s is not an edge device", device->device_id);
		return false;
	}
	if (module_id && (!module || !*module || json_string_length(module_id) > HF_ID_MAX)) {
		rest_refuse(q, 400, 400004, "ArgumentInvalid", "moduleId has 1 to %d characters", HF_ID_MAX);
		return false;
	}
	snprintf(q->device, sizeof q->device, "%s", device->device_id);
	snprintf(q->module, sizeof q->module, "%s", module ? module : "");
	snprintf(q->id, sizeof q->id, "%s%s%s", q->device, module ? "/" : "", q->module);
	return true;
}

/* The id is needed: null stands for one that is not there. */
static const json_t *module_id_of(const json_t *o)
{
	const json_t *id = json_object_get(o, "moduleId");

	return id ? id : json_null();
}

void rest_behalf_put(struct rest_req *q)
{
	json_t *module = json_object_get(q->body, "module");

	if (!take_target(q, module_id_of(module)))
		return;
	json_incref(module);
	json_decref(q->body);
	q->body = module;
	rest_ident_put(q);
}

void rest_behalf_get(struct rest_req *q)
{
	if (take_target(q, module_id_of(q->body)))
		rest_ident_get(q);
}

void rest_behalf_list(struct rest_req *q)
{
	if (take_target(q, NULL))
		rest_module_list(q);
}

void rest_behalf_delete(struct rest_req *q)
{
	if (take_target(q, module_id_of(q->body)))
		rest_ident_delete(q);
}
