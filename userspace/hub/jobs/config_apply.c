/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What configurations do to devices and modules. */
#include "core/log.h"
#include "core/metric.h"
#include "core/util.h"
#include "hub/jobs/configs_int.h"
#include "hub/model/content.h"
#include "hub/metrics.h"

#include <errno.h>
#include <holdfast/err.h>
#include <stdio.h>

#define SLICE_WORK 20000	/* steps of evaluation per turn */
#define COMPARE_WORK 40		/* what it costs, in such steps, to see whether content is there already */
#define CHANGE_WORK 100		/* and a changed twin */
#define LATER_MS 1000		/* between rounds that the hub's own changes, and counting, ask for */

void hub_configs_wake(struct hub_configs *c)
{
	if (!c->m->closing)
		hf_task_next_turn(c->m->loop, &c->task);
}

static void start_timer(struct hub_configs *c)
{
	if (!c->m->closing && !hf_timer_active(c->timer))
		hf_timer_start(c->timer, LATER_MS, 0);
}

void hub_configs_sweep(struct hub_configs *c)
{
	c->sweeping = true;
	c->sweep_pos[0] = '\0';
	c->metrics_due = true;
	start_timer(c);
	hub_configs_wake(c);
}

void hub_configs_touch(struct hub_configs *c, const char *id)
{
	struct hf_span rest = hf_span_str(id), device;

	if (c->n == 0 || c->m->closing)
		return;
	hf_span_cut(&rest, '/', &device);
	if (hf_map_put(c->applying ? c->later : c->pending, device, c) != 0) {
		hf_log(HF_LOG_ERR, "hub.config", "no memory to note the change of %s: all devices are weighed again", id);
		hub_configs_sweep(c);
	}
	c->metrics_due = true;
	start_timer(c);
	if (!c->applying)
		hub_configs_wake(c);
}

/* --- status --------------------------------------------------------------------------------------------------- */

static bool is_applied(const json_t *status)
{
	const char *text = json_string_value(json_object_get(status, "status"));

	return text && strcmp(text, "Applied") == 0;
}

/* A deployment counts devices, though their $edgeAgent shows it too. */
static void count(struct hub_configs *c, const struct hub_entry *e, int delta)
{
	const char *id;
	json_t *v;

	json_object_foreach(e->twin.configurations, id, v) {
		struct hub_config *cfg = hub_config_find(c, id);

		if (!cfg || (cfg->kind == HUB_CONFIG_MODULE) != (e->ident.module_id != NULL))
			continue;
		cfg->n_targeted += (uint64_t)delta;
		if (is_applied(v))
			cfg->n_applied += (uint64_t)delta;
	}
}

void hub_config_recount(struct hub_configs *c, struct hub_config *cfg)
{
	cfg->n_targeted = cfg->n_applied = 0;
	for (size_t i = 0; i < c->m->n_devices; i++) {
		const struct hub_entry *d = c->m->devices[i];

		for (size_t k = 0; k < (cfg->kind == HUB_CONFIG_MODULE ? d->n_modules : 1); k++) {
			const struct hub_entry *e = cfg->kind == HUB_CONFIG_MODULE ? d->modules[k] : d;
			const json_t *v = json_object_get(e->twin.configurations, cfg->id);

			cfg->n_targeted += v != NULL;
			cfg->n_applied += is_applied(v);
		}
	}
}

void hub_configs_removed(struct hub_configs *c, const struct hub_entry *e)
{
	count(c, e, -1);
}

/* status is taken. */
static void set_status(struct hub_configs *c, struct hub_entry *e, json_t *status)
{
	if (!status) {
		hf_log(HF_LOG_ERR, "hub.config", "no memory for the configurations of %s", e->ident.id);
		return;
	}
	if (json_equal(e->twin.configurations, status) || (!e->twin.configurations && json_object_size(status) == 0)) {
		json_decref(status);
		return;
	}
	count(c, e, -1);
	json_decref(e->twin.configurations);
	e->twin.configurations = status;
	count(c, e, 1);
	hub_dirty_twin(c->m, e->ident.id);
}

