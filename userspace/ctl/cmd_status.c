/* SPDX-License-Identifier: GPL-3.0-or-later */
/* status, counters, kern show, conf show, log level. */
#include "auth/clock.h"
#include "core/clock.h"
#include "core/list.h"
#include "core/log.h"
#include "core/util.h"
#include "ctl/ctl_int.h"
#include "gw/metrics.h"

struct status_call {
	struct hf_upstream_show show;
	struct hf_ctl *ctl;
	struct hf_ctl_call *call;
};

static void store_members(const struct hf_ctl *ctl, json_t *o)
{
	struct hf_store_gauges g;

	hf_store_gauges(ctl->cfg.store, &g);
	json_object_set_new(o, "pending", json_integer((json_int_t)g.pending));
	json_object_set_new(o, "pendingBytes", json_integer((json_int_t)g.pending_bytes));
	json_object_set_new(o, "accepted", json_integer((json_int_t)g.accepted));
	json_object_set_new(o, "delivered", json_integer((json_int_t)g.delivered));
	json_object_set_new(o, "expired", json_integer((json_int_t)g.expired));
	json_object_set_new(o, "evicted", json_integer((json_int_t)g.evicted));
	json_object_set_new(o, "refused", json_integer((json_int_t)g.refused));
	json_object_set_new(o, "purged", json_integer((json_int_t)g.purged));
	json_object_set_new(o, "store", json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I}", "state", g.failed ? "failed" : g.full ? "full" : "ok",
						  "usedBytes", (json_int_t)g.used_bytes, "maxBytes", (json_int_t)g.max_bytes,
						  "commits", (json_int_t)g.commits, "meanCommitUs",
						  (json_int_t)(g.commits ? g.commit_us_sum / g.commits : 0), "stateCommits",
						  (json_int_t)g.state_commits, "stateWrites", (json_int_t)g.state_writes));
}

/* By which time tokens and certificates are judged. */
static json_t *clock_json(const struct hf_auth_clock *clock)
{
	struct hf_clock_view v;
	char now[32], floor[32];

	hf_auth_clock_view(clock, &v);
	hf_iso8601(v.now_s * 1000, now);
	hf_iso8601(v.floor_s * 1000, floor);
	return json_pack("{s:s, s:s, s:s, s:s, s:I}", "rule", v.by_wall ? "wall" : "floor", "now", now, "floor", floor, "floorFrom",
			 hf_clock_source_name(v.floor_from), "wallOffsetSecs", (json_int_t)(v.wall_s - v.now_s));
}

/* What somebody should look into; empty when all is well. */
static json_t *alarms_json(const struct hf_ctl *ctl)
{
	uint64_t stalled_ms = hf_upstream_stalled_ms(ctl->cfg.up);
	struct hf_clock_view v;
	json_t *list = json_array();

	hf_auth_clock_view(ctl->cfg.clock, &v);
	if (stalled_ms >= HF_STALLED_ALARM_MS)
		json_array_append_new(list, json_sprintf("pump: no message left for %llu s although some could",
							 (unsigned long long)stalled_ms / 1000));
	if (!v.by_wall)
		json_array_append_new(list, json_string("clock: the wall clock cannot be right; the stored time floor counts"));
	return list;
}

static void on_shown(struct hf_upstream_show *show)
{
	struct status_call *s = hf_container_of(show, struct status_call, show);
	const struct hf_ctl *ctl = s->ctl;
	json_t *o = json_pack("{s:s, s:s, s:I}", "version", HF_VERSION, "uplink",
			      hf_uplink_state_name(hf_upstream_state(ctl->cfg.up)), "childrenConnected",
			      (json_int_t)hf_metric_get(HF_M_CHILDREN));

	json_object_set_new(o, "connections", json_pack("{s:I, s:I, s:I, s:I, s:I}", "open", (json_int_t)hf_metric_get(HF_M_CONN_OPEN),
						       "unauthenticated", (json_int_t)hf_metric_get(HF_M_CONN_STRANGERS),
						       "refusedFull", (json_int_t)hf_metric_get(HF_M_CONN_OVER_LIMIT),
						       "refusedAddress", (json_int_t)hf_metric_get(HF_M_CONN_OVER_ADDRESS),
						       "gaveWay", (json_int_t)hf_metric_get(HF_M_CONN_GAVE_WAY)));
	store_members(ctl, o);
	json_object_set_new(o, "durability", json_string((*ctl->cfg.conf)->store_durability));
	json_object_set_new(o, "clock", clock_json(ctl->cfg.clock));
	json_object_set_new(o, "alarms", alarms_json(ctl));
	json_object_set_new(o, "kern", json_pack("{s:s}", "steer", hf_steer_state(ctl->cfg.steer)));
	json_object_set(o, "timeToLiveSecs", json_object_get(show->result, "timeToLiveSecs"));
	json_object_set(o, "scopeIdentities", json_object_get(json_object_get(show->result, "scope"), "identities"));
	json_object_set(o, "scopeSyncedAt", json_object_get(json_object_get(show->result, "scope"), "syncedAt"));
	json_object_set_new(o, "workers", json_integer(hf_gw_workers(ctl->cfg.gw)));
	json_object_set_new(o, "uptimeSecs", json_integer((json_int_t)((hf_clock_mono_ms() - ctl->started_ms) / 1000)));
	hf_ctl_item(s->call, o);
	hf_ctl_ok(s->call);
	json_decref(show->result);
	s->ctl->n_waiting--;
	free(s);
}

void hf_cmd_status(void *arg, struct hf_ctl_call *call, const json_t *args)
{
	struct hf_ctl *ctl = arg;
	struct status_call *s = calloc(1, sizeof *s);

	(void)args;
	if (!s) {
		hf_ctl_fail(call, "failed", "out of memory");
		return;
	}
	s->ctl = ctl;
	s->call = call;
	s->show.reply_to = ctl->cfg.inbox;
	s->show.done = on_shown;
	ctl->n_waiting++;
	hf_upstream_show(ctl->cfg.up, &s->show);
}

void hf_cmd_counters(void *arg, struct hf_ctl_call *call, const json_t *args)
{
	json_t *all = json_object();

	(void)arg;
	(void)args;
	for (unsigned i = 0; i < hf_metrics_count(); i++)
		json_object_set_new(all, hf_metric_def(i)->name, json_integer(hf_metric_get(i)));
	hf_ctl_item(call, all);
	hf_ctl_ok(call);
}

void hf_cmd_kern_show(void *arg, struct hf_ctl_call *call, const json_t *args)
{
	struct hf_ctl *ctl = arg;

	(void)args;
	hf_ctl_item(call, hf_steer_show(ctl->cfg.steer));
	hf_ctl_ok(call);
}

void hf_cmd_conf_show(void *arg, struct hf_ctl_call *call, const json_t *args)
{
	struct hf_ctl *ctl = arg;

	(void)args;
	hf_ctl_item(call, hf_conf_json(&hf_conf_schema, *ctl->cfg.conf));
	hf_ctl_ok(call);
}

void hf_cmd_log_level(void *arg, struct hf_ctl_call *call, const json_t *args)
{
	const char *name = hf_ctl_arg(args, "level");
	enum hf_log_level level;

	(void)arg;
	if (name && hf_log_level_parse(name, &level) != 0) {
		hf_ctl_fail(call, "invalid", "\"%.32s\" is none of err, warn, notice, info, debug", name);
		return;
	}
	if (name)
		hf_log_set_level(level);
	hf_ctl_item(call, json_pack("{s:s}", "level", hf_log_level_name(hf_log_level())));
	hf_ctl_ok(call);
}
