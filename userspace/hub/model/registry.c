/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Devices and modules in memory, found by id and walked in id order; records are written by the commit. */
#include "core/clock.h"
#include "core/log.h"
#include "core/util.h"
#include "hub/model/model_int.h"

#include <errno.h>
#include <holdfast/err.h>
#include <stdio.h>

struct hub_entry *hub_entry_find(struct hub_model *m, struct hf_span id)
{
	return hf_map_get(m->idents, id);
}

const struct hub_ident *hub_ident_find(struct hub_model *m, struct hf_span id)
{
	struct hub_entry *e = hub_entry_find(m, id);

	return e ? &e->ident : NULL;
}

static void wipe(char *s)
{
	if (s)
		explicit_bzero(s, strlen(s));
	free(s);
}

void hub_ident_free(struct hub_ident *i)
{
	wipe(i->primary_key);
	wipe(i->secondary_key);
	free(i->id);
	free(i->device_id);
	free(i->module_id);
	free(i->etag);
	free(i->generation_id);
	free(i->managed_by);
	free(i->status_reason);
	free(i->primary_thumb);
	free(i->secondary_thumb);
	free(i->device_scope);
	free(i->parent_scope);
	memset(i, 0, sizeof *i);
}

static bool dup_to(char **to, const char *from)
{
	*to = from ? strdup(from) : NULL;
	return !from || *to;
}

static int ident_copy(const struct hub_ident *from, struct hub_ident *ret)
{
	struct hub_ident c = *from;
	bool ok = dup_to(&c.id, from->id);

	ok &= dup_to(&c.device_id, from->device_id);
	ok &= dup_to(&c.module_id, from->module_id);
	ok &= dup_to(&c.etag, from->etag);
	ok &= dup_to(&c.generation_id, from->generation_id);
	ok &= dup_to(&c.managed_by, from->managed_by);
	ok &= dup_to(&c.status_reason, from->status_reason);
	ok &= dup_to(&c.primary_key, from->primary_key);
	ok &= dup_to(&c.secondary_key, from->secondary_key);
	ok &= dup_to(&c.primary_thumb, from->primary_thumb);
	ok &= dup_to(&c.secondary_thumb, from->secondary_thumb);
	ok &= dup_to(&c.device_scope, from->device_scope);
	ok &= dup_to(&c.parent_scope, from->parent_scope);
	if (!ok) {
		hub_ident_free(&c);
		return -ENOMEM;
	}
	*ret = c;
	return 0;
}

static void entry_free(struct hub_entry *e)
{
	hub_c2d_free_all(e);
	hub_ident_free(&e->ident);
	hub_twin_fini(&e->twin);
	free(e->modules);
	free(e->model_id);
	free(e);
}