static int note_status(json_t *status, const struct hub_config *cfg, bool applied)
{
	return json_object_set_new(status, cfg->id, json_pack("{ss}", "status", applied ? "Applied" : "Targeted"));
}

/* --- effects -------------------------------------------------------------------------------------------------- */

static bool targets(struct hub_configs *c, const struct hub_config *cfg, const struct hub_entry *e)
{
	return cfg->target && hub_query_matches(c->m, cfg->target, &e->ident);
}

static bool succeeded(const struct hub_config *cfg, const struct hub_entry *e, int r, const struct hub_error *err)
{
	static struct hf_log_limit limit;

	if (r == 0)
		return true;
	hf_metric_add(HUB_M_CONFIGS_FAILED, 1);
	hf_log_limited(&limit, HF_LOG_WARN, "hub.config", "%s is not applied to %s: %s", cfg->id, e->ident.id, err->message);
	return false;
}

/* The first configuration of that kind that targets e sets its desired properties. */
static json_t *apply_first(struct hub_configs *c, struct hub_entry *e, enum hub_config_kind kind)
{
	json_t *status = json_object();
	bool found = false;
	int r = 0;

	for (unsigned i = 0; status && r == 0 && i < c->n; i++) {
		const struct hub_config *cfg = c->order[i];
		struct hub_error err;
		bool applied = false;

		if (cfg->kind != kind || !targets(c, cfg, e))
			continue;
		hub_error_default(&err);
		if (!found)
			applied = succeeded(cfg, e, hub_content_set(c->m, &e->ident, cfg->content, true, &err), &err);
		found = true;
		r = note_status(status, cfg, applied);
	}
	if (r != 0) {
		json_decref(status);
		return NULL;
	}
	return status;
}

/* Lays what one deployment says over what those below it say. */
static int lay(json_t *content, const json_t *layer)
{
	const char *module, *key;
	json_t *parts, *v, *below, *whole;
	int r = 0;

	json_object_foreach((json_t *)layer, module, parts) {
		below = json_object_get(content, module);
		if (!below || json_object_get(parts, HUB_CONTENT_SECTION)) {
			below = json_object();
			r |= json_object_set_new(content, module, below);
		}
		json_object_foreach(parts, key, v) {
			json_object_del(below, key);	/* what comes last is done last */
			r |= json_object_set(below, key, v);
		}
		if (r == 0 && json_object_get(below, HUB_CONTENT_SECTION)) {
			whole = hub_content_next(NULL, below);
			r |= json_object_clear(below);
			r |= json_object_set_new(below, HUB_CONTENT_SECTION, whole);
		}
	}
	return r ? -ENOMEM : 0;
}

struct stack {
	const struct hub_config *at[HUB_MAX_CONFIGS];	/* that target the device, the one to apply first in front */
	unsigned n, base;				/* base == n: none */
};

static int compose(const struct stack *s, json_t *content)
{
	int r = lay(content, s->at[s->base]->content);

	for (unsigned i = s->base; r == 0 && i > 0; i--)
		if (s->at[i - 1]->priority > s->at[s->base]->priority)
			r = lay(content, s->at[i - 1]->content);
	return r;
}

static int apply_edge(struct hub_configs *c, struct hub_entry *e, json_t *status)
{
	struct stack *s = calloc(1, sizeof *s);
	struct hub_error err;
	json_t *content = json_object();
	bool applied = false;
	int r = s && content ? 0 : -ENOMEM;

	for (unsigned i = 0; r == 0 && i < c->n; i++)
		if (c->order[i]->kind == HUB_CONFIG_EDGE && targets(c, c->order[i], e))
			s->at[s->n++] = c->order[i];
	while (r == 0 && s->base < s->n && s->at[s->base]->layered)
		s->base++;
	if (r == 0 && s->base < s->n) {
		hub_error_default(&err);
		r = compose(s, content);
		if (r == 0)
			applied = succeeded(s->at[s->base], e, hub_content_apply(c->m, &e->ident, content, true, &err), &err);
	}
	for (unsigned i = 0; r == 0 && i < s->n; i++)
		r = note_status(status, s->at[i], applied && (i == s->base || (i < s->base && s->at[i]->priority >
									       s->at[s->base]->priority)));
	json_decref(content);
	free(s);
	return r;
}

