/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Twins: tags, desired, reported, their versions and metadata (iothub-protocol 1.6, 5.5). */
#include "core/clock.h"
#include "core/log.h"
#include "core/util.h"
#include "hub/model/model_int.h"
#include "twin/merge.h"

#include <errno.h>
#include <holdfast/err.h>
#include <stdio.h>

#define MAX_SECTION 32768
#define PATCH_MAX(section) (3 * (section))	/* notified as it is: gateways and devices take no packet of any size */
#define MAX_TAGS 8192
#define BAD(err, ...) hub_refuse(err, HF_EINVALID, 400, 400004, "ArgumentInvalid", __VA_ARGS__)

static json_t *meta_new(const char *now, int64_t version)
{
	json_t *o = json_pack("{ss}", "$lastUpdated", now);

	if (o && version >= 0 && json_object_set_new(o, "$lastUpdatedVersion", json_integer(version)) != 0) {
		json_decref(o);
		return NULL;
	}
	return o;
}

/* Stamps what the patch touched. A member that became an object or stopped being one starts anew. */
static int meta_stamp(json_t *meta, const json_t *patch, const char *now, int64_t version)
{
	const char *key;
	json_t *v;
	int r = json_object_set_new(meta, "$lastUpdated", json_string(now));

	if (version >= 0)
		r |= json_object_set_new(meta, "$lastUpdatedVersion", json_integer(version));
	json_object_foreach((json_t *)patch, key, v) {
		json_t *sub;

		if (json_is_null(v)) {
			json_object_del(meta, key);
			continue;
		}
		sub = json_is_object(v) ? json_object_get(meta, key) : NULL;
		if (!sub) {
			sub = meta_new(now, version);
			if (!sub || json_object_set_new(meta, key, sub) != 0)
				return -ENOMEM;
		}
		if (json_is_object(v))
			r |= meta_stamp(sub, v, now, version);
	}
	return r ? -ENOMEM : 0;
}

int hub_twin_init(struct hub_model *m, struct hub_twin *t)
{
	char now[32];

	hf_iso8601(hf_clock_wall_ms(), now);
	t->desired = json_object();
	t->reported = json_object();
	t->desired_meta = meta_new(now, 1);
	t->reported_meta = meta_new(now, -1);
	t->desired_version = t->reported_version = 1;
	t->version = 2;
	t->etag = ++m->twin_etag;
	return t->desired && t->reported && t->desired_meta && t->reported_meta ? 0 : -ENOMEM;
}

void hub_twin_fini(struct hub_twin *t)
{
	json_decref(t->tags);
	json_decref(t->desired);
	json_decref(t->reported);
	json_decref(t->desired_meta);
	json_decref(t->reported_meta);
	json_decref(t->configurations);
	memset(t, 0, sizeof *t);
}

int hub_twin_write(struct hub_model *m, struct hf_txn *txn, struct hf_span id)
{
	struct hub_entry *e = hub_entry_find(m, id);
	char *text;
	json_t *o;
	int r;

	if (!e) {
		r = hf_txn_del(txn, HUB_T_TWIN, id);
		return r == HF_ENOTFOUND ? 0 : r;
	}
	o = json_pack("{sO* sO sO sO sO sI sI sI sI ss* sO*}", "tags", e->twin.tags, "desired", e->twin.desired, "reported",
		      e->twin.reported, "desiredMeta", e->twin.desired_meta, "reportedMeta", e->twin.reported_meta,
		      "desiredVersion", (json_int_t)e->twin.desired_version, "reportedVersion",
		      (json_int_t)e->twin.reported_version, "version", (json_int_t)e->twin.version, "etag",
		      (json_int_t)e->twin.etag, "modelId", e->model_id, "configurations", e->twin.configurations);
	text = o ? json_dumps(o, JSON_COMPACT) : NULL;
	json_decref(o);
	if (!text)
		return -ENOMEM;
	r = hf_txn_put(txn, HUB_T_TWIN, id, hf_span_str(text));
	free(text);
	return r;
}

