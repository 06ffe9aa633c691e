/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Table of the emulator's control commands, and those that fit no family. */
#include "core/clock.h"
#include "core/log.h"
#include "core/util.h"
#include "hub/model/clients.h"
#include "hub/ctl/ctl_int.h"
#include "hub/metrics.h"
#include "hub/portal/portal.h"
#include <errno.h>
#include <holdfast/err.h>
#include <stdio.h>

const char *hub_arg(const json_t *args, const char *name)
{
	return json_string_value(json_object_get(args, name));
}

void hub_ctl_error(struct hf_ctl_call *call, const struct hub_error *err)
{
	const char *code = err->http_status == 404 ? "not-found" : err->http_status == 504 ? "timeout" : "invalid";

	hf_ctl_fail(call, code, "%s (%d): %s", err->name ? err->name : "error", err->code, err->message);
}

const struct hub_ident *hub_ctl_ident(struct hub_ctl *ctl, struct hf_ctl_call *call, const json_t *args)
{
	const char *device = hub_arg(args, "deviceId"), *module = hub_arg(args, "moduleId");
	char id[HF_IDENT_MAX + 1];
	int n;

	if (!device) {
		hf_ctl_fail(call, "invalid", "deviceId is missing");
		return NULL;
	}
	n = snprintf(id, sizeof id, "%s%s%s", device, module ? "/" : "", module ? module : "");
	const struct hub_ident *ident =
		n > 0 && (size_t)n < sizeof id ? hub_ident_find(ctl->model, hf_span_str(id)) : NULL;
	if (!ident)
		hf_ctl_fail(call, "not-found", "%s \"%.*s\" is not registered", module ? "module" : "device", 200, id);
	return ident;
}

struct committed {
	struct hub_wait wait;
	struct hf_ctl_call *call;
	json_t *item;
};

static void on_committed(void *arg, int err)
{
	struct committed *c = arg;

	if (err) {
		json_decref(c->item);
		hf_ctl_fail(c->call, "failed", "storage failed: %s", hf_strerror(err));
	} else {
		if (c->item)
			hf_ctl_item(c->call, c->item);
		hf_ctl_ok(c->call);
	}
	free(c);
}

void hub_ctl_ok_committed(struct hub_ctl *ctl, struct hf_ctl_call *call, json_t *item)
{
	struct committed *c = calloc(1, sizeof *c);

	if (!c) {
		json_decref(item);
		hf_ctl_fail(call, "failed", "out of memory");
		return;
	}
	c->call = call;
	c->item = item;
	hub_commit_wait(ctl->model, &c->wait, on_committed, c);
}

static void cmd_status(void *arg, struct hf_ctl_call *call, const json_t *args)
{
	struct hub_ctl *ctl = arg;
	unsigned n_devices = 0;
	const char *after = NULL;
	const struct hub_ident *d;

	(void)args;
	while ((d = hub_device_next(ctl->model, after))) {
		n_devices++;
		after = d->id;
	}
	hf_ctl_item(call, json_pack("{s:s, s:s, s:i, s:i, s:I, s:I}", "version", HF_VERSION, "host", ctl->host, "devices",
				    n_devices, "connected", hub_clients_count(ctl->model), "events",
				    (json_int_t)hf_metric_get(HUB_M_EVENTS), "nextSequence",
				    (json_int_t)hub_event_end(ctl->model)));
	hf_ctl_ok(call);
}

static void cmd_counters(void *arg, struct hf_ctl_call *call, const json_t *args)
{
	json_t *all = json_object();

	(void)arg;
	(void)args;
	for (unsigned i = 0; i < hf_metrics_count(); i++)
		json_object_set_new(all, hf_metric_def(i)->name, json_integer(hf_metric_get(i)));
	hf_ctl_item(call, all);
	hf_ctl_ok(call);
}

static void cmd_policy_show(void *arg, struct hf_ctl_call *call, const json_t *args)
{
	struct hub_ctl *ctl = arg;
	const char *name = hub_arg(args, "name");
	const struct hub_policy *p = hub_policy_find(ctl->model, name ? name : "iothubowner");
	struct hf_span entity = hub_model_short_name(ctl->model);
	char cs[512], events[512];

	if (!p) {
		hf_ctl_fail(call, "not-found", "no policy \"%s\"; there are iothubowner, service, device, registryRead, "
			    "registryReadWrite", name ? name : "");
		return;
	}
	snprintf(cs, sizeof cs, "HostName=%s;SharedAccessKeyName=%s;SharedAccessKey=%s", ctl->host, p->name,
		 p->primary_key);
	snprintf(events, sizeof events, "Endpoint=sb://%s/;SharedAccessKeyName=%s;SharedAccessKey=%s;EntityPath=%.*s", ctl->host,
		 p->name, p->primary_key, (int)entity.len, (const char *)entity.ptr);
	hf_ctl_item(call, json_pack("{s:s, s:s, s:s, s:s, s:s}", "name", p->name, "primaryKey", p->primary_key, "secondaryKey",
				    p->secondary_key, "connectionString", cs, "eventHubConnectionString", events));
	explicit_bzero(cs, sizeof cs);
	explicit_bzero(events, sizeof events);
	hf_ctl_ok(call);
}

static void client_item(void *arg, json_t *item)
{
	hf_ctl_item(arg, item);
}

static void cmd_clients(void *arg, struct hf_ctl_call *call, const json_t *args)
{
	struct hub_ctl *ctl = arg;

	(void)args;
	hub_clients_list(ctl->model, client_item, call);
	hf_ctl_ok(call);
}

