/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "hub/fault/fault.h"
#include "core/list.h"
#include "core/util.h"
#include "hub/metrics.h"
#include "msg/msg.h"
#include <errno.h>
#include <holdfast/err.h>
#include <stdio.h>

#define MAX_RULES 256
#define MAX_MS 86400000	/* a day */
#define MAX_HELD ((size_t)64 << 20)

static const char *const on_names[] = { "connect", "telemetry", "twin", "method", "scope", "c2d" };
_Static_assert(HF_ARRAY_LEN(on_names) == HUB_ON__COUNT, "a name for each operation");

enum { TAKES_MS = 1, TAKES_CODE = 2 };
#define EVERY ((1u << HUB_ON__COUNT) - 1)
static const struct { const char *name; unsigned takes, ons; } actions[] = {
	[HUB_DO_DELAY] = { "delay", TAKES_MS, EVERY },
	[HUB_DO_HANG] = { "hang", 0, EVERY },
	[HUB_DO_DROP] = { "drop-connection", 0, EVERY },
	[HUB_DO_REJECT] = { "reject", TAKES_CODE, EVERY },
	[HUB_DO_THROTTLE] = { "throttle", 0, EVERY },
	[HUB_DO_ACK_LATE] = { "ack-late", TAKES_MS, 1u << HUB_ON_TELEMETRY | 1u << HUB_ON_TWIN | 1u << HUB_ON_METHOD | 1u << HUB_ON_C2D },
	[HUB_DO_ACK_TWICE] = { "ack-twice", 0, 1u << HUB_ON_TELEMETRY },
	[HUB_DO_ACK_NEVER] = { "ack-never", 0, 1u << HUB_ON_TELEMETRY | 1u << HUB_ON_TWIN | 1u << HUB_ON_METHOD | 1u << HUB_ON_C2D },
};
_Static_assert(HF_ARRAY_LEN(actions) == HUB_DO__COUNT, "a row for each action");

struct rule {
	struct hf_list node;
	struct hub_fault_rule r;
	bool is_switch;		/* see hub_fault_cut_off */
	unsigned due;		/* percent of a hit that the rate has added up */
	char device[HF_IDENT_MAX + 1];
};

struct hub_faults {
	struct hf_list rules;	/* switches, then the oldest first */
	unsigned n, last_id;
	size_t held;		/* bytes */
};

int hub_faults_create(struct hub_faults **ret_f)
{
	struct hub_faults *f = calloc(1, sizeof *f);

	if (!f)
		return -ENOMEM;
	hf_list_init(&f->rules);
	*ret_f = f;
	return 0;
}

static void rule_free(struct hub_faults *f, struct rule *rule)
{
	hf_list_del(&rule->node);
	f->n--;
	free(rule);
}

unsigned hub_fault_clear(struct hub_faults *f, unsigned id)
{
	struct hf_list *pos, *tmp;
	unsigned n = 0;

	hf_list_for_each_safe(pos, tmp, &f->rules) {
		struct rule *rule = hf_container_of(pos, struct rule, node);

		if (id && rule->r.id != id)
			continue;
		rule_free(f, rule);
		n++;
	}
	return n;
}

void hub_faults_destroy(struct hub_faults **f)
{
	if (!*f)
		return;
	hub_fault_clear(*f, 0);
	free(*f);
	*f = NULL;
}

/* --- reading ---------------------------------------------------------------------------------------------- */

static void list_actions(enum hub_fault_on on, char *out, size_t cap)
{
	size_t n = 0;

	for (unsigned i = 0; i < HUB_DO__COUNT && n < cap; i++)
		if (actions[i].ons & 1u << on)
			n += (size_t)snprintf(out + n, cap - n, "%s%s%s", n ? ", " : "", actions[i].name,
					      actions[i].takes & TAKES_MS ? "=MS" : actions[i].takes ? "=CODE" : "");
}

static int parse_value(struct hub_fault_rule *rule, unsigned takes, struct hf_span value, char *why, size_t cap)
{
	bool connect = rule->on == HUB_ON_CONNECT;
	int64_t v;

	if (takes & TAKES_MS) {
		if (hf_parse_i64(value, 1, MAX_MS, &v) == 0) {
			rule->fault.ms = (uint32_t)v;
			return 0;
		}
		snprintf(why, cap, "%s takes 1 to %d milliseconds, as in delay=500", actions[rule->fault.action].name, MAX_MS);
	} else if (takes & TAKES_CODE) {
		if (hf_parse_i64(value, connect ? 1 : 400, connect ? 5 : 599, &v) == 0) {
			rule->fault.code = (int)v;
			return 0;
		}
		snprintf(why, cap, connect ? "on connect, reject takes a CONNACK code from 1 to 5, as in reject=3"
					   : "reject takes an HTTP status from 400 to 599, as in reject=503");
	} else if (value.len == 0) {
		return 0;
	} else {
		snprintf(why, cap, "%s takes no value", actions[rule->fault.action].name);
	}
	return HF_EINVALID;
}