static int load_one(struct hub_entry *e, json_t *o)
{
	struct hub_twin t = { 0 };
	json_int_t dv, rv, v, etag;
	const char *model = NULL;

	if (json_unpack(o, "{s?O sO sO sO sO sI sI sI sI s?s s?O}", "tags", &t.tags, "desired", &t.desired, "reported",
			&t.reported, "desiredMeta", &t.desired_meta, "reportedMeta", &t.reported_meta,
			"desiredVersion", &dv, "reportedVersion", &rv, "version", &v, "etag", &etag, "modelId",
			&model, "configurations", &t.configurations) != 0) {
		hub_twin_fini(&t);
		return HF_ECORRUPT;
	}
	t.desired_version = dv;
	t.reported_version = rv;
	t.version = v;
	t.etag = (uint64_t)etag;
	hub_twin_fini(&e->twin);
	e->twin = t;
	free(e->model_id);
	e->model_id = model ? strdup(model) : NULL;
	return 0;
}

static int load_record(void *arg, struct hf_span key, struct hf_span value)
{
	struct hub_model *m = arg;
	struct hub_entry *e = hub_entry_find(m, key);
	json_t *o = e ? json_loadb((const char *)value.ptr, value.len, 0, NULL) : NULL;
	int r = !e ? 0 : o ? load_one(e, o) : HF_ECORRUPT;

	if (e && r == 0)
		m->twin_etag = hf_max(m->twin_etag, e->twin.etag);
	json_decref(o);
	return r;
}

int hub_twin_load(struct hub_model *m)
{
	return hf_db_each(m->state, HUB_T_TWIN, load_record, m);
}

/* --- views ------------------------------------------------------------------------------------------------ */

static void etag_text(uint64_t etag, struct hf_buf *out)
{
	uint8_t raw[8];

	for (int i = 0; i < 8; i++)
		raw[i] = (uint8_t)(etag >> (56 - 8 * i));
	hf_b64_encode(hf_span(raw, 8), out);
}

static json_t *section(json_t *of, json_t *meta, int64_t version)
{
	json_t *o = json_copy(of);

	if (o && ((meta && json_object_set(o, "$metadata", meta) != 0) ||
		  json_object_set_new(o, "$version", json_integer(version)) != 0)) {
		json_decref(o);
		return NULL;
	}
	return o;
}

static json_t *time_json(int64_t ms)
{
	char text[32];

	if (ms <= 0)
		return json_string("0001-01-01T00:00:00Z");
	hf_iso8601(ms, text);
	return json_string(text);
}

static int put_device_part(json_t *o, const struct hub_ident *device, const struct hub_ident *ident)
{
	int r = json_object_set_new(o, "status", json_string(device->enabled ? "enabled" : "disabled"));

	r |= json_object_set_new(o, "statusReason",
				 device->status_reason ? json_string(device->status_reason) : json_null());
	r |= json_object_set_new(o, "statusUpdateTime", time_json(device->status_updated_ms));
	if (ident->module_id)
		return r | json_object_set_new(o, "moduleId", json_string(ident->module_id));
	r |= json_object_set_new(o, "capabilities", json_pack("{sb}", "iotEdge", ident->is_edge));
	r |= json_object_set_new(o, "parentScopes",
				 *ident->parent_scope ? json_pack("[s]", ident->parent_scope) : json_array());
	if (*ident->device_scope)
		r |= json_object_set_new(o, "deviceScope", json_string(ident->device_scope));
	return r;
}

