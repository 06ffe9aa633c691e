/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Documents of configurations: taken, checked, stored, shown. */
#include "hub/jobs/configs.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/util.h"
#include "hub/jobs/configs_int.h"
#include "hub/model/content.h"

#include <ctype.h>
#include <errno.h>
#include <holdfast/err.h>
#include <stdio.h>

#define MAX_LABELS 32
#define MAX_DOC (128 * 1024)
#define BAD(err, ...) hub_refuse(err, HF_EINVALID, 400, 400004, "ArgumentInvalid", __VA_ARGS__)

static const char *const kinds[] = { "deviceContent", "moduleContent", "modulesContent" };

static bool id_ok(const char *id)
{
	size_t n = strlen(id);

	for (const char *c = id; *c; c++)
		if (!islower((unsigned char)*c) && !isdigit((unsigned char)*c) && !strchr("-+%_*!'.:", *c))
			return false;
	return n > 0 && n <= HF_ID_MAX;
}

static unsigned position(const struct hub_configs *c, const char *id)
{
	unsigned at = 0;

	while (at < c->n && strcmp(c->by_id[at]->id, id) < 0)
		at++;
	return at;
}

struct hub_config *hub_config_find(const struct hub_configs *c, const char *id)
{
	unsigned at = position(c, id);

	return at < c->n && strcmp(c->by_id[at]->id, id) == 0 ? c->by_id[at] : NULL;
}

static void config_free(struct hub_config *cfg)
{
	hub_metrics_free(cfg);
	hub_query_destroy(&cfg->target);
	json_decref(cfg->doc);
	free(cfg->id);
	free(cfg);
}

/* Applied first: the highest priority, of equals the latest. */
static bool comes_before(const struct hub_config *a, const struct hub_config *b)
{
	return a->priority != b->priority ? a->priority > b->priority : a->seq > b->seq;
}

static void add(struct hub_configs *c, struct hub_config *cfg)
{
	unsigned at = position(c, cfg->id), first = 0;

	memmove(&c->by_id[at + 1], &c->by_id[at], (c->n - at) * sizeof(struct hub_config *));
	c->by_id[at] = cfg;
	while (first < c->n && comes_before(c->order[first], cfg))
		first++;
	memmove(&c->order[first + 1], &c->order[first], (c->n - first) * sizeof(struct hub_config *));
	c->order[first] = cfg;
	c->n++;
	c->last_seq = hf_max(c->last_seq, cfg->seq);
	c->counting = false;		/* positions have moved */
}

static void take_out(struct hub_configs *c, struct hub_config *cfg)
{
	unsigned at = position(c, cfg->id), first = 0;

	while (c->order[first] != cfg)
		first++;
	c->n--;
	memmove(&c->by_id[at], &c->by_id[at + 1], (c->n - at) * sizeof(struct hub_config *));
	memmove(&c->order[first], &c->order[first + 1], (c->n - first) * sizeof(struct hub_config *));
	c->counting = false;
}

/* --- reading -------------------------------------------------------------------------------------------------- */

/* One of the three contents may say something; the kind is that one's, else that of the one which is there. */
static int read_content(struct hub_config *cfg, const json_t *content, struct hub_error *err)
{
	const char *why = NULL;
	unsigned n = 0;

	if (content && !json_is_null(content) && !json_is_object(content))
		return BAD(err, "content must be an object");
	cfg->kind = HUB_CONFIG_DEVICE;
	for (unsigned i = 0; i < HF_ARRAY_LEN(kinds); i++) {
		const json_t *v = json_object_get(content, kinds[i]);

		if (v && !json_is_null(v) && !json_is_object(v))
			return BAD(err, "%s must be an object", kinds[i]);
		if (json_object_size(v) || (json_is_object(v) && n == 0))
			cfg->kind = (enum hub_config_kind)i;
		n += json_object_size(v) > 0;
	}
	cfg->content = json_object_get(content, kinds[cfg->kind]);
	if (n > 1)
		return BAD(err, "content says either deviceContent, moduleContent or modulesContent");
	if (n && cfg->kind == HUB_CONFIG_EDGE)
		why = hub_content_check_modules(cfg->content);
	else if (n)
		why = hub_content_check_parts(cfg->content);
	if (why)
		return BAD(err, "%s: %s", kinds[cfg->kind], why);
	cfg->layered = cfg->kind == HUB_CONFIG_EDGE &&
		       !json_object_get(json_object_get(cfg->content, "$edgeAgent"), HUB_CONTENT_SECTION);
	return 0;
}

