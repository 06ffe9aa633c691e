/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Control commands about fault rules, and the faults of those commands that stand for operations of the service. */
#include "hub/ctl/ctl_int.h"
#include "hub/fault/fault_run.h"
#include <holdfast/err.h>

/* A whole number of args, dflt when absent, -1 when it is none or under min. */
static json_int_t number(const json_t *args, const char *name, json_int_t min, json_int_t dflt)
{
	const json_t *v = json_object_get(args, name);

	if (!v || json_is_null(v))
		return dflt;
	return json_is_integer(v) && json_integer_value(v) >= min ? json_integer_value(v) : -1;
}

void hub_ctl_fault_add(void *arg, struct hf_ctl_call *call, const json_t *args)
{
	struct hub_ctl *ctl = arg;
	const char *on = hub_arg(args, "on"), *action = hub_arg(args, "action");
	json_int_t rate = number(args, "rate", 1, 100), count = number(args, "count", 1, 0);
	struct hub_fault_rule rule = { .device = hub_arg(args, "device") };
	char why[256];
	unsigned id;
	int r;

	if (!on || !action) {
		hf_ctl_fail(call, "invalid", "on and action are needed, as in --on telemetry --action ack-never");
		return;
	}
	if (hub_fault_parse(on, action, &rule, why, sizeof why) != 0) {
		hf_ctl_fail(call, "invalid", "%s", why);
		return;
	}
	if (rate < 1 || rate > 100 || count < 0) {
		hf_ctl_fail(call, "invalid", rate < 1 || rate > 100 ? "rate is 1 to 100 percent" : "count is 1 or more");
		return;
	}
	rule.rate = (unsigned)rate;
	rule.left = (uint64_t)count;
	r = hub_fault_add(hub_model_faults(ctl->model), &rule, &id);
	if (r == HF_ELIMIT) {
		hf_ctl_fail(call, "invalid", "too many fault rules; remove some with fault clear");
	} else if (r == HF_EINVALID) {
		hf_ctl_fail(call, "invalid", "the device name is too long");
	} else if (r != 0) {
		hf_ctl_fail(call, "failed", "%s", hf_strerror(r));
	} else {
		hf_ctl_item(call, json_pack("{s:i}", "id", (int)id));
		hf_ctl_ok(call);
	}
}

void hub_ctl_fault_list(void *arg, struct hf_ctl_call *call, const json_t *args)
{
	struct hub_ctl *ctl = arg;
	json_t *all = hub_faults_doc(hub_model_faults(ctl->model)), *rule;
	size_t i;

	(void)args;
	if (!all) {
		hf_ctl_fail(call, "failed", "out of memory");
		return;
	}
	json_array_foreach(all, i, rule)
		hf_ctl_item(call, json_incref(rule));
	json_decref(all);
	hf_ctl_ok(call);
}

void hub_ctl_fault_clear(void *arg, struct hf_ctl_call *call, const json_t *args)
{
	struct hub_ctl *ctl = arg;
	json_int_t id = number(args, "id", 1, 0);
	unsigned n;

	if (id < 0 || id > UINT32_MAX) {
		hf_ctl_fail(call, "invalid", "a rule's id is a number that fault list shows");
		return;
	}
	n = hub_fault_clear(hub_model_faults(ctl->model), (unsigned)id);
	if (id && n == 0) {
		hf_ctl_fail(call, "not-found", "there is no fault rule %lld; see fault list", (long long)id);
		return;
	}
	hf_ctl_item(call, json_pack("{s:i}", "removed", (int)n));
	hf_ctl_ok(call);
}

bool hub_ctl_gate(struct hub_ctl *ctl, struct hf_ctl_call *call, enum hub_fault_on on, const char *id)
{
	struct hub_fault fault;
	struct hub_error err;

	if (hf_ctl_is_again(call) || !hub_fault_hit(hub_model_faults(ctl->model), on, id, &fault))
		return true;
	switch (fault.action) {
	case HUB_DO_DELAY:
	case HUB_DO_HANG:
		hf_ctl_later(call, fault.action == HUB_DO_HANG ? UINT32_MAX : fault.ms);
		return false;
	case HUB_DO_DROP:
		hf_ctl_drop(call);
		return false;
	case HUB_DO_REJECT:
	case HUB_DO_THROTTLE:
		hub_fault_error(&fault, &err);
		hub_ctl_error(call, &err);
		return false;
	case HUB_DO_ACK_LATE:
	case HUB_DO_ACK_NEVER:
		hf_ctl_answer_late(call, fault.action == HUB_DO_ACK_NEVER ? UINT32_MAX : fault.ms);
		return true;
	case HUB_DO_ACK_TWICE:		/* no rule of these operations has it */
	case HUB_DO__COUNT:
		break;
	}
	return true;
}