json_t *hub_twin_doc(struct hub_model *m, const struct hub_ident *i)
{
	static const char *const names[] = { "sas", "selfSigned", "certificateAuthority", "none" };
	const struct hub_entry *e = hf_container_of(i, struct hub_entry, ident);
	const struct hub_ident *device = i->module_id ? hub_ident_find(m, hf_span_str(i->device_id)) : i;
	const struct hub_twin *t = &e->twin;
	hf_autobuf struct hf_buf etag = HF_BUF_INIT(64);
	json_t *o;

	etag_text(t->etag, &etag);
	o = json_pack("{ss ss ss ss so sI ss s{ss? ss?} ss sI s{so so}}", "deviceId", i->device_id, "etag",
		      hf_buf_cstr(&etag), "deviceEtag", i->etag, "connectionState",
		      i->connections ? "Connected" : "Disconnected", "lastActivityTime", time_json(i->last_activity_ms),
		      "cloudToDeviceMessageCount", (json_int_t)e->n_c2d, "authenticationType", names[i->auth],
		      "x509Thumbprint", "primaryThumbprint", i->primary_thumb, "secondaryThumbprint", i->secondary_thumb,
		      "modelId", e->model_id ? e->model_id : "", "version", (json_int_t)t->version, "properties",
		      "desired", section(t->desired, t->desired_meta, t->desired_version), "reported",
		      section(t->reported, t->reported_meta, t->reported_version));
	if (!o)
		return NULL;
	if (put_device_part(o, device ? device : i, i) != 0 || (json_object_size(t->tags) && json_object_set(o, "tags", t->tags) != 0) ||
	    (json_object_size(t->configurations) && json_object_set(o, "configurations", t->configurations) != 0)) {
		json_decref(o);
		return NULL;
	}
	return o;
}

json_t *hub_twin_device_view(struct hub_model *m, const struct hub_ident *ident)
{
	const struct hub_twin *t = &hf_container_of(ident, struct hub_entry, ident)->twin;

	(void)m;
	return json_pack("{so so}", "desired", section(t->desired, NULL, t->desired_version), "reported",
			 section(t->reported, NULL, t->reported_version));
}

int hub_twin_set_model(struct hub_model *m, const struct hub_ident *ident, const char *model_id)
{
	struct hub_entry *e = hub_entry_find(m, hf_span_str(ident->id));
	char *copy;

	if (!e || (e->model_id && strcmp(e->model_id, model_id) == 0))
		return 0;
	copy = strdup(model_id);
	if (!copy)
		return -ENOMEM;
	free(e->model_id);
	e->model_id = copy;
	hub_dirty_twin(m, e->ident.id);
	return 0;
}

/* --- changes ---------------------------------------------------------------------------------------------- */

/* A copy without what the hub adds to a document that is read. */
static json_t *without_dollar(const json_t *o)
{
	json_t *copy = json_deep_copy(o);

	json_object_del(copy, "$metadata");
	json_object_del(copy, "$version");
	return copy;
}

/* Next state of one section. replace: patch is all there is (its nulls count as absent). */
static int next_section(json_t *now, json_t *patch, bool replace, size_t max, const char *name, json_t **ret_next,
			struct hub_error *err)
{
	json_t *next = now && !replace ? json_deep_copy(now) : json_object();
	char reason[160];

	if (!next)
		return -ENOMEM;
	if (hf_twin_check_patch(patch, 0, reason, sizeof reason) != 0) {
		json_decref(next);
		return BAD(err, "%s: %s", name, reason);
	}
	if (json_dumpb(patch, NULL, 0, JSON_COMPACT) > PATCH_MAX(max)) {
		json_decref(next);
		return hub_refuse(err, HF_ELIMIT, 413, 413001, "MessageTooLarge", "the patch of %s is over %zu bytes", name, PATCH_MAX(max));
	}
	if (hf_twin_merge(next, patch) != 0) {
		json_decref(next);
		return -ENOMEM;
	}
	if (json_dumpb(next, NULL, 0, JSON_COMPACT) > max) {
		json_decref(next);
		return hub_refuse(err, HF_ELIMIT, 413, 413001, "MessageTooLarge", "%s would be over %zu bytes", name, max);
	}
	*ret_next = next;
	return 0;
}