/* ret_q NULL on 0: nobody is meant. */
static int read_target(const char *text, bool modules, struct hub_query **ret_q, char *reason, size_t cap)
{
	int r;

	*ret_q = NULL;
	if (!*text)
		return 0;
	r = hub_query_parse_condition(hf_span_str(text), ret_q, reason, cap);
	if (r == 0 && (hub_query_from(*ret_q) == HUB_FROM_MODULES) != modules) {
		snprintf(reason, cap, modules ? "it must say FROM devices.modules" : "it must be about devices");
		hub_query_destroy(ret_q);
		r = HF_EINVALID;
	}
	return r;
}

static int read_labels(const json_t *labels, struct hub_error *err)
{
	const char *name;
	json_t *v;

	if (labels && !json_is_null(labels) && (!json_is_object(labels) || json_object_size(labels) > MAX_LABELS))
		return BAD(err, "labels must be an object of at most %d texts", MAX_LABELS);
	json_object_foreach((json_t *)labels, name, v)
		if (!json_is_string(v))
			return BAD(err, "label %.64s is not a text", name);
	return 0;
}

/* Everything of a document or a record but its times, number and version. */
static int read_doc(struct hub_config *cfg, const json_t *doc, struct hub_error *err)
{
	json_t *target = json_object_get(doc, "targetCondition"), *priority = json_object_get(doc, "priority");
	json_t *labels = json_object_get(doc, "labels"), *content = json_object_get(doc, "content");
	json_t *schema = json_object_get(doc, "schemaVersion"), *queries;
	const char *text = json_is_string(target) ? json_string_value(target) : "";
	char reason[192];
	int r = read_labels(labels, err);

	if (r == 0)
		r = read_content(cfg, content, err);
	if (r != 0)
		return r;
	if ((target && !json_is_null(target) && !json_is_string(target)) ||
	    (priority && !json_is_null(priority) && (!json_is_integer(priority) || json_integer_value(priority) < 0)))
		return BAD(err, "targetCondition must be a text, priority a number from 0 on");
	r = read_target(text, cfg->kind == HUB_CONFIG_MODULE, &cfg->target, reason, sizeof reason);
	if (r != 0)
		return r == HF_EINVALID ? BAD(err, "targetCondition: %s", reason) : r;
	cfg->priority = json_integer_value(priority);
	queries = json_object_get(json_object_get(doc, "metrics"), "queries");
	r = hub_metrics_read(cfg, queries, err);
	if (r != 0)
		return r;
	cfg->doc = json_pack("{ss sO? so so ss sI so}", "id", cfg->id, "schemaVersion", json_is_string(schema) ? schema : NULL,
			     "labels", json_is_object(labels) ? json_incref(labels) : json_null(), "content",
			     json_is_object(content) ? json_deep_copy(content) : json_object(), "targetCondition", text, "priority",
			     cfg->priority, "queries", json_is_object(queries) ? json_incref(queries) : json_object());
	if (!cfg->doc)
		return -ENOMEM;
	cfg->content = json_object_get(json_object_get(cfg->doc, "content"), kinds[cfg->kind]);
	return json_dumpb(cfg->doc, NULL, 0, JSON_COMPACT) <= MAX_DOC ? 0 : BAD(err, "the configuration is over %d bytes", MAX_DOC);
}

/* --- records and documents -------------------------------------------------------------------------------------- */

static int put_record(struct hf_txn *txn, const struct hub_config *cfg)
{
	json_t *o = json_copy(cfg->doc);
	char *text = NULL;
	int r = o ? json_object_set_new(o, "seq", json_integer((json_int_t)cfg->seq)) : -1;

	if (r == 0)
		r = json_object_set_new(o, "version", json_integer(cfg->version));
	if (r == 0)
		text = json_dumps(o, JSON_COMPACT);
	json_decref(o);
	r = text ? hf_txn_put(txn, HUB_T_CONFIG, hf_span_str(cfg->id), hf_span_str(text)) : -ENOMEM;
	free(text);
	return r;
}

static int store(struct hub_configs *c, const struct hub_config *cfg)
{
	struct hf_txn *txn;
	int r = hub_state_txn(c->m, &txn);

	c->changed = true;
	return r == 0 ? put_record(txn, cfg) : r;
}