int hub_fault_parse(const char *on, const char *action, struct hub_fault_rule *rule, char *why, size_t why_cap)
{
	struct hf_span value = hf_span_str(action), name;
	char valid[160];
	unsigned i = 0;

	while (i < HUB_ON__COUNT && strcmp(on, on_names[i]) != 0)
		i++;
	if (i == HUB_ON__COUNT) {
		snprintf(why, why_cap, "\"%.40s\" is no operation; there are connect, telemetry, twin, method, scope, c2d", on);
		return HF_EINVALID;
	}
	rule->on = (enum hub_fault_on)i;
	hf_span_cut(&value, '=', &name);
	for (i = 0; i < HUB_DO__COUNT; i++)
		if (hf_span_is(name, actions[i].name) && actions[i].ons & 1u << rule->on) {
			rule->fault.action = (enum hub_fault_action)i;
			return parse_value(rule, actions[i].takes, value, why, why_cap);
		}
	list_actions(rule->on, valid, sizeof valid);
	snprintf(why, why_cap, "\"%.40s\" cannot happen on %s; valid there: %s", action, on, valid);
	return HF_EINVALID;
}

int hub_fault_add(struct hub_faults *f, const struct hub_fault_rule *rule, unsigned *ret_id)
{
	const char *device = rule->device ? rule->device : "";
	struct rule *copy;

	if (strlen(device) > HF_IDENT_MAX || rule->rate < 1 || rule->rate > 100)
		return HF_EINVALID;
	if (f->n >= MAX_RULES)
		return HF_ELIMIT;
	copy = calloc(1, sizeof *copy);
	if (!copy)
		return -ENOMEM;
	copy->r = *rule;
	copy->r.hits = 0;
	memcpy(copy->device, device, strlen(device) + 1);
	copy->r.device = copy->device;
	copy->r.id = *ret_id = ++f->last_id;
	hf_list_add_tail(&f->rules, &copy->node);
	f->n++;
	return 0;
}

int hub_fault_cut_off(struct hub_faults *f, const char *device, bool on)
{
	struct hub_fault_rule want = { .on = HUB_ON_CONNECT, .fault.action = HUB_DO_DROP, .device = device, .rate = 100 };
	struct hf_list *pos;
	struct rule *rule;
	unsigned id;
	int r;

	hf_list_for_each(pos, &f->rules) {
		rule = hf_container_of(pos, struct rule, node);
		if (!rule->is_switch || strcmp(rule->device, device) != 0)
			continue;
		if (!on)
			rule_free(f, rule);
		return 0;
	}
	r = on ? hub_fault_add(f, &want, &id) : 0;
	if (!on || r != 0)
		return r;
	rule = hf_container_of(f->rules.prev, struct rule, node);	/* the new one */
	rule->is_switch = true;
	hf_list_del(&rule->node);
	hf_list_add_head(&f->rules, &rule->node);
	return 0;
}

/* --- use -------------------------------------------------------------------------------------------------- */

static bool is_for(const struct rule *rule, const char *id)
{
	size_t n = strlen(rule->device);

	return n == 0 || (strncmp(id, rule->device, n) == 0 && (id[n] == '\0' || id[n] == '/'));
}

bool hub_fault_hit(struct hub_faults *f, enum hub_fault_on on, const char *id, struct hub_fault *ret_fault)
{
	struct hf_list *pos;

	hf_list_for_each(pos, &f->rules) {
		struct rule *rule = hf_container_of(pos, struct rule, node);

		if (rule->r.on != on || !is_for(rule, id))
			continue;
		rule->due += rule->r.rate;
		if (rule->due < 100)
			continue;
		rule->due -= 100;
		rule->r.hits++;
		hf_metric_add(HUB_M_FAULTS, 1);
		*ret_fault = rule->r.fault;
		if (rule->r.left && --rule->r.left == 0)
			rule_free(f, rule);
		return true;
	}
	return false;
}

bool hub_faults_hold(struct hub_faults *f, size_t bytes)
{
	if (bytes > MAX_HELD - f->held)
		return false;
	f->held += bytes;
	return true;
}

void hub_faults_release(struct hub_faults *f, size_t bytes)
{
	f->held -= bytes;
}

static json_t *rule_doc(const struct rule *rule)
{
	const struct hub_fault_rule *r = &rule->r;
	const char *name = actions[r->fault.action].name;
	char action[48];

	if (actions[r->fault.action].takes & TAKES_MS)
		snprintf(action, sizeof action, "%s=%u", name, r->fault.ms);
	else if (actions[r->fault.action].takes & TAKES_CODE)
		snprintf(action, sizeof action, "%s=%d", name, r->fault.code);
	else
		snprintf(action, sizeof action, "%s", name);
	return json_pack("{si ss ss so si so sI so*}", "id", (int)r->id, "on", on_names[r->on], "action", action, "device",
			 *r->device ? json_string(r->device) : json_null(), "rate", (int)r->rate, "count",
			 r->left ? json_integer((json_int_t)r->left) : json_null(), "hits", (json_int_t)r->hits, "cutOff",
			 rule->is_switch ? json_true() : NULL);
}

json_t *hub_faults_doc(const struct hub_faults *f)
{
	json_t *all = json_array();
	struct hf_list *pos;

	hf_list_for_each(pos, &f->rules)
		if (json_array_append_new(all, rule_doc(hf_container_of(pos, struct rule, node))) != 0) {
			json_decref(all);
			return NULL;
		}
	return all;
}
