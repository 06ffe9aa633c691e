/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Service documents of identities, written: iothub-protocol 5.3, 5.4 and 8.1. */
#include "core/util.h"
#include "hub/model/model_int.h"

static json_t *time_json(int64_t ms)
{
	char text[32];

	if (ms <= 0)
		return json_string("0001-01-01T00:00:00Z");
	hf_iso8601(ms, text);
	return json_string(text);
}

static json_t *auth_json(const struct hub_ident *i)
{
	static const char *const names[] = { "sas", "selfSigned", "certificateAuthority", "none" };

	return json_pack("{s{ss? ss?} s{ss? ss?} ss}", "symmetricKey", "primaryKey", i->primary_key, "secondaryKey",
			 i->secondary_key, "x509Thumbprint", "primaryThumbprint", i->primary_thumb,
			 "secondaryThumbprint", i->secondary_thumb, "type", names[i->auth]);
}

static int put_scopes(json_t *o, const struct hub_ident *i)
{
	json_t *parents = *i->parent_scope ? json_pack("[s]", i->parent_scope) : json_array();
	int r = json_object_set_new(o, "parentScopes", parents);

	if (*i->device_scope)
		r |= json_object_set_new(o, "deviceScope", json_string(i->device_scope));
	return r | json_object_set_new(o, "capabilities", json_pack("{sb}", "iotEdge", i->is_edge));
}

/* Changes nothing, for the commit uses it too. */
json_t *hub_ident_doc(struct hub_model *m, const struct hub_ident *i)
{
	const struct hub_entry *e = hf_container_of(i, struct hub_entry, ident);
	json_t *o = json_pack("{ss ss ss ss so so so sI}", "deviceId", i->device_id, "generationId",
			      i->generation_id, "etag", i->etag, "connectionState",
			      i->connections ? "Connected" : "Disconnected", "connectionStateUpdatedTime",
			      time_json(i->state_updated_ms), "lastActivityTime", time_json(i->last_activity_ms),
			      "authentication", auth_json(i), "cloudToDeviceMessageCount",
			      (json_int_t)e->n_c2d);
	int r = o ? 0 : -1;

	(void)m;
	if (r == 0 && i->module_id) {
		r |= json_object_set_new(o, "moduleId", json_string(i->module_id));
		r |= json_object_set_new(o, "managedBy", i->managed_by ? json_string(i->managed_by) : json_null());
	} else if (r == 0) {
		r |= json_object_set_new(o, "status", json_string(i->enabled ? "enabled" : "disabled"));
		r |= json_object_set_new(o, "statusReason",
					 i->status_reason ? json_string(i->status_reason) : json_null());
		r |= json_object_set_new(o, "statusUpdatedTime", time_json(i->status_updated_ms));
		r |= put_scopes(o, i);
	}
	if (r != 0) {
		json_decref(o);
		return NULL;
	}
	return o;
}

json_t *hub_ident_scope_record(struct hub_model *m, const struct hub_ident *i)
{
	const struct hub_ident *device = i->module_id ? hub_ident_find(m, hf_span_str(i->device_id)) : i;
	json_t *o = json_pack("{ss ss ss ss ss so}", "deviceId", i->device_id, "generationId", i->generation_id, "etag",
			      i->etag, "status", i->enabled && device && device->enabled ? "enabled" : "disabled",
			      "connectionState", i->connections ? "Connected" : "Disconnected", "authentication",
			      auth_json(i));
	int r = o ? 0 : -1;

	if (r == 0 && i->module_id) {
		r |= json_object_set_new(o, "moduleId", json_string(i->module_id));
		r |= json_object_set_new(o, "managedBy", i->managed_by ? json_string(i->managed_by) : json_null());
	} else if (r == 0) {
		r |= put_scopes(o, i);
	}
	if (r != 0) {
		json_decref(o);
		return NULL;
	}
	return o;
}