int hub_configs_write(struct hub_configs *c, struct hf_txn *txn)
{
	int r = c->unstored ? hf_txn_clear(txn, HUB_T_CONFIG) : 0;

	for (unsigned i = 0; r == 0 && c->unstored && i < c->n; i++)
		r = put_record(txn, c->by_id[i]);
	return r;
}

void hub_configs_written(struct hub_configs *c, int err)
{
	c->unstored = err != 0 && (c->unstored || c->changed);
	c->changed = false;
}

bool hub_configs_unstored(const struct hub_configs *c)
{
	return c->unstored;
}

static struct hub_config *config_new(const char *id)
{
	struct hub_config *cfg = calloc(1, sizeof *cfg);

	if (cfg && !(cfg->id = strdup(id))) {
		free(cfg);
		cfg = NULL;
	}
	return cfg;
}

static int load_one(struct hub_configs *c, struct hf_span key, struct hf_span value)
{
	json_t *o = json_loadb((const char *)value.ptr, value.len, 0, NULL), *metrics = NULL;
	hf_autofree char *id = hf_span_dup(key);
	struct hub_config *cfg = id ? config_new(id) : NULL;
	json_int_t seq;
	json_t *created, *updated;
	int r = !cfg ? -ENOMEM : json_unpack(o, "{sI so so}", "seq", &seq, "createdTimeUtc", &created, "lastUpdatedTimeUtc",
					     &updated) != 0 || c->n == HUB_MAX_CONFIGS ? HF_ECORRUPT : 0;

	if (r == 0) {
		metrics = json_pack("{sO*}", "queries", json_object_get(o, "queries"));
		r = json_object_set_new(o, "metrics", metrics) ? -ENOMEM : read_doc(cfg, o, NULL);
	}
	if (r == 0 && (json_object_set(cfg->doc, "createdTimeUtc", created) || json_object_set(cfg->doc, "lastUpdatedTimeUtc", updated)))
		r = -ENOMEM;
	if (r == 0) {
		cfg->seq = (uint64_t)seq;
		cfg->version = json_integer_value(json_object_get(o, "version"));
		add(c, cfg);
		hub_config_recount(c, cfg);
	} else if (cfg) {
		config_free(cfg);
	}
	json_decref(o);
	return r;
}

static int load_record(void *arg, struct hf_span key, struct hf_span value)
{
	int r = load_one(arg, key, value);

	if (r != 0)
		hf_log(HF_LOG_ERR, "hub.load", "configuration %.*s: %s", (int)key.len, (const char *)key.ptr, hf_strerror(r));
	return r;
}

int hub_configs_load(struct hub_configs *c)
{
	int r = hf_db_each(c->m->state, HUB_T_CONFIG, load_record, c);

	hub_configs_sweep(c);		/* what was left undone; a status whose configuration is gone */
	return r;
}

static json_t *etag_of(const struct hub_config *cfg)
{
	hf_autobuf struct hf_buf b = HF_BUF_INIT(64);
	char text[24];

	snprintf(text, sizeof text, "%lld", (long long)cfg->version);
	hf_b64_encode(hf_span_str(text), &b);
	return b.err ? NULL : json_string(hf_buf_cstr(&b));
}

static json_t *target_query(const struct hub_config *cfg)
{
	const char *text = json_string_value(json_object_get(cfg->doc, "targetCondition"));
	const char *fields = cfg->kind == HUB_CONFIG_MODULE ? "deviceId, moduleId" : "deviceId";

	if (cfg->kind == HUB_CONFIG_MODULE)
		return json_sprintf("select %s %s", fields, text);
	if (strcmp(text, "*") == 0)
		return json_sprintf("select %s from devices%s", fields,
				    cfg->kind == HUB_CONFIG_EDGE ? " where capabilities.iotEdge = true" : "");
	return json_sprintf("select %s from devices where %s%s", fields,
			    cfg->kind == HUB_CONFIG_EDGE ? "capabilities.iotEdge = true and " : "", text);
}

static json_t *applied_query(const struct hub_config *cfg)
{
	return json_sprintf("select deviceId%s configurations.[[%s]].status = 'Applied'",
			    cfg->kind == HUB_CONFIG_MODULE ? ", moduleId from devices.modules where" :
			    cfg->kind == HUB_CONFIG_EDGE ? " from devices.modules where moduleId = '$edgeAgent' and" :
							   " from devices where", cfg->id);
}

