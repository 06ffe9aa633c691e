/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Control commands about devices and modules, in the words of `az iot hub device-identity` (iothub-protocol 5.11). */
#include "core/util.h"
#include "hub/ctl/ctl_int.h"
#include <errno.h>
#include <holdfast/err.h>
#include <stdarg.h>
#include <stdio.h>
#include <strings.h>

static bool same(const char *a, const char *b)
{
	return a && strcmp(a, b) == 0;
}

/* The words of the command line for authentication.type; NULL when it is none of them. */
static const char *auth_type(const char *method)
{
	return !method || same(method, "shared_private_key") ? "sas" : same(method, "x509_thumbprint") ? "selfSigned" :
	       same(method, "x509_ca") ? "certificateAuthority" : NULL;
}

struct reason { char text[256]; };	/* why a document cannot be made */

static int refuse(struct reason *why, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static int refuse(struct reason *why, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why->text, sizeof why->text, fmt, ap);
	va_end(ap);
	return HF_EINVALID;
}

/* What the arguments say, as members of a service document. */
static int put_args(const json_t *args, json_t *doc, struct reason *why)
{
	static const char *const keys[] = { "primaryKey", "secondaryKey" };
	static const char *const thumbs[] = { "primaryThumbprint", "secondaryThumbprint" };
	static const char *const plain[] = { "status", "statusReason" };
	const char *type = auth_type(hub_arg(args, "authMethod"));
	json_t *auth = json_object(), *symmetric = json_object(), *x509 = json_object(), *edge = json_object_get(args, "edgeEnabled"), *v;
	int r = 0;

	for (unsigned i = 0; i < 2; i++) {
		if ((v = json_object_get(args, keys[i])))
			r |= json_object_set(symmetric, keys[i], v);
		if ((v = json_object_get(args, thumbs[i])))
			r |= json_object_set(x509, thumbs[i], v);
		if ((v = json_object_get(args, plain[i])))
			r |= json_object_set(doc, plain[i], v);
	}
	if (hub_arg(args, "authMethod") && type)
		r |= json_object_set_new(auth, "type", json_string(type));
	if (json_object_size(symmetric))
		r |= json_object_set(auth, "symmetricKey", symmetric);
	if (json_object_size(x509))
		r |= json_object_set(auth, "x509Thumbprint", x509);
	if (json_object_size(auth))
		r |= json_object_set(doc, "authentication", auth);
	if (json_is_string(edge) && (strcasecmp(json_string_value(edge), "true") == 0 || strcasecmp(json_string_value(edge), "false") == 0))
		edge = json_boolean(strcasecmp(json_string_value(edge), "true") == 0);
	if (edge)
		r |= json_object_set_new(doc, "capabilities", json_pack("{sO}", "iotEdge", edge));
	json_decref(auth);
	json_decref(symmetric);
	json_decref(x509);
	if (!type)
		return refuse(why, "authMethod is shared_private_key, x509_thumbprint or x509_ca");
	return r == 0 ? 0 : -ENOMEM;
}

/* The parent by its id, as the scope that the service wants. */
static int put_parent(struct hub_ctl *ctl, const char *parent, json_t *doc, struct reason *why)
{
	const struct hub_ident *p = hub_ident_find(ctl->model, hf_span_str(parent));
	bool edge = json_is_true(json_object_get(json_object_get(doc, "capabilities"), "iotEdge"));
	int r;

	if (!p || !p->is_edge)
		return refuse(why, "parent \"%.128s\" is not a registered edge device; see: device list --edge-enabled", parent);
	r = edge ? json_object_set_new(doc, "parentScopes", json_pack("[s]", p->device_scope))
		 : json_object_set_new(doc, "deviceScope", json_string(p->device_scope));
	return r == 0 ? 0 : -ENOMEM;
}

/* A service document of arguments, or of a record that has authentication and is one already but for its parent. NULL
 * with a reason. */
static json_t *document(struct hub_ctl *ctl, const json_t *args, struct reason *why)
{
	bool whole = json_object_get(args, "authentication") != NULL;
	const char *parent = hub_arg(args, "parent");
	json_t *doc = whole ? json_copy((json_t *)args) : json_object();
	int r = doc ? 0 : -ENOMEM;

	refuse(why, "out of memory");
	if (r == 0 && !whole)
		r = put_args(args, doc, why);
	if (r == 0 && parent)
		r = put_parent(ctl, parent, doc, why);
	if (r == 0)
		return doc;
	json_decref(doc);
	return NULL;
}