/* Position of the first entry whose device or module id is not below `id`. */
static size_t position(struct hub_entry *const *list, size_t n, const char *id, bool module)
{
	size_t lo = 0, hi = n;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		const char *at = module ? list[mid]->ident.module_id : list[mid]->ident.device_id;

		if (strcmp(at, id) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static int index_add(struct hub_model *m, struct hub_entry *e)
{
	struct hub_entry *owner = NULL;
	size_t at;

	if (e->ident.module_id) {
		struct hub_entry **grown;

		owner = hub_entry_find(m, hf_span_str(e->ident.device_id));
		grown = owner ? realloc(owner->modules, (owner->n_modules + 1) * sizeof *grown) : NULL;
		if (!grown)
			return owner ? -ENOMEM : HF_ENOTFOUND;
		owner->modules = grown;
	} else if (m->n_devices == m->cap_devices) {
		size_t cap = m->cap_devices ? 2 * m->cap_devices : 64;
		struct hub_entry **grown = realloc(m->devices, cap * sizeof *grown);

		if (!grown)
			return -ENOMEM;
		m->devices = grown;
		m->cap_devices = cap;
	}
	if (hf_map_put(m->idents, hf_span_str(e->ident.id), e) != 0)
		return -ENOMEM;
	struct hub_entry **list = owner ? owner->modules : m->devices;
	size_t *n = owner ? &owner->n_modules : &m->n_devices;

	at = position(list, *n, owner ? e->ident.module_id : e->ident.device_id, owner != NULL);
	memmove(&list[at + 1], &list[at], (*n - at) * sizeof *list);
	list[at] = e;
	(*n)++;
	return 0;
}

static void index_remove(struct hub_model *m, struct hub_entry *e)
{
	struct hub_entry *owner = e->ident.module_id ? hub_entry_find(m, hf_span_str(e->ident.device_id)) : NULL;
	struct hub_entry **list = owner ? owner->modules : m->devices;
	size_t *n = owner ? &owner->n_modules : &m->n_devices;
	size_t at = position(list, *n, owner ? e->ident.module_id : e->ident.device_id, owner != NULL);

	(*n)--;
	memmove(&list[at], &list[at + 1], (*n - at) * sizeof *list);
	hf_map_remove(m->idents, hf_span_str(e->ident.id));
}

static const struct hub_ident *next_of(struct hub_entry *const *list, size_t n, const char *after, bool module)
{
	size_t at = after ? position(list, n, after, module) : 0;

	if (after && at < n && strcmp(module ? list[at]->ident.module_id : list[at]->ident.device_id, after) == 0)
		at++;
	return at < n ? &list[at]->ident : NULL;
}

const struct hub_ident *hub_device_next(struct hub_model *m, const char *after)
{
	return next_of(m->devices, m->n_devices, after, false);
}

const struct hub_ident *hub_module_next(struct hub_model *m, const char *device_id, const char *after)
{
	struct hub_entry *e = hub_entry_find(m, hf_span_str(device_id));

	return e && !e->ident.module_id ? next_of(e->modules, e->n_modules, after, true) : NULL;
}

/* --- records ---------------------------------------------------------------------------------------------- */

/* A record is the service document with its times as numbers. */
int hub_registry_write(struct hub_model *m, struct hf_txn *txn, struct hf_span id)
{
	struct hub_entry *e = hub_entry_find(m, id);
	char *text = NULL;
	json_t *o;
	int r;

	if (!e) {
		r = hf_txn_del(txn, HUB_T_IDENT, id);
		return r == HF_ENOTFOUND ? 0 : r;
	}
	o = hub_ident_doc(m, &e->ident);
	if (o && json_object_set_new(o, "times", json_pack("[III]", (json_int_t)e->ident.status_updated_ms,
							   (json_int_t)e->ident.state_updated_ms,
							   (json_int_t)e->ident.last_activity_ms)) == 0)
		text = json_dumps(o, JSON_COMPACT);
	json_decref(o);
	if (!text)
		return -ENOMEM;
	r = hf_txn_put(txn, HUB_T_IDENT, id, hf_span_str(text));
	explicit_bzero(text, strlen(text));
	free(text);
	return r;
}

static struct hub_entry *entry_new(struct hub_model *m, const char *device_id, const char *module_id)
{
	struct hub_entry *e = calloc(1, sizeof *e);
	bool ok;

	if (!e)
		return NULL;
	hf_list_init(&e->c2d);
	hf_list_init(&e->c2d_node);
	e->ident.enabled = true;
	ok = dup_to(&e->ident.device_id, device_id) && dup_to(&e->ident.module_id, module_id) &&
	     dup_to(&e->ident.device_scope, "") && dup_to(&e->ident.parent_scope, "");
	if (!ok || asprintf(&e->ident.id, "%s%s%s", device_id, module_id ? "/" : "", module_id ? module_id : "") < 0) {
		e->ident.id = NULL;
		ok = false;
	}
	if (!ok || hub_twin_init(m, &e->twin) != 0) {
		entry_free(e);
		return NULL;
	}
	return e;
}

static int load_one(struct hub_model *m, const json_t *o)
{
	const char *device = json_string_value(json_object_get(o, "deviceId"));
	const char *module = json_string_value(json_object_get(o, "moduleId"));
	const char *etag = json_string_value(json_object_get(o, "etag"));
	const char *generation = json_string_value(json_object_get(o, "generationId"));
	const char *scope = json_string_value(json_object_get(o, "deviceScope")), *parent = NULL;
	const json_t *times = json_object_get(o, "times");
	struct hub_entry *e;
	int r;

	if (!device || !etag || !generation)
		return HF_ECORRUPT;
	e = entry_new(m, device, module);
	if (!e)
		return -ENOMEM;
	free(e->ident.device_scope);
	if (!dup_to(&e->ident.etag, etag) || !dup_to(&e->ident.generation_id, generation) ||
	    !dup_to(&e->ident.device_scope, scope ? scope : ""))
		r = -ENOMEM;
	else
		r = hub_ident_parse(&e->ident, o, true, &parent, NULL);
	if (r == 0 && parent) {
		free(e->ident.parent_scope);
		r = dup_to(&e->ident.parent_scope, parent) ? 0 : -ENOMEM;
	}
	e->ident.status_updated_ms = json_integer_value(json_array_get(times, 0));
	e->ident.state_updated_ms = json_integer_value(json_array_get(times, 1));
	e->ident.last_activity_ms = json_integer_value(json_array_get(times, 2));
	m->last_ticks = hf_max(m->last_ticks, (int64_t)strtoll(generation, NULL, 10));
	if (r == 0)
		r = index_add(m, e);
	if (r != 0)
		entry_free(e);
	return r;
}

struct load { struct hub_model *m; bool modules; };

static int load_record(void *arg, struct hf_span key, struct hf_span value)
{
	const struct load *l = arg;
	json_t *o;
	int r;

	if ((memchr(key.ptr, '/', key.len) != NULL) != l->modules)
		return 0;
	o = json_loadb((const char *)value.ptr, value.len, 0, NULL);
	r = o ? load_one(l->m, o) : HF_ECORRUPT;
	if (r != 0)
		hf_log(HF_LOG_ERR, "hub.load", "identity %.*s: %s", (int)key.len, (const char *)key.ptr, hf_strerror(r));
	json_decref(o);
	return r;
}

/* Devices sort before nothing in particular, so modules come in a second walk. */
int hub_registry_load(struct hub_model *m)
{
	int r = hf_db_each(m->state, HUB_T_IDENT, load_record, &(struct load){ m, false });

	if (r == 0)
		r = hf_db_each(m->state, HUB_T_IDENT, load_record, &(struct load){ m, true });
	return r == 0 ? hub_children_load(m) : r;
}

void hub_registry_fini(struct hub_model *m)
{
	struct hf_span key;
	size_t pos = 0;
	void *v;

	while (hf_map_next(m->idents, &pos, &key, &v))
		entry_free(v);
	free(m->devices);
}

/* --- changes ---------------------------------------------------------------------------------------------- */

int hub_ident_new_etag(struct hub_ident *i)
{
	hf_autobuf struct hf_buf b = HF_BUF_INIT(64);
	char text[24], *copy;

	snprintf(text, sizeof text, "%llu", (unsigned long long)(hf_random_u64() % 1000000000u));
	hf_b64_encode(hf_span_str(text), &b);
	copy = b.err ? NULL : strdup(hf_buf_cstr(&b));
	if (!copy)
		return -ENOMEM;
	free(i->etag);
	i->etag = copy;
	return 0;
}

static int new_generation(struct hub_model *m, struct hub_ident *i)
{
	int64_t ticks = (hf_clock_wall_ms() + 62135596800000ll) * 10000;

	m->last_ticks = hf_max(ticks, m->last_ticks + 1);
	return asprintf(&i->generation_id, "%lld", (long long)m->last_ticks) < 0 ? (i->generation_id = NULL, -ENOMEM) : 0;
}

/* Scopes of the new state: an edge device owns one, a leaf's is its parent's. parent NULL: as it was. */
static int settle_scopes(struct hub_model *m, struct hub_ident *now, const char *parent, struct hub_error *err)
{
	char *device = NULL, *up = strdup(parent ? parent : now->parent_scope);

	if (now->is_edge && asprintf(&device, HUB_SCOPE_PREFIX "%s-%s", now->device_id, now->generation_id) < 0)
		device = NULL;
	else if (!now->is_edge)
		device = up ? strdup(up) : NULL;
	if (!up || !device) {
		free(up);
		free(device);
		return -ENOMEM;
	}
	free(now->device_scope);
	now->device_scope = device;
	int r = *up ? hub_scope_check(m, now, up, err) : 0;

	if (r != 0) {
		free(up);
		return r;
	}
	free(now->parent_scope);
	now->parent_scope = up;
	return 0;
}

static void count_child(struct hub_model *m, const char *scope, int delta)
{
	struct hub_entry *parent = hub_scope_owner(m, scope);

	if (!parent)
		return;
	parent->n_children += (unsigned)delta;
	hub_scopes_changed(m);
}

static int add_entry(struct hub_model *m, struct hub_entry *e)
{
	int r = index_add(m, e);

	if (r != 0) {
		entry_free(e);
		return r;
	}
	hub_dirty_ident(m, e->ident.id);
	hub_dirty_twin(m, e->ident.id);
	return 0;
}

static int create(struct hub_model *m, const char *device_id, const char *module_id, const json_t *doc,
		  struct hub_entry **ret_e, struct hub_error *err)
{
	struct hub_entry *e = entry_new(m, device_id, module_id);
	const char *parent = NULL;
	int r = e ? new_generation(m, &e->ident) : -ENOMEM;

	if (r == 0)
		r = hub_ident_new_etag(&e->ident);
	if (r == 0)
		r = hub_ident_parse(&e->ident, doc, true, &parent, err);
	if (r == 0 && !module_id)
		r = settle_scopes(m, &e->ident, parent, err);
	if (r != 0) {
		if (e)
			entry_free(e);
		return r;
	}
	r = add_entry(m, e);
	if (r == 0) {
		count_child(m, e->ident.parent_scope, 1);
		*ret_e = e;
	}
	return r;
}

static int system_modules(struct hub_model *m, const char *device_id, struct hub_error *err)
{
	static const char *const names[] = { "$edgeAgent", "$edgeHub" };
	json_t *doc = json_pack("{ss}", "managedBy", "iotEdge");
	struct hub_entry *e;
	int r = doc ? 0 : -ENOMEM;
	char id[HF_IDENT_MAX + 1];

	for (unsigned i = 0; r == 0 && i < HF_ARRAY_LEN(names); i++) {
		snprintf(id, sizeof id, "%s/%s", device_id, names[i]);
		if (!hub_entry_find(m, hf_span_str(id)))
			r = create(m, device_id, names[i], doc, &e, err);
	}
	json_decref(doc);
	return r;
}

static void remove_entry(struct hub_model *m, struct hub_entry *e)
{
	hub_c2d_drop_all(m, e);
	hub_configs_removed(m->configs, e);
	hub_children_forget(m, e);
	if (e->n_uploads)
		hub_uploads_drop(m, e->ident.id);
	if (!e->ident.module_id)
		hub_fault_cut_off(m->faults, e->ident.id, false);
	index_remove(m, e);
	hub_dirty_ident(m, e->ident.id);
	hub_dirty_twin(m, e->ident.id);
	hub_session_save(m, e->ident.id, NULL);
	hub_leftover(m, e->ident.id);
	hub_note(m, HUB_NOTE_IDENT, e->ident.id, NULL, 0);
	entry_free(e);
}

/* An edge device that becomes a leaf must have no children; its system modules go. */
static int demote(struct hub_model *m, struct hub_entry *e, struct hub_error *err)
{
	if (e->n_children)
		return hub_scope_refuse(err, e->ident.id, "%s has %u children, free them first", e->ident.id, e->n_children);
	for (size_t i = e->n_modules; i > 0; i--)
		if (e->modules[i - 1]->ident.module_id[0] == '$')
			remove_entry(m, e->modules[i - 1]);
	return 0;
}

static bool differs(const char *a, const char *b)
{
	return strcmp(a ? a : "", b ? b : "") != 0;
}

static int update(struct hub_model *m, struct hub_entry *e, const json_t *doc, struct hub_error *err)
{
	const char *parent = NULL;
	struct hub_ident now;
	bool was_edge = e->ident.is_edge, cut;
	int r = ident_copy(&e->ident, &now);

	if (r != 0)
		return r;
	r = hub_ident_parse(&now, doc, false, &parent, err);
	if (r == 0)
		r = hub_ident_new_etag(&now);
	if (r == 0 && !now.module_id)
		r = settle_scopes(m, &now, parent, err);
	if (r == 0 && was_edge && !now.is_edge)
		r = demote(m, e, err);
	if (r != 0) {
		hub_ident_free(&now);
		return r;
	}
	if (now.enabled != e->ident.enabled)
		now.status_updated_ms = hf_clock_wall_ms();
	cut = (e->ident.enabled && !now.enabled) || now.auth != e->ident.auth ||
	      differs(now.primary_key, e->ident.primary_key) || differs(now.secondary_key, e->ident.secondary_key) ||
	      differs(now.primary_thumb, e->ident.primary_thumb) ||
	      differs(now.secondary_thumb, e->ident.secondary_thumb);
	if (differs(now.parent_scope, e->ident.parent_scope)) {
		count_child(m, e->ident.parent_scope, -1);
		count_child(m, now.parent_scope, 1);
	}
	hub_ident_free(&e->ident);
	e->ident = now;
	hub_dirty_ident(m, e->ident.id);
	if (cut) {
		hub_scopes_changed(m);
		hub_note(m, HUB_NOTE_IDENT, e->ident.id, NULL, 0);
		for (size_t i = 0; i < e->n_modules && !e->ident.enabled; i++)
			hub_note(m, HUB_NOTE_IDENT, e->modules[i]->ident.id, NULL, 0);
	}
	return !was_edge && e->ident.is_edge ? system_modules(m, e->ident.device_id, err) : 0;
}

/* "D/M" is no device's id. */
static struct hub_entry *lookup(struct hub_model *m, const char *device_id, const char *module_id)
{
	char id[HF_IDENT_MAX + 1];
	struct hub_entry *e;

	if (snprintf(id, sizeof id, "%s%s%s", device_id, module_id ? "/" : "", module_id ? module_id : "") >=
	    (int)sizeof id)
		return NULL;
	e = hub_entry_find(m, hf_span_str(id));
	return e && !e->ident.module_id == !module_id ? e : NULL;
}

/* What is stored keeps its id, also one that an older version took. */
static int ids_fit(struct hub_model *m, const char *device_id, const char *module_id, const json_t *doc, struct hub_error *err)
{
	const json_t *d = json_object_get(doc, "deviceId"), *mod = json_object_get(doc, "moduleId");

	if ((!lookup(m, device_id, NULL) && !hub_id_valid(device_id)) ||
	    (module_id && !lookup(m, device_id, module_id) && !hub_id_valid(module_id)))
		return hub_refuse(err, HF_EINVALID, 400, 400004, "ArgumentInvalid",
				  "ids have 1 to 128 ASCII letters, digits or -:.%%_*?!(),=@$'");
	if ((json_is_string(d) && strcmp(json_string_value(d), device_id) != 0) ||
	    (module_id && json_is_string(mod) && strcmp(json_string_value(mod), module_id) != 0))
		return hub_refuse(err, HF_EINVALID, 400, 400004, "ArgumentInvalid", "body and path name different ids");
	return 0;
}

static int missing(const char *device_id, const char *module_id, struct hub_error *err)
{
	if (module_id)
		return hub_refuse(err, HF_ENOTFOUND, 404, 404010, "ModuleNotFound", "Module %s/%s not registered",
				  device_id, module_id);
	return hub_refuse(err, HF_ENOTFOUND, 404, 404001, "DeviceNotFound", "Device %s not registered", device_id);
}

const struct hub_ident *hub_ident_lookup(struct hub_model *m, const char *device_id, const char *module_id)
{
	const struct hub_entry *e = lookup(m, device_id, module_id);

	return e ? &e->ident : NULL;
}

int hub_ident_put(struct hub_model *m, const char *device_id, const char *module_id, const json_t *doc,
		  const char *if_match, json_t **ret_doc, struct hub_error *err)
{
	struct hub_entry *e, *owner;
	int r;

	hub_error_default(err);
	r = ids_fit(m, device_id, module_id, doc, err);
	if (r != 0)
		return r;
	e = lookup(m, device_id, module_id);
	owner = module_id ? lookup(m, device_id, NULL) : NULL;
	if (module_id && !owner)
		return missing(device_id, NULL, err);
	if (e && !if_match)
		return module_id ? hub_refuse(err, HF_EEXISTS, 409, 409301, "ModuleAlreadyExistsOnDevice",
					      "Module %s exists on %s", module_id, device_id)
				 : hub_refuse(err, HF_EEXISTS, 409, 409001, "DeviceAlreadyExists",
					      "A device with ID '%s' is already registered.", device_id);
	if (!e && if_match)
		return missing(device_id, module_id, err);
	if (e && !hub_etag_fits(if_match, e->ident.etag))
		return hub_refuse(err, HF_ESTALE, 412, 412001, "PreconditionFailed", "the etag of %s is %s",
				  e->ident.id, e->ident.etag);
	if (!e && owner && owner->n_modules >= HUB_MAX_MODULES)
		return hub_refuse(err, HF_ELIMIT, 403, 403003, "TooManyModulesOnDevice", "%s has %d modules already",
				  device_id, HUB_MAX_MODULES);
	r = e ? update(m, e, doc, err) : create(m, device_id, module_id, doc, &e, err);
	if (r == 0 && !module_id && e->ident.is_edge)
		r = system_modules(m, e->ident.device_id, err);
	if (r == 0 && ret_doc && !(*ret_doc = hub_ident_doc(m, &e->ident)))
		r = -ENOMEM;
	return r;
}

int hub_ident_delete(struct hub_model *m, const char *device_id, const char *module_id, const char *if_match,
		     struct hub_error *err)
{
	struct hub_entry *e = lookup(m, device_id, module_id);

	hub_error_default(err);
	if (!e)
		return missing(device_id, module_id && lookup(m, device_id, NULL) ? module_id : NULL, err);
	if (if_match && !hub_etag_fits(if_match, e->ident.etag))
		return hub_refuse(err, HF_ESTALE, 412, 412001, "PreconditionFailed", "the etag of %s is %s",
				  e->ident.id, e->ident.etag);
	if (!module_id) {
		int r = hub_children_free(m, e);

		if (r != 0)
			return r;
		count_child(m, e->ident.parent_scope, -1);
		while (e->n_modules)
			remove_entry(m, e->modules[e->n_modules - 1]);
	}
	remove_entry(m, e);
	return 0;
}

void hub_ident_connected(struct hub_model *m, const char *id, bool connected)
{
	struct hub_entry *e = hub_entry_find(m, hf_span_str(id));

	if (!e)
		return;
	if (connected)
		e->ident.connections++;
	else if (e->ident.connections)
		e->ident.connections--;
	e->ident.state_updated_ms = e->ident.last_activity_ms = hf_clock_wall_ms();
}
