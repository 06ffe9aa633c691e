/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Devices and modules: list, get, put, delete, statistics, purge (iothub-protocol 5.1 to 5.4). */
#include "core/util.h"
#include "hub/rest/rest_int.h"

#include <stdio.h>

void rest_device_list(struct rest_req *q)
{
	int64_t top = rest_number(q, "top", REST_MAX_PAGE, REST_MAX_PAGE);
	json_t *list = json_array();

	if (top < 1) {
		json_decref(list);
		rest_refuse(q, 400, 400004, "ArgumentInvalid", "top must be a number from 1 to %d", REST_MAX_PAGE);
		return;
	}
	for (const struct hub_ident *d = hub_device_next(q->m, NULL); d && json_array_size(list) < (size_t)top;
	     d = hub_device_next(q->m, d->device_id))
		if (json_array_append_new(list, hub_ident_doc(q->m, d)) != 0)
			break;
	rest_json(q, 200, list, NULL);
}

void rest_module_list(struct rest_req *q)
{
	const struct hub_ident *d = rest_ident(q);
	json_t *list;

	if (!d)
		return;
	list = json_array();
	for (const struct hub_ident *mod = hub_module_next(q->m, d->device_id, NULL); mod;
	     mod = hub_module_next(q->m, d->device_id, mod->module_id))
		if (json_array_append_new(list, hub_ident_doc(q->m, mod)) != 0)
			break;
	rest_json(q, 200, list, NULL);
}

void rest_ident_get(struct rest_req *q)
{
	const struct hub_ident *i = rest_ident(q);

	if (i)
		rest_document(q, hub_ident_doc(q->m, i), false);
}

void rest_ident_put(struct rest_req *q)
{
	struct hub_error err;
	json_t *doc = NULL;

	if (!json_is_object(q->body))
		rest_refuse(q, 400, 400006, "IotHubFormatError", "the body must be a JSON object");
	else if (hub_ident_put(q->m, q->device, *q->module ? q->module : NULL, q->body, rest_if_match(q), &doc, &err) != 0)
		rest_error(q, &err);
	else
		rest_document(q, doc, true);
}

void rest_ident_delete(struct rest_req *q)
{
	struct hub_error err;

	if (hub_ident_delete(q->m, q->device, *q->module ? q->module : NULL, rest_if_match(q), &err) != 0)
		rest_error(q, &err);
	else
		rest_committed(q, 204, NULL, NULL);
}

static void count(struct rest_req *q, json_int_t *ret_all, json_int_t *ret_enabled, json_int_t *ret_connected)
{
	*ret_all = *ret_enabled = *ret_connected = 0;
	for (const struct hub_ident *d = hub_device_next(q->m, NULL); d; d = hub_device_next(q->m, d->device_id)) {
		(*ret_all)++;
		*ret_enabled += d->enabled;
		*ret_connected += d->connections > 0;
	}
}

void rest_device_statistics(struct rest_req *q)
{
	json_int_t all, enabled, connected;

	count(q, &all, &enabled, &connected);
	rest_json(q, 200, json_pack("{sI sI sI}", "totalDeviceCount", all, "enabledDeviceCount", enabled,
				    "disabledDeviceCount", all - enabled), NULL);
}

void rest_service_statistics(struct rest_req *q)
{
	json_int_t all, enabled, connected;

	count(q, &all, &enabled, &connected);
	rest_json(q, 200, json_pack("{sI}", "connectedDeviceCount", connected), NULL);
}

void rest_purge(struct rest_req *q)
{
	const struct hub_ident *d = rest_ident(q);
	unsigned n;

	if (!d)
		return;
	if (hub_c2d_purge(q->m, d->device_id, &n) != 0)
		rest_refuse(q, 500, 500001, "ServerError", "the queue could not be emptied");
	else
		rest_committed(q, 200, json_pack("{ss sn si}", "deviceId", d->device_id, "moduleId",
						 "totalMessagesPurged", (int)n), NULL);
}