static void create(struct hub_ctl *ctl, struct hf_ctl_call *call, const json_t *args, bool module)
{
	const char *device = hub_arg(args, "deviceId"), *module_id = module ? hub_arg(args, "moduleId") : NULL;
	struct hub_error err = { 0 };
	json_t *doc, *made = NULL;
	struct reason why;

	if (!device || (module && !module_id)) {
		hf_ctl_fail(call, "invalid", "%s is missing", device ? "moduleId" : "deviceId");
		return;
	}
	doc = document(ctl, args, &why);
	if (!doc)
		hf_ctl_fail(call, "invalid", "%s", why.text);
	else if (hub_ident_put(ctl->model, device, module_id, doc, NULL, &made, &err) != 0)
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

void hub_ctl_device_show(void *arg, struct hf_ctl_call *call, const json_t *args)
{
	struct hub_ctl *ctl = arg;
	const struct hub_ident *ident = hub_ctl_ident(ctl, call, args);
	json_t *doc;

	if (!ident)
		return;
	doc = hub_ident_doc(ctl->model, ident);
	if (doc && ident->auth == HUB_AUTH_SAS)
		json_object_set_new(doc, "connectionString",
				    json_sprintf("HostName=%s;DeviceId=%s%s%s;SharedAccessKey=%s", ctl->host, ident->device_id,
						 ident->module_id ? ";ModuleId=" : "", ident->module_id ? ident->module_id : "",
						 ident->primary_key));
	else if (doc)
		json_object_set_new(doc, "connectionString",
				    json_sprintf("HostName=%s;DeviceId=%s%s%s;x509=true", ctl->host, ident->device_id,
						 ident->module_id ? ";ModuleId=" : "", ident->module_id ? ident->module_id : ""));
	hf_ctl_item(call, doc);
	hf_ctl_ok(call);
}

void hub_ctl_device_update(void *arg, struct hf_ctl_call *call, const json_t *args)
{
	struct hub_ctl *ctl = arg;
	const struct hub_ident *ident = hub_ctl_ident(ctl, call, args);
	struct hub_error err = { 0 };
	json_t *doc, *made = NULL;
	struct reason why;

	if (!ident)
		return;
	doc = document(ctl, args, &why);
	if (!doc)
		hf_ctl_fail(call, "invalid", "%s", why.text);
	else if (json_object_size(doc) == 0)
		hf_ctl_fail(call, "invalid", "nothing to change; see: device update --help");
	else if (hub_ident_put(ctl->model, ident->device_id, ident->module_id, doc, "*", &made, &err) != 0)
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

/* --- import ----------------------------------------------------------------------------------------------- */

/* Tags and desired properties of a record. */
static int import_twin(struct hub_ctl *ctl, const char *device, const char *module, const json_t *record, struct hub_error *err)
{
	json_t *tags = json_object_get(record, "tags");
	json_t *desired = json_object_get(json_object_get(record, "properties"), "desired"), *patch;
	const struct hub_ident *ident;
	int r;

	if (!tags && !desired)
		return 0;
	ident = hub_ident_lookup(ctl->model, device, module);
	patch = json_pack("{sO* s{sO*}}", "tags", tags, "properties", "desired", desired);
	r = ident && patch ? hub_twin_update(ctl->model, ident, patch, true, NULL, NULL, err) : -ENOMEM;
	json_decref(patch);
	return r;
}

/* One record: a device, or with moduleId a module; one that exists is replaced. False after answering. */
static bool import_one(struct hub_ctl *ctl, struct hf_ctl_call *call, const json_t *record, size_t i)
{
	const char *device = hub_arg(record, "deviceId"), *module = hub_arg(record, "moduleId");
	struct hub_error err = { .message = "out of memory" };
	struct reason why;
	json_t *doc;
	int r;

	if (!device) {
		hf_ctl_fail(call, "invalid", "record %zu: deviceId is missing", i);
		return false;
	}
	doc = document(ctl, record, &why);
	if (!doc) {
		hf_ctl_fail(call, "invalid", "record %zu (%.128s): %s", i, device, why.text);
		return false;
	}
	r = hub_ident_put(ctl->model, device, module, doc, NULL, NULL, &err);
	if (r == HF_EEXISTS)
		r = hub_ident_put(ctl->model, device, module, doc, "*", NULL, &err);
	json_decref(doc);
	if (r == 0)
		r = import_twin(ctl, device, module, record, &err);
	if (r != 0)
		hf_ctl_fail(call, "invalid", "record %zu (%.128s): %s", i, device, err.message);
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
