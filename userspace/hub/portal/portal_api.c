/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the portal asks beside the service API: state of the hub, logins, the switch that cuts a device off, faults. */
#include "core/clock.h"
#include "core/metric.h"
#include "core/util.h"
#include "hub/model/clients.h"
#include "hub/fault/fault.h"
#include "hub/metrics.h"
#include "hub/portal/portal_int.h"

#include <holdfast/err.h>

static json_t *faults(struct rest_req *q)
{
	json_t *all = hub_faults_doc(hub_model_faults(q->m));

	if (!all)
		rest_refuse(q, 500, 500001, "ServerError", "no memory");
	return all;
}

static bool is_switch(const json_t *rule)
{
	return json_is_true(json_object_get(rule, "cutOff"));
}

void portal_status(struct rest_req *q)
{
	json_int_t n = 0, n_enabled = 0, n_edge = 0, n_connected = 0, n_cut = 0;
	json_t *all = faults(q), *rule;
	char started[32];
	size_t i;

	if (!all)
		return;
	for (const struct hub_ident *d = hub_device_next(q->m, NULL); d; d = hub_device_next(q->m, d->device_id)) {
		n++;
		n_enabled += d->enabled;
		n_edge += d->is_edge;
		n_connected += d->connections > 0;
	}
	json_array_foreach(all, i, rule)
		n_cut += is_switch(rule);
	hf_iso8601(q->rest->portal->started_ms, started);
	rest_json(q, 200, json_pack("{ss ss ss sI sI sI sI sI sI sI sI}", "host", hub_model_host(q->m), "version", HF_VERSION,
				    "startedAt", started, "devices", n, "enabled", n_enabled, "edgeDevices", n_edge,
				    "connectedDevices", n_connected, "logins", (json_int_t)hub_clients_count(q->m), "events",
				    (json_int_t)hf_metric_get(HUB_M_EVENTS), "faults",
				    (json_int_t)json_array_size(all) - n_cut, "cutOff", n_cut), NULL);
	json_decref(all);
}

struct clients { json_t *list; size_t max; };

static void add_client(void *arg, json_t *item)
{
	struct clients *c = arg;

	if (json_array_size(c->list) < c->max)
		json_array_append_new(c->list, item);
	else
		json_decref(item);
}

/* Who is logged in, longest first; query parameter top: at most so many. */
void portal_clients(struct rest_req *q)
{
	int64_t top = rest_number(q, "top", REST_MAX_PAGE, REST_MAX_PAGE);
	struct clients c = { .max = (size_t)top };

	if (top < 1) {
		rest_refuse(q, 400, 400004, "ArgumentInvalid", "top must be a number from 1 to %d", REST_MAX_PAGE);
		return;
	}
	c.list = json_array();
	hub_clients_list(q->m, add_client, &c);
	rest_json(q, 200, c.list, NULL);
}

/* --- the switch ------------------------------------------------------------------------------------------------ */

void portal_cut_off_list(struct rest_req *q)
{
	json_t *all = faults(q), *ids = json_array(), *rule;
	size_t i;

	json_array_foreach(all, i, rule)
		if (is_switch(rule))
			json_array_append(ids, json_object_get(rule, "device"));
	json_decref(all);
	if (q->x)
		rest_json(q, 200, ids, NULL);
	else
		json_decref(ids);
}

static void set_switch(struct rest_req *q, bool cut)
{
	const struct hub_ident *device = rest_ident(q);
	int r;

	if (!device)
		return;
	r = hub_client_cut_off(q->m, device, cut);
	if (r == HF_ELIMIT)
		rest_refuse(q, 403, 403002, "IotHubQuotaExceeded", "There are too many fault rules. Remove some, then cut the device off.");
	else if (r != 0)
		rest_refuse(q, 500, 500001, "ServerError", "no memory");
	else
		rest_json(q, 204, NULL, NULL);
}

void portal_cut_off(struct rest_req *q) { set_switch(q, true); }
void portal_cut_off_end(struct rest_req *q) { set_switch(q, false); }

/* --- faults, C2D ----------------------------------------------------------------------------------------------- */

void portal_fault_list(struct rest_req *q)
{
	json_t *all = faults(q);

	if (all)
		rest_json(q, 200, all, NULL);
}

/* Query parameter id: one rule; none: all. */
void portal_fault_clear(struct rest_req *q)
{
	int64_t id = rest_number(q, "id", UINT32_MAX, 0);
	unsigned n;

	if (id < 0) {
		rest_refuse(q, 400, 400004, "ArgumentInvalid", "id is the number of a rule");
		return;
	}
	n = hub_fault_clear(hub_model_faults(q->m), (unsigned)id);
	rest_json(q, 200, json_pack("{si}", "removed", (int)n), NULL);
}

/* A message as the control socket takes it: data, and what hub_c2d_send reads. */
void portal_c2d_send(struct rest_req *q)
{
	const struct hub_ident *device = rest_ident(q);
	const json_t *data = json_object_get(q->body, "data");
	struct hub_error err;

	if (!device || !rest_gate(q, REST_C2D))
		return;
	if (!json_is_object(q->body) || (data && !json_is_string(data)))
		rest_refuse(q, 400, 400006, "IotHubFormatError", "the body must be a JSON object whose data is text");
	else if (hub_c2d_send(q->m, device->device_id, q->body, hf_span(json_string_value(data), json_string_length(data)), &err) != 0)
		rest_error(q, &err);
	else
		rest_committed(q, 204, NULL, NULL);
}
