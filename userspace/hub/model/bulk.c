/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "hub/model/bulk.h"
#include "core/util.h"
#include "hub/model/model_int.h"

#include <errno.h>
#include <holdfast/err.h>
#include <stdio.h>
#include <strings.h>

struct entry {
	const char *device, *module, *etag, *twin_etag;
	const struct hub_ident *now;
};

static const char *text_of(const json_t *o, const char *name)
{
	const char *s = json_string_value(json_object_get(o, name));

	return s && *s ? s : NULL;
}

static int invalid(struct hub_error *err, const char *text)
{
	return hub_refuse(err, HF_EINVALID, 400, 400004, "ArgumentInvalid", "%s", text);
}

/* What the entry says of the twin; *ret_patch NULL: nothing. */
static int twin_patch(const json_t *item, json_t **ret_patch)
{
	json_t *tags = json_object_get(item, "tags");
	json_t *desired = json_object_get(json_object_get(item, "properties"), "desired");

	*ret_patch = NULL;
	if (!tags && !desired)
		return 0;
	*ret_patch = json_pack("{sO* s{sO*}}", "tags", tags, "properties", "desired", desired);
	return *ret_patch ? 0 : -ENOMEM;
}

static int put_twin(struct hub_model *m, const struct entry *e, const json_t *patch, const char *if_match, struct hub_error *err)
{
	const struct hub_ident *i = hub_ident_lookup(m, e->device, e->module);

	if (!i)
		return hub_ident_delete(m, e->device, e->module, NULL, err);	/* says which one is missing */
	return patch ? hub_twin_update(m, i, patch, false, if_match, NULL, err) : 0;
}

/* The identity, then its twin; neither when the twin would be refused. */
static int put_both(struct hub_model *m, const struct entry *e, const json_t *item, const json_t *patch, const char *if_match,
		    struct hub_error *err)
{
	int r = patch ? hub_twin_check(e->now, patch, false, err) : 0;

	if (r == 0)
		r = hub_ident_put(m, e->device, e->module, item, if_match, NULL, err);
	return r ? r : put_twin(m, e, patch, NULL, err);
}

static int run_mode(struct hub_model *m, const struct entry *e, const char *mode, const json_t *item, const json_t *patch,
		    struct hub_error *err)
{
	const char *etag = e->etag ? e->etag : "";	/* "" fits none */

	if (strcasecmp(mode, "updateTwin") == 0)
		return put_twin(m, e, patch, NULL, err);
	if (strcasecmp(mode, "updateTwinIfMatchETag") == 0)
		return put_twin(m, e, patch, e->twin_etag ? e->twin_etag : "", err);
	if (strcasecmp(mode, "delete") == 0)
		return hub_ident_delete(m, e->device, e->module, NULL, err);
	if (strcasecmp(mode, "deleteIfMatchETag") == 0)
		return hub_ident_delete(m, e->device, e->module, etag, err);
	if (strcasecmp(mode, "create") == 0)
		return put_both(m, e, item, patch, NULL, err);
	if (strcasecmp(mode, "update") == 0)
		return put_both(m, e, item, patch, "*", err);
	if (strcasecmp(mode, "updateIfMatchETag") == 0)
		return put_both(m, e, item, patch, etag, err);
	if (strcasecmp(mode, "createOrUpdate") == 0)
		return put_both(m, e, item, patch, e->now ? "*" : NULL, err);
	if (strcasecmp(mode, "createOrUpdateIfMatchETag") == 0)
		return put_both(m, e, item, patch, e->now ? etag : NULL, err);
	return invalid(err, "unknown importMode");
}

int hub_bulk_entry(struct hub_model *m, const json_t *item, struct hub_error *err)
{
	struct entry e = { .device = text_of(item, "id"), .module = text_of(item, "moduleId"),
			   .etag = text_of(item, "eTag"), .twin_etag = text_of(item, "twinETag") };
	const char *mode = text_of(item, "importMode");
	json_t *patch;
	int r;

	hub_error_default(err);
	if (!e.device)
		return invalid(err, "an entry needs an id");
	if (!e.etag)
		e.etag = text_of(item, "etag");
	e.now = hub_ident_lookup(m, e.device, e.module);
	r = twin_patch(item, &patch);
	if (r == 0)
		r = run_mode(m, &e, mode ? mode : "createOrUpdate", item, patch, err);
	json_decref(patch);
	return r;
}