/* Adds null to `patch`, the new state, for every member of `from` that it lacks: who merges it must end where the hub is.
 * That is below PATCH_MAX(MAX_SECTION): a null takes at most half as much again as the member it stands for. */
static int add_removed(json_t *patch, const json_t *from)
{
	const char *key;
	json_t *v;
	int r = 0;

	json_object_foreach((json_t *)from, key, v) {
		json_t *now = json_object_get(patch, key);

		if (!now)
			r |= json_object_set_new(patch, key, json_null());
		else if (json_is_object(now) && json_is_object(v))
			r |= add_removed(now, v);
	}
	return r ? -ENOMEM : 0;
}

static bool has_null(const json_t *o)
{
	const char *key;
	json_t *v;

	json_object_foreach((json_t *)o, key, v)
		if (json_is_null(v) || (json_is_object(v) && has_null(v)))
			return true;
	return false;
}

struct change {
	json_t *tags, *desired;			/* next states, NULL = unchanged */
	json_t *patch, *desired_meta;
};

static void change_fini(struct change *c)
{
	json_decref(c->tags);
	json_decref(c->desired);
	json_decref(c->patch);
	json_decref(c->desired_meta);
}

static int prepare(const struct hub_twin *t, const json_t *doc, bool replace, struct change *c, struct hub_error *err)
{
	json_t *tags = json_object_get(doc, "tags"), *props = json_object_get(doc, "properties");
	json_t *desired = json_object_get(props, "desired"), *clean;
	char now[32];
	int r = 0;

	if (!json_is_object(doc) || (tags && !json_is_object(tags) && !json_is_null(tags)) ||
	    (props && !json_is_object(props) && !json_is_null(props)) ||
	    (desired && !json_is_object(desired) && !json_is_null(desired)))
		return BAD(err, "a twin, its tags, properties and properties.desired must be objects");
	if (replace && has_null(tags))
		return BAD(err, "tags that replace others cannot hold null");
	if (tags) {
		clean = json_is_null(tags) ? json_object() : without_dollar(tags);
		r = clean ? next_section(t->tags, clean, replace || json_is_null(tags), MAX_TAGS, "tags", &c->tags, err)
			  : -ENOMEM;
		json_decref(clean);
	}
	if (r != 0 || !desired)
		return r;
	if (json_is_null(desired))
		replace = true;
	clean = json_is_null(desired) ? json_object() : without_dollar(desired);
	r = clean ? next_section(t->desired, clean, replace, MAX_SECTION, "properties.desired", &c->desired, err) : -ENOMEM;
	if (r == 0) {
		hf_iso8601(hf_clock_wall_ms(), now);
		c->patch = replace ? json_deep_copy(c->desired) : json_incref(clean);
		c->desired_meta = replace || !t->desired_meta ? json_object() : json_deep_copy(t->desired_meta);
		if (!c->patch || !c->desired_meta)
			r = -ENOMEM;
		if (r == 0)
			r = meta_stamp(c->desired_meta, c->patch, now, t->desired_version + 1);
		if (r == 0 && replace)
			r = add_removed(c->patch, t->desired);
		if (r == 0 && json_object_set_new(c->patch, "$version", json_integer(t->desired_version + 1)) != 0)
			r = -ENOMEM;
	}
	json_decref(clean);
	return r;
}

int hub_twin_check(const struct hub_ident *ident, const json_t *patch, bool replace, struct hub_error *err)
{
	static const struct hub_twin none;
	struct change c = { 0 };
	int r;

	hub_error_default(err);
	r = prepare(ident ? &hf_container_of(ident, struct hub_entry, ident)->twin : &none, patch, replace, &c, err);
	change_fini(&c);
	return r;
}

