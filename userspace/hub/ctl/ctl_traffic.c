/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Control commands about traffic: events, twins, methods, C2D. */
#include "core/clock.h"
#include "core/util.h"
#include "hub/ctl/ctl_int.h"
#include <errno.h>
#include <stdio.h>

/* One `events` command: produces until the newest event, or for ever with follow. */
struct follower {
	struct hf_list node;
	struct hub_ctl *ctl;
	struct hf_ctl_call *call;
	uint64_t next, left;
	bool follow, blocked;
	struct hf_task task;
};

static void end(struct follower *f)
{
	hf_task_cancel(&f->task);
	hf_list_del(&f->node);
	hf_ctl_ok(f->call);
	free(f);
}

/* A slice at a time, so that a long history does not hold the loop. */
static void produce(void *arg)
{
	struct follower *f = arg;

	f->blocked = false;
	for (unsigned n = 0; n < 512; n++) {
		uint64_t seq = f->next;
		json_t *e = f->left ? hub_event_get(f->ctl->model, &seq) : NULL;

		if (!e) {
			if (!f->follow || !f->left)
				end(f);
			return;
		}
		f->next = seq + 1;
		f->left--;
		if (!hf_ctl_item(f->call, e)) {
			f->blocked = true;
			return;
		}
	}
	hf_task_next_turn(f->ctl->loop, &f->task);
}

static void on_gone(void *arg)
{
	end(arg);
}

void hub_ctl_on_event(void *arg)
{
	struct hub_ctl *ctl = arg;
	struct hf_list *pos;

	hf_list_for_each(pos, &ctl->followers) {
		struct follower *f = hf_container_of(pos, struct follower, node);

		if (!f->blocked)
			hf_task_next_turn(ctl->loop, &f->task);
	}
}

void hub_ctl_events(void *arg, struct hf_ctl_call *call, const json_t *args)
{
	struct hub_ctl *ctl = arg;
	json_int_t from = json_integer_value(json_object_get(args, "from"));
	json_t *max = json_object_get(args, "max");
	struct follower *f;

	if (from < 0 || (max && json_integer_value(max) < 0)) {
		hf_ctl_fail(call, "invalid", "from and max are not negative");
		return;
	}
	f = calloc(1, sizeof *f);
	if (!f) {
		hf_ctl_fail(call, "failed", "out of memory");
		return;
	}
	f->ctl = ctl;
	f->call = call;
	f->next = (uint64_t)from;
	f->left = max ? (uint64_t)json_integer_value(max) : UINT64_MAX;
	f->follow = json_is_true(json_object_get(args, "follow"));
	hf_task_init(&f->task, produce, f);
	hf_list_add_tail(&ctl->followers, &f->node);
	hf_ctl_on_drain(call, produce, f);
	hf_ctl_on_gone(call, on_gone, f);
	hf_task_next_turn(ctl->loop, &f->task);
}

void hub_ctl_twin_show(void *arg, struct hf_ctl_call *call, const json_t *args)
{
	struct hub_ctl *ctl = arg;
	const struct hub_ident *ident = hub_ctl_ident(ctl, call, args);

	if (!ident)
		return;
	hf_ctl_item(call, hub_twin_doc(ctl->model, ident));
	hf_ctl_ok(call);
}

void hub_ctl_twin_update(void *arg, struct hf_ctl_call *call, const json_t *args)
{
	struct hub_ctl *ctl = arg;
	const struct hub_ident *ident = hub_ctl_ident(ctl, call, args);
	json_t *desired = json_object_get(args, "desired"), *tags = json_object_get(args, "tags");
	json_t *patch, *doc = NULL;
	struct hub_error err = { 0 };

	if (!ident)
		return;
	if ((desired && !json_is_object(desired)) || (tags && !json_is_object(tags)) || (!desired && !tags)) {
		hf_ctl_fail(call, "invalid", "give desired and/or tags, each a JSON object");
		return;
	}
	patch = json_object();
	if (tags)
		json_object_set(patch, "tags", tags);
	if (desired)
		json_object_set_new(patch, "properties", json_pack("{s:O}", "desired", desired));
	if (hub_twin_update(ctl->model, ident, patch, json_is_true(json_object_get(args, "replace")), NULL, &doc, &err) != 0)
		hub_ctl_error(call, &err);
	else
		hub_ctl_ok_committed(ctl, call, doc);
	json_decref(patch);
}

