/* SPDX-License-Identifier: GPL-3.0-or-later */
/* hub/jobs/configs_int.h - inside of the configurations: configs.c documents, config_apply.c effects, config_metrics.c counts. */
#pragma once
#include "hub/jobs/configs.h"
#include "hub/model/model_int.h"
#include "hub/query/query.h"

#define HUB_MAX_CONFIGS 100
#define HUB_MAX_METRICS 5	/* custom ones of a configuration */

enum hub_config_kind { HUB_CONFIG_DEVICE, HUB_CONFIG_MODULE, HUB_CONFIG_EDGE };
struct hub_config_metric {
	char *name, *text;
	struct hub_query *query;
	uint64_t result;
	bool is_system;
};
struct hub_config {
	char *id;
	uint64_t seq;			/* order of creation */
	enum hub_config_kind kind;
	json_t *doc;			/* id, schemaVersion, labels, content, targetCondition, priority, times, metrics.queries */
	const json_t *content;		/* within doc: of the kind */
	struct hub_query *target;	/* NULL = nobody */
	bool layered;
	json_int_t priority, version;	/* version: behind the etag */
	uint64_t n_targeted, n_applied;
	struct hub_config_metric metrics[HUB_MAX_METRICS + 2];
	unsigned n_metrics;
};
struct hub_configs {
	struct hub_model *m;
	struct hub_config *by_id[HUB_MAX_CONFIGS];	/* sorted */
	struct hub_config *order[HUB_MAX_CONFIGS];	/* the one to apply first */
	unsigned n;
	uint64_t last_seq;
	bool changed, unstored;		/* since the last commit; in one that failed: all are stored with the next */
	struct hf_task task;
	struct hf_timer *timer;
	/* Devices to weigh again: at once; later, because the hub itself changed them; all, behind sweep_pos. */
	struct hf_map *pending, *later;
	bool sweeping, applying;
	char sweep_pos[HF_ID_MAX + 1];
	/* Counting of metrics: which one, where, how many so far. */
	bool metrics_due, counting;
	unsigned count_config, count_metric;
	char count_pos[HF_IDENT_MAX + 1];
	uint64_t count;
};

/* configs.c */
struct hub_config *hub_config_find(const struct hub_configs *c, const char *id);
/* config_apply.c */
void hub_configs_wake(struct hub_configs *c);
void hub_configs_sweep(struct hub_configs *c);		/* weighs every device again */
void hub_configs_work(void *arg);			/* the task */
void hub_configs_later(void *arg);			/* the timer */
void hub_config_recount(struct hub_configs *c, struct hub_config *cfg);	/* n_targeted, n_applied from the twins */
/* config_metrics.c */
int hub_metrics_read(struct hub_config *cfg, const json_t *queries, struct hub_error *err);
void hub_metrics_free(struct hub_config *cfg);
int hub_metric_check(const char *text, struct hub_query **ret_q, char *reason, size_t cap);
bool hub_metrics_step(struct hub_configs *c);		/* true: there is more to count at once */
json_t *hub_metrics_doc(const struct hub_config *cfg, bool is_system, bool results);	/* {name: text or number} */