static void weigh(struct hub_configs *c, struct hub_entry *e)
{
	char id[HF_IDENT_MAX + 1];
	struct hub_entry *agent;
	json_t *status = apply_first(c, e, HUB_CONFIG_DEVICE), *edge = json_object();
	int r = status && edge ? 0 : -ENOMEM;

	if (r == 0 && e->ident.is_edge)
		r = apply_edge(c, e, edge);
	if (r == 0)
		r = json_object_update(status, edge);
	set_status(c, e, r == 0 ? json_incref(status) : NULL);
	json_decref(status);
	snprintf(id, sizeof id, "%s/$edgeAgent", e->ident.device_id);
	agent = hub_entry_find(c->m, hf_span_str(id));
	for (size_t i = 0; i < e->n_modules; i++) {
		status = apply_first(c, e->modules[i], HUB_CONFIG_MODULE);
		if (status && e->modules[i] == agent && json_object_update(status, edge) != 0) {
			json_decref(status);
			status = NULL;
		}
		set_status(c, e->modules[i], status);
	}
	json_decref(edge);
}

/* --- turns ---------------------------------------------------------------------------------------------------- */

static size_t steps_of_all(const struct hub_configs *c)
{
	size_t n = 1;

	for (unsigned i = 0; i < c->n; i++)
		n += 1 + (c->order[i]->target ? hub_query_steps(c->order[i]->target) : 0);
	return n;
}

static void weigh_device(struct hub_configs *c, struct hf_span device, size_t *io_work)
{
	struct hub_entry *e = hub_entry_find(c->m, device);
	size_t before = hf_map_count(c->m->dirty_twins);

	*io_work += 1;
	if (!e || e->ident.module_id)
		return;
	*io_work += (1 + e->n_modules) * steps_of_all(c);
	c->applying = true;
	weigh(c, e);
	c->applying = false;
	if (json_object_size(e->twin.configurations) || e->n_modules)
		*io_work += (1 + e->n_modules) * COMPARE_WORK;
	*io_work += (hf_map_count(c->m->dirty_twins) - before) * CHANGE_WORK;
}

void hub_configs_work(void *arg)
{
	struct hub_configs *c = arg;
	struct hf_span device;
	size_t pos = 0, work = 0;
	bool more;
	void *v;

	while (work < SLICE_WORK && hf_map_next(c->pending, &pos, &device, &v)) {
		hf_autofree char *id = hf_span_dup(device);

		hf_map_remove(c->pending, device);
		if (id)
			weigh_device(c, hf_span_str(id), &work);
		else
			hub_configs_sweep(c);
	}
	while (work < SLICE_WORK && c->sweeping) {
		const struct hub_ident *d = hub_device_next(c->m, *c->sweep_pos ? c->sweep_pos : NULL);

		c->sweeping = d != NULL;
		if (!d)
			break;
		snprintf(c->sweep_pos, sizeof c->sweep_pos, "%s", d->device_id);
		weigh_device(c, hf_span_str(c->sweep_pos), &work);
	}
	more = hub_metrics_step(c);
	if (more || c->sweeping || hf_map_count(c->pending))
		hub_configs_wake(c);
}

void hub_configs_later(void *arg)
{
	struct hub_configs *c = arg;
	struct hf_map *swap = c->pending;

	if (hf_map_count(c->pending) == 0) {	/* else the next round takes them */
		c->pending = c->later;
		c->later = swap;
	}
	if (c->metrics_due && !c->counting) {
		c->metrics_due = false;
		c->counting = true;
		c->count_config = c->count_metric = 0;
		c->count = 0;
		c->count_pos[0] = '\0';
	}
	if (c->metrics_due || hf_map_count(c->later))
		start_timer(c);
	hub_configs_wake(c);
}