static void on_method_done(void *arg, int status, struct hf_span payload, const struct hub_error *err)
{
	struct hf_ctl_call *call = arg;
	json_t *value;

	if (err) {
		hub_ctl_error(call, err);
		return;
	}
	value = payload.len ? json_loadb((const char *)payload.ptr, payload.len, JSON_DECODE_ANY, NULL) : json_null();
	hf_ctl_item(call, json_pack("{s:i, s:o}", "status", status, "payload", value ? value : json_null()));
	hf_ctl_ok(call);
}

/* dflt when absent, -1 when out of range. */
static int64_t seconds(const json_t *args, const char *name, int64_t min, int64_t max, int64_t dflt)
{
	const json_t *v = json_object_get(args, name);

	if (!v)
		return dflt;
	return json_is_integer(v) && json_integer_value(v) >= min && json_integer_value(v) <= max ? json_integer_value(v) : -1;
}

void hub_ctl_method_invoke(void *arg, struct hf_ctl_call *call, const json_t *args)
{
	struct hub_ctl *ctl = arg;
	const struct hub_ident *ident = hub_ctl_ident(ctl, call, args);
	int64_t response = seconds(args, "timeout", 5, 300, 30), connect = seconds(args, "connectTimeout", 0, 300, 0);
	const char *name = hub_arg(args, "methodName");
	struct hub_method_call m = { .done = on_method_done, .arg = call, .response_timeout_s = (uint32_t)response,
				     .connect_timeout_s = (uint32_t)connect };

	if (!ident)
		return;
	if (!name || !*name) {
		hf_ctl_fail(call, "invalid", "methodName is missing");
		return;
	}
	if (response < 0 || connect < 0) {
		hf_ctl_fail(call, "invalid", "timeout is 5 to 300 seconds, connectTimeout 0 to 300");
		return;
	}
	if (!hub_ctl_gate(ctl, call, HUB_ON_METHOD, ident->id))
		return;
	snprintf(m.target, sizeof m.target, "%s", ident->id);
	m.name = (char *)name;
	m.payload = json_object_get(args, "payload");
	if (hub_method_invoke(ctl->model, &m) != 0)
		hf_ctl_fail(call, "failed", "the call could not be started");
}

void hub_ctl_c2d_send(void *arg, struct hf_ctl_call *call, const json_t *args)
{
	struct hub_ctl *ctl = arg;
	const char *data = hub_arg(args, "data");
	int64_t wait = seconds(args, "expirySeconds", 1, 2 * 24 * 3600, 0);
	struct hub_error err = { 0 };
	json_t *props;

	if (!hub_ctl_ident(ctl, call, args))
		return;
	if (wait < 0) {
		hf_ctl_fail(call, "invalid", "expirySeconds is 1 to 172800, two days");
		return;
	}
	if (!hub_ctl_gate(ctl, call, HUB_ON_C2D, hub_arg(args, "deviceId")))
		return;
	props = json_copy((json_t *)args);
	if (!props || (wait && json_object_set_new(props, "expiryTimeUtc", json_integer(hf_clock_wall_ms() + wait * 1000)) != 0))
		hf_ctl_fail(call, "failed", "out of memory");
	else if (hub_c2d_send(ctl->model, hub_arg(args, "deviceId"), props, hf_span_str(data ? data : ""), &err) != 0)
		hub_ctl_error(call, &err);
	else
		hub_ctl_ok_committed(ctl, call, NULL);
	json_decref(props);
}
