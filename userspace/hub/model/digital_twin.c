/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "hub/model/digital_twin.h"
#include "core/util.h"
#include "hub/model/model_int.h"
#include "twin/merge.h"

#include <errno.h>
#include <holdfast/err.h>
#include <stdio.h>

#define MAX_OPS 100
#define BAD(err, ...) hub_refuse(err, HF_EINVALID, 400, 400004, "ArgumentInvalid", __VA_ARGS__)

static bool is_component(const json_t *v)
{
	const char *mark = json_string_value(json_object_get(v, "__t"));

	return mark && strcmp(mark, "c") == 0;
}

static int copy_to(json_t *to, const char *to_name, const json_t *from, const char *name)
{
	json_t *v = json_object_get(from, name);

	return v ? json_object_set(to, to_name, v) : 0;
}

/* An acknowledgement of a writable property: value, ac, av, ad. */
static bool is_ack(const json_t *v)
{
	return json_object_get(v, "value") && json_is_integer(json_object_get(v, "ac"));
}

/* What is reported: values to out, what is known of them to meta. */
static int put_reported(json_t *out, json_t *meta, const json_t *reported, const json_t *times)
{
	const char *name;
	json_t *v;
	int r = 0;

	json_object_foreach((json_t *)reported, name, v) {
		json_t *m = json_object();

		if (is_component(v) || strcmp(name, "__t") == 0) {
			json_decref(m);
			continue;
		}
		r |= copy_to(m, "lastUpdateTime", json_object_get(times, name), "$lastUpdated");
		if (is_ack(v)) {
			r |= copy_to(m, "ackVersion", v, "av");
			r |= copy_to(m, "ackCode", v, "ac");
			r |= copy_to(m, "ackDescription", v, "ad");
			v = json_object_get(v, "value");
		}
		r |= json_object_set(out, name, v);
		r |= json_object_set_new(meta, name, m);
	}
	return r;
}

static int put_desired(json_t *meta, const json_t *desired, const json_t *times)
{
	const char *name;
	json_t *v;
	int r = 0;

	json_object_foreach((json_t *)desired, name, v) {
		const json_t *time = json_object_get(times, name);
		json_t *m = json_object_get(meta, name);

		if (is_component(v) || strcmp(name, "__t") == 0)
			continue;
		if (!m) {
			m = json_object();
			r |= json_object_set_new(meta, name, m);
			r |= copy_to(m, "lastUpdateTime", time, "$lastUpdated");
		}
		r |= json_object_set(m, "desiredValue", v);
		r |= copy_to(m, "desiredVersion", time, "$lastUpdatedVersion");
	}
	return r;
}

static json_t *part(const json_t *reported, const json_t *reported_times, const json_t *desired, const json_t *desired_times)
{
	json_t *out = json_object(), *meta = json_object();
	int r = put_reported(out, meta, reported, reported_times) | put_desired(meta, desired, desired_times);

	if (json_object_set_new(out, "$metadata", meta) != 0 || r != 0) {
		json_decref(out);
		return NULL;
	}
	return out;
}

json_t *hub_digital_twin_doc(struct hub_model *m, const struct hub_ident *device)
{
	const struct hub_entry *e = hf_container_of(device, struct hub_entry, ident);
	const struct hub_twin *t = &e->twin;
	const json_t *sides[] = { t->reported, t->desired };
	json_t *out = part(t->reported, t->reported_meta, t->desired, t->desired_meta), *v;
	const char *name;
	int r = out ? 0 : -1;

	(void)m;
	r |= json_object_set_new(out, "$dtId", json_string(device->device_id));
	r |= json_object_set_new(json_object_get(out, "$metadata"), "$model", json_string(e->model_id ? e->model_id : ""));
	for (unsigned side = 0; side < HF_ARRAY_LEN(sides); side++)
		json_object_foreach((json_t *)sides[side], name, v)
			if (is_component(v) && !json_object_get(out, name))
				r |= json_object_set_new(out, name, part(json_object_get(t->reported, name),
									 json_object_get(t->reported_meta, name),
									 json_object_get(t->desired, name),
									 json_object_get(t->desired_meta, name)));
	if (r != 0) {
		json_decref(out);
		return NULL;
	}
	return out;
}

