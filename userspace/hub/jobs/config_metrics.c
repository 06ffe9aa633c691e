/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Metrics of configurations: how many rows a query has, counted some rows per turn, again after changes. */
#include "core/util.h"
#include "hub/jobs/configs_int.h"

#include <errno.h>
#include <holdfast/err.h>
#include <stdio.h>

#define SLICE_WORK 20000	/* steps of evaluation, of one metric per turn */

int hub_metric_check(const char *text, struct hub_query **ret_q, char *reason, size_t cap)
{
	int r = hub_query_parse(hf_span_str(text), ret_q, reason, cap);

	if (r == 0 && (hub_query_from(*ret_q) == HUB_FROM_JOBS || !hub_query_counts_rows(*ret_q))) {
		snprintf(reason, cap, "a metric counts rows of devices or devices.modules, without aggregates and TOP");
		hub_query_destroy(ret_q);
		return HF_EINVALID;
	}
	return r;
}

void hub_metrics_free(struct hub_config *cfg)
{
	for (unsigned i = 0; i < cfg->n_metrics; i++) {
		free(cfg->metrics[i].name);
		free(cfg->metrics[i].text);
		hub_query_destroy(&cfg->metrics[i].query);
	}
	cfg->n_metrics = 0;
}

static int add(struct hub_config *cfg, const char *name, const char *text, bool is_system, struct hub_error *err)
{
	struct hub_config_metric *metric = &cfg->metrics[cfg->n_metrics];
	char reason[192];
	int r = hub_metric_check(text, &metric->query, reason, sizeof reason);

	if (r == HF_EINVALID)
		return hub_refuse(err, r, 400, 400004, "ArgumentInvalid", "metric %.64s: %s", name, reason);
	if (r != 0)
		return r;
	metric->is_system = is_system;
	metric->name = strdup(name);
	metric->text = strdup(text);
	cfg->n_metrics++;
	return metric->name && metric->text ? 0 : -ENOMEM;
}

static int add_reported(struct hub_config *cfg, const char *name, const char *sign)
{
	hf_autobuf struct hf_buf text = HF_BUF_INIT(1024);

	hf_buf_printf(&text, "select deviceId from devices.modules where moduleId = '$edgeAgent' and configurations.[[%s]].status = "
			     "'Applied' and properties.desired.$version = properties.reported.lastDesiredVersion and "
			     "properties.reported.lastDesiredStatus.code %s 200", cfg->id, sign);
	return text.err ? -ENOMEM : add(cfg, name, hf_buf_cstr(&text), true, NULL);
}

int hub_metrics_read(struct hub_config *cfg, const json_t *queries, struct hub_error *err)
{
	const char *name;
	json_t *text;
	int r = 0;

	if (queries && !json_is_null(queries) && (!json_is_object(queries) || json_object_size(queries) > HUB_MAX_METRICS))
		return hub_refuse(err, HF_EINVALID, 400, 400004, "ArgumentInvalid", "metrics.queries is an object of at most %d",
				  HUB_MAX_METRICS);
	json_object_foreach((json_t *)queries, name, text) {
		if (r == 0 && !json_is_string(text))
			r = hub_refuse(err, HF_EINVALID, 400, 400004, "ArgumentInvalid", "metric %.64s is not a text", name);
		if (r == 0)
			r = add(cfg, name, json_string_value(text), false, err);
	}
	if (r == 0 && cfg->kind == HUB_CONFIG_EDGE)
		r = add_reported(cfg, "reportedSuccessfulCount", "=");
	if (r == 0 && cfg->kind == HUB_CONFIG_EDGE)
		r = add_reported(cfg, "reportedFailedCount", "!=");
	return r;
}

json_t *hub_metrics_doc(const struct hub_config *cfg, bool is_system, bool results)
{
	json_t *o = json_object();

	for (unsigned i = 0; o && i < cfg->n_metrics; i++) {
		const struct hub_config_metric *metric = &cfg->metrics[i];

		if (metric->is_system == is_system &&
		    json_object_set_new(o, metric->name, results ? json_integer((json_int_t)metric->result) :
								   json_string(metric->text)) != 0) {
			json_decref(o);
			return NULL;
		}
	}
	return o;
}

bool hub_metrics_step(struct hub_configs *c)
{
	while (c->counting) {
		struct hub_config *cfg = c->count_config < c->n ? c->by_id[c->count_config] : NULL;
		struct hub_config_metric *metric = cfg && c->count_metric < cfg->n_metrics ? &cfg->metrics[c->count_metric] : NULL;
		unsigned visits;

		if (!cfg) {
			c->counting = false;
		} else if (!metric) {
			c->count_config++;
			c->count_metric = 0;
		} else {
			visits = hub_query_visits(metric->query, SLICE_WORK);
			while (hub_query_next(c->m, metric->query, c->count_pos, &visits))
				c->count++;
			if (visits) {
				metric->result = c->count;
				c->count = 0;
				c->count_pos[0] = '\0';
				c->count_metric++;
			}
			return true;
		}
	}
	return false;
}