bool hub_twin_has_desired(const struct hub_ident *ident, const json_t *desired)
{
	const struct hub_twin *t = &hf_container_of(ident, struct hub_entry, ident)->twin;
	json_t *clean = without_dollar(desired), *next = json_object();
	bool yes = clean && next && hf_twin_merge(next, clean) == 0 && json_equal(t->desired, next);

	json_decref(clean);
	json_decref(next);
	return yes;
}

int hub_twin_update(struct hub_model *m, const struct hub_ident *ident, const json_t *patch, bool replace,
		    const char *if_match, json_t **ret_doc, struct hub_error *err)
{
	struct hub_entry *e = hub_entry_find(m, hf_span_str(ident->id));
	hf_autobuf struct hf_buf etag = HF_BUF_INIT(64);
	struct change c = { 0 };
	int r;

	hub_error_default(err);
	if (!e)
		return hub_refuse(err, HF_ENOTFOUND, 404, 404001, "DeviceNotFound", "no such twin");
	etag_text(e->twin.etag, &etag);
	if (if_match && !hub_etag_fits(if_match, hf_buf_cstr(&etag)))
		return hub_refuse(err, HF_ESTALE, 412, 412001, "PreconditionFailed", "the twin etag of %s is %s",
				  e->ident.id, hf_buf_cstr(&etag));
	r = prepare(&e->twin, patch, replace, &c, err);
	if (r == 0 && (c.tags || c.desired)) {
		if (c.tags) {
			json_decref(e->twin.tags);
			e->twin.tags = hf_take(c.tags);
		}
		if (c.desired) {
			json_decref(e->twin.desired);
			json_decref(e->twin.desired_meta);
			e->twin.desired = hf_take(c.desired);
			e->twin.desired_meta = hf_take(c.desired_meta);
			e->twin.desired_version++;
			hub_note(m, HUB_NOTE_DESIRED, e->ident.id, hf_take(c.patch), e->twin.desired_version);
		}
		e->twin.version++;
		e->twin.etag = ++m->twin_etag;
		hub_dirty_twin(m, e->ident.id);
	}
	change_fini(&c);
	if (r == 0 && ret_doc && !(*ret_doc = hub_twin_doc(m, &e->ident)))
		r = -ENOMEM;
	return r;
}

int hub_twin_report(struct hub_model *m, const struct hub_ident *ident, const json_t *patch, size_t doc_len,
		    int64_t if_version, int64_t *ret_version, struct hub_error *err)
{
	struct hub_entry *e = hub_entry_find(m, hf_span_str(ident->id));
	json_t *next = NULL, *meta;
	char now[32];
	int r;

	hub_error_default(err);
	if (!e)
		return hub_refuse(err, HF_ENOTFOUND, 404, 404001, "DeviceNotFound", "no such twin");
	if (doc_len > MAX_SECTION)
		return hub_refuse(err, HF_ELIMIT, 413, 413001, "MessageTooLarge", "the patch is over %d bytes", MAX_SECTION);
	if (!json_is_object(patch))
		return BAD(err, "a reported patch must be a JSON object");
	if (if_version >= 0 && if_version != e->twin.reported_version)
		return hub_refuse(err, HF_ESTALE, 412, 412001, "PreconditionFailed", "reported is at version %lld",
				  (long long)e->twin.reported_version);
	r = next_section(e->twin.reported, (json_t *)patch, false, MAX_SECTION, "properties.reported", &next, err);
	if (r != 0)
		return r;
	hf_iso8601(hf_clock_wall_ms(), now);
	meta = json_deep_copy(e->twin.reported_meta);
	if (!meta || meta_stamp(meta, patch, now, -1) != 0) {
		json_decref(next);
		json_decref(meta);
		return -ENOMEM;
	}
	json_decref(e->twin.reported);
	json_decref(e->twin.reported_meta);
	e->twin.reported = next;
	e->twin.reported_meta = meta;
	e->twin.version++;
	*ret_version = ++e->twin.reported_version;
	e->ident.last_activity_ms = hf_clock_wall_ms();
	hub_dirty_twin(m, e->ident.id);
	return 0;
}