/* --- changes -------------------------------------------------------------------------------------------------- */

/* One step of a JSON pointer, unescaped; NULL: bad, or no memory. */
static char *step(struct hf_span s)
{
	char *out = hf_span_dup(s), *to = out;

	for (const char *c = out; c && *c; c++) {
		if (*c == '~' && c[1] != '0' && c[1] != '1') {
			free(out);
			return NULL;
		}
		*to++ = *c != '~' ? *c : *++c == '0' ? '~' : '/';
	}
	if (to)
		*to = '\0';
	return out;
}

static json_t *without_metadata(const json_t *v)
{
	json_t *copy = json_deep_copy(v);

	json_object_del(copy, "$metadata");
	return copy;
}

/* The object that holds the member; made when it is missing, as a component unless it is known to be something else. */
static json_t *holder(json_t *next, const json_t *reported, const char *name, bool make)
{
	json_t *o = json_object_get(next, name);

	if (json_is_object(o) || !make)
		return o;
	if (json_is_object(json_object_get(reported, name)) && !is_component(json_object_get(reported, name)))
		o = json_object();
	else
		o = json_pack("{ss}", "__t", "c");
	return json_object_set_new(next, name, o) == 0 ? o : NULL;
}

static int apply(json_t *next, const json_t *reported, const json_t *op, struct hub_error *err)
{
	const char *verb = json_string_value(json_object_get(op, "op")), *path = json_string_value(json_object_get(op, "path"));
	json_t *value = json_object_get(op, "value"), *into = next, *v;
	bool remove = verb && strcmp(verb, "remove") == 0;
	struct hf_span rest, head;
	int r = 0;

	if (!verb || (!remove && strcmp(verb, "add") != 0 && strcmp(verb, "replace") != 0) || !path || path[0] != '/')
		return BAD(err, "an operation is add, replace or remove, with a path that starts with '/'");
	if (!remove && !value)
		return BAD(err, "%s without a value", verb);
	rest = hf_span_str(path + 1);
	while (r == 0) {
		bool more = hf_span_cut(&rest, '/', &head);
		hf_autofree char *name = step(head);

		if (!name || !*name || *name == '$')
			return BAD(err, "the path %.100s does not name a property", path);
		if (more) {
			into = holder(into, into == next ? reported : NULL, name, !remove);
			if (!into)
				return remove ? BAD(err, "there is nothing at %.100s", path) : -ENOMEM;
			continue;
		}
		if (remove)
			return json_object_del(into, name) ? BAD(err, "there is nothing at %.100s", path) : 0;
		v = without_metadata(value);
		if (into == next && json_object_get(value, "$metadata"))
			r = json_object_set_new(v, "__t", json_string("c"));	/* a whole component */
		return json_object_set_new(into, name, v) || r ? -ENOMEM : 0;
	}
	return r;
}

int hub_digital_twin_patch(struct hub_model *m, const struct hub_ident *device, const json_t *ops, const char *if_match,
			   struct hub_error *err)
{
	const struct hub_twin *t = &hf_container_of(device, struct hub_entry, ident)->twin;
	json_t *next, *patch, *op;
	size_t i;
	int r = 0;

	hub_error_default(err);
	if (!json_is_array(ops) || json_array_size(ops) == 0 || json_array_size(ops) > MAX_OPS)
		return BAD(err, "the body is a JSON Patch of 1 to %d operations", MAX_OPS);
	next = json_deep_copy(t->desired);
	if (!next)
		return -ENOMEM;
	json_array_foreach((json_t *)ops, i, op)
		if (r == 0)
			r = apply(next, t->reported, op, err);
	patch = r == 0 ? hf_twin_diff(t->desired, next, &r) : NULL;
	json_decref(next);
	if (r == 0 && (patch || if_match)) {	/* nothing to change: the etag counts all the same */
		json_t *doc = patch ? json_pack("{s{sO}}", "properties", "desired", patch) : json_object();

		r = doc ? hub_twin_update(m, device, doc, false, if_match, NULL, err) : -ENOMEM;
		json_decref(doc);
	}
	json_decref(patch);
	return r;
}