static json_t *doc_of(const struct hub_config *cfg)
{
	json_t *results = hub_metrics_doc(cfg, true, true), *queries = hub_metrics_doc(cfg, true, false);
	json_t *o = json_copy(cfg->doc);
	int r = o ? 0 : -1;

	r |= json_object_set_new(results, "targetedCount", json_integer((json_int_t)cfg->n_targeted));
	r |= json_object_set_new(results, "appliedCount", json_integer((json_int_t)cfg->n_applied));
	if (cfg->target) {
		r |= json_object_set_new(queries, "targetedCount", target_query(cfg));
		r |= json_object_set_new(queries, "appliedCount", applied_query(cfg));
	}
	if (r == 0) {
		json_object_del(o, "queries");
		r |= json_object_set_new(o, "systemMetrics", json_pack("{sO sO}", "results", results, "queries", queries));
		r |= json_object_set_new(o, "metrics", json_pack("{so so}", "results", hub_metrics_doc(cfg, false, true), "queries",
								 hub_metrics_doc(cfg, false, false)));
		r |= json_object_set_new(o, "etag", etag_of(cfg));
	}
	json_decref(results);
	json_decref(queries);
	if (r != 0) {
		json_decref(o);
		return NULL;
	}
	return o;
}

json_t *hub_config_doc(struct hub_model *m, const char *id)
{
	const struct hub_config *cfg = hub_config_find(m->configs, id);

	return cfg ? doc_of(cfg) : NULL;
}

const char *hub_config_next(struct hub_model *m, const char *after)
{
	unsigned at = after ? position(m->configs, after) : 0;

	if (after && at < m->configs->n && strcmp(m->configs->by_id[at]->id, after) == 0)
		at++;
	return at < m->configs->n ? m->configs->by_id[at]->id : NULL;
}

/* --- changes ---------------------------------------------------------------------------------------------------- */

static int missing(const char *id, struct hub_error *err)
{
	return hub_refuse(err, HF_ENOTFOUND, 404, 404301, "ConfigurationNotFound", "Configuration %.128s not found", id);
}

static int check_etag(const struct hub_config *cfg, const char *if_match, struct hub_error *err)
{
	json_t *etag = etag_of(cfg);
	int r = !etag ? -ENOMEM : hub_etag_fits(if_match, json_string_value(etag)) ? 0 :
		hub_refuse(err, HF_ESTALE, 412, 412001, "PreconditionFailed", "the etag of %s is %s", cfg->id, json_string_value(etag));

	json_decref(etag);
	return r;
}

/* The next state of old, or of a new one. */
static int prepare(struct hub_configs *c, const struct hub_config *old, struct hub_config *cfg, const json_t *doc,
		   struct hub_error *err)
{
	json_t *whole = json_copy((json_t *)doc), *content = json_object_get(doc, "content");
	char now[32];
	int r = whole ? 0 : -ENOMEM;

	hf_iso8601(hf_clock_wall_ms(), now);
	if (r == 0 && old && (!content || json_is_null(content)))
		r = json_object_set(whole, "content", json_object_get(old->doc, "content")) ? -ENOMEM : 0;
	if (r == 0)
		r = read_doc(cfg, whole, err);
	json_decref(whole);
	if (r == 0 && old && !json_equal(json_object_get(old->doc, "content"), json_object_get(cfg->doc, "content")))
		r = BAD(err, "the content of a configuration cannot be changed");
	if (r != 0)
		return r;
	cfg->seq = old ? old->seq : c->last_seq + 1;
	cfg->version = old ? old->version + 1 : 1;
	r = json_object_set_new(cfg->doc, "lastUpdatedTimeUtc", json_string(now));
	r |= json_object_set(cfg->doc, "createdTimeUtc", json_object_get((old ? old : cfg)->doc, old ? "createdTimeUtc" : "lastUpdatedTimeUtc"));
	return r ? -ENOMEM : 0;
}

int hub_config_put(struct hub_model *m, const char *id, const json_t *doc, const char *if_match, json_t **ret_doc,
		   struct hub_error *err)
{
	const json_t *named = json_object_get(doc, "id");
	struct hub_configs *c = m->configs;
	struct hub_config *old = hub_config_find(c, id), *cfg;
	int r = 0;