static void cmd_disconnect(void *arg, struct hf_ctl_call *call, const json_t *args)
{
	struct hub_ctl *ctl = arg;
	const struct hub_ident *ident = hub_ctl_ident(ctl, call, args);

	if (!ident)
		return;
	if (hub_client_cut(ctl->model, ident->id, "disconnected by the operator"))
		hf_ctl_ok(call);
	else
		hf_ctl_fail(call, "not-found", "\"%s\" is not connected", ident->id);
}

static void cmd_log_level(void *arg, struct hf_ctl_call *call, const json_t *args)
{
	const char *name = hub_arg(args, "level");
	enum hf_log_level level;

	(void)arg;
	if (name && hf_log_level_parse(name, &level) != 0) {
		hf_ctl_fail(call, "invalid", "\"%s\" is none of err, warn, notice, info, debug", name);
		return;
	}
	if (name)
		hf_log_set_level(level);
	hf_ctl_item(call, json_pack("{s:s}", "level", hf_log_level_name(hf_log_level())));
	hf_ctl_ok(call);
}

static void cmd_portal_key(void *arg, struct hf_ctl_call *call, const json_t *args)
{
	struct hub_ctl *ctl = arg;

	if (!ctl->portal) {
		hf_ctl_fail(call, "not-found", "this hub has no portal");
		return;
	}
	if (json_is_true(json_object_get(args, "renew")))
		hub_portal_key_renew(ctl->portal);
	hf_ctl_item(call, json_pack("{s:s, s:s}", "url", hub_portal_url(ctl->portal), "key", hub_portal_key(ctl->portal)));
	hf_ctl_ok(call);
}

static const struct hf_ctl_cmd commands[] = {
	{ "status", false, "state of the emulator", cmd_status },
	{ "counters", false, "all counters", cmd_counters },
	{ "clients.list", false, "live device connections", cmd_clients },
	{ "clients.disconnect", true, "close one identity's connection", cmd_disconnect },
	{ "policy.show", true, "a shared access policy with its keys", cmd_policy_show },
	{ "query", false, "run a query over the registry", hub_ctl_query },
	{ "portal.key", true, "the portal's address and the key that signs in once", cmd_portal_key },
	{ "log.level", true, "show or set the log level", cmd_log_level },
	{ "device.create", true, "register a device", hub_ctl_device_create },
	{ "device.list", true, "all devices, with keys", hub_ctl_device_list },
	{ "device.show", true, "one device, with keys", hub_ctl_device_show },
	{ "device.update", true, "enable, disable or re-key a device", hub_ctl_device_update },
	{ "device.delete", true, "remove a device and its modules", hub_ctl_device_delete },
	{ "device.add-children", true, "make devices children of an edge device", hub_ctl_add_children },
	{ "device.remove-children", true, "free children of an edge device", hub_ctl_remove_children },
	{ "device.list-children", false, "children of an edge device", hub_ctl_list_children },
	{ "device.get-parent", false, "the parent of a device", hub_ctl_get_parent },
	{ "device.set-parent", true, "give a device a parent", hub_ctl_set_parent },
	{ "module.create", true, "register a module", hub_ctl_module_create },
	{ "module.list", true, "modules of a device, with keys", hub_ctl_module_list },
	{ "import", true, "register many devices and modules", hub_ctl_import },
	{ "export", true, "the registry as records for import, with keys", hub_ctl_export },
	{ "deployment.apply", true, "set an edge device's modules and their desired properties", hub_ctl_deployment_apply },
	{ "deployment.show", false, "an edge device's modules and their desired properties", hub_ctl_deployment_show },
	{ "events", false, "telemetry taken, oldest first", hub_ctl_events },
	{ "twin.show", false, "a twin", hub_ctl_twin_show },
	{ "twin.update", true, "patch desired properties and tags", hub_ctl_twin_update },
	{ "method.invoke", true, "call a direct method", hub_ctl_method_invoke },
	{ "c2d.send", true, "queue a cloud-to-device message", hub_ctl_c2d_send },
	{ "blob.list", false, "files that devices uploaded", hub_ctl_blob_list },
	{ "blob.read", false, "content of an uploaded file, in parts", hub_ctl_blob_read },
	{ "blob.delete", true, "remove an uploaded file", hub_ctl_blob_delete },
	{ "fault.add", true, "let operations fail on purpose", hub_ctl_fault_add },
	{ "fault.list", false, "the fault rules and their hits", hub_ctl_fault_list },
	{ "fault.clear", true, "remove one fault rule or all", hub_ctl_fault_clear },
	{ 0 },
};

int hub_ctl_create(struct hf_loop *loop, struct hub_model *model, const struct hub_ctl_cfg *cfg,
		   struct hub_ctl **ret_ctl)
{
	struct hub_ctl *ctl = calloc(1, sizeof *ctl);
	int r;

	if (!ctl || !(ctl->host = strdup(cfg->host))) {
		free(ctl);
		close(cfg->listen_fd);
		return -ENOMEM;
	}
	ctl->loop = loop;
	ctl->model = model;
	ctl->portal = cfg->portal;
	hf_list_init(&ctl->followers);
	hf_list_init(&ctl->readings);
	r = hf_ctl_srv_create(loop, cfg->listen_fd, -1, commands, ctl, &ctl->srv);
	if (r != 0) {
		hub_ctl_destroy(&ctl);
		return r;
	}
	hub_on_event(model, hub_ctl_on_event, ctl);
	*ret_ctl = ctl;
	return 0;
}

void hub_ctl_destroy(struct hub_ctl **ctl)
{
	if (!*ctl)
		return;
	hub_ctl_blobs_stop(*ctl);
	hf_ctl_srv_destroy(&(*ctl)->srv);
	free((*ctl)->host);
	free(*ctl);
	*ctl = NULL;
}