	hub_error_default(err);
	if (!json_is_object(doc) || !id_ok(id) || (json_is_string(named) && strcmp(json_string_value(named), id) != 0))
		return BAD(err, "a configuration is an object; its id is that of the path: lower-case letters, digits, -+%%_*!'.:");
	if (old && !if_match)
		return hub_refuse(err, HF_EEXISTS, 409, 409302, "ConfigurationAlreadyExists", "Configuration %s exists already.", id);
	if (!old && if_match)
		return missing(id, err);
	if (old)
		r = check_etag(old, if_match, err);
	if (r == 0 && !old && c->n == HUB_MAX_CONFIGS)
		r = hub_refuse(err, HF_ELIMIT, 403, 403002, "IotHubQuotaExceeded", "there are %d configurations already", HUB_MAX_CONFIGS);
	if (r != 0)
		return r;
	cfg = config_new(id);
	r = cfg ? prepare(c, old, cfg, doc, err) : -ENOMEM;
	if (r == 0)
		r = store(c, cfg);
	if (r != 0) {
		if (cfg)
			config_free(cfg);
		return r;
	}
	if (old) {
		take_out(c, old);
		config_free(old);
	}
	add(c, cfg);
	hub_config_recount(c, cfg);	/* twins may still show one of that name */
	hub_configs_sweep(c);
	*ret_doc = doc_of(cfg);
	return *ret_doc ? 0 : -ENOMEM;
}

int hub_config_delete(struct hub_model *m, const char *id, const char *if_match, struct hub_error *err)
{
	struct hub_config *cfg = hub_config_find(m->configs, id);
	struct hf_txn *txn;
	int r;

	hub_error_default(err);
	if (!cfg)
		return missing(id, err);
	r = if_match ? check_etag(cfg, if_match, err) : 0;
	if (r == 0)
		r = hub_state_txn(m, &txn);
	if (r == 0)
		r = hf_txn_del(txn, HUB_T_CONFIG, hf_span_str(id));
	if (r != 0)
		return r;
	m->configs->changed = true;
	take_out(m->configs, cfg);
	config_free(cfg);
	hub_configs_sweep(m->configs);
	return 0;
}

json_t *hub_config_test(const json_t *request)
{
	const json_t *target = json_object_get(request, "targetCondition"), *queries = json_object_get(request, "customMetricQueries");
	json_t *errors = json_object(), *v;
	struct hub_query *q = NULL;
	char reason[192] = "", wrong[192];
	const char *name;

	if (target && !json_is_null(target) && !json_is_string(target))
		snprintf(reason, sizeof reason, "it must be a text");
	else if (json_is_string(target) && hub_query_parse_condition(hf_span_str(json_string_value(target)), &q, reason, sizeof reason) == 0)
		hub_query_destroy(&q);
	json_object_foreach((json_t *)queries, name, v) {
		snprintf(wrong, sizeof wrong, "it must be a text");
		if (json_is_string(v) && hub_metric_check(json_string_value(v), &q, wrong, sizeof wrong) == 0)
			hub_query_destroy(&q);
		else if (json_object_set_new(errors, name, json_string(wrong)) != 0)
			break;
	}
	return json_pack("{ss? so}", "targetConditionError", *reason ? reason : NULL, "customMetricQueryErrors", errors);
}

int hub_configs_create(struct hub_model *m, struct hub_configs **ret_configs)
{
	struct hub_configs *c = calloc(1, sizeof *c);
	int r = c ? 0 : -ENOMEM;

	if (r != 0)
		return r;
	c->m = m;
	hf_task_init(&c->task, hub_configs_work, c);
	if (hf_map_create(&c->pending) || hf_map_create(&c->later))
		r = -ENOMEM;
	if (r == 0)
		r = hf_timer_create(m->loop, hub_configs_later, c, &c->timer);
	if (r != 0)
		hub_configs_destroy(&c);
	else
		*ret_configs = c;
	return r;
}

void hub_configs_destroy(struct hub_configs **pc)
{
	struct hub_configs *c = *pc;

	if (!c)
		return;
	*pc = NULL;
	hf_task_cancel(&c->task);
	hf_timer_destroy(&c->timer);
	for (unsigned i = 0; i < c->n; i++)
		config_free(c->by_id[i]);
	hf_map_destroy(&c->pending);
	hf_map_destroy(&c->later);
	free(c);
}
