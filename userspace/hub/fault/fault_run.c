/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "hub/fault/fault_run.h"
#include "core/util.h"
#include "hub/model/model_int.h"

#include <errno.h>
#include <holdfast/err.h>

struct held {
	struct hf_list node;
	uint64_t due_ms;
	bool in_order;
	hub_hold_fn fn;
	void *arg;
	size_t len;
	uint8_t data[];
};

static struct held *first_of(const struct hub_hold *h)
{
	return hf_container_of(h->items.next, struct held, node);
}

void hub_hold_init(struct hub_hold *h, struct hf_loop *loop, struct hub_faults *f)
{
	*h = (struct hub_hold){ .loop = loop, .faults = f };
	hf_list_init(&h->items);
}

static void take_off(struct hub_hold *h, struct held *item)
{
	hf_list_del(&item->node);
	h->n_in_order -= item->in_order;
	hub_faults_release(h->faults, sizeof *item + item->len);
}

void hub_hold_fini(struct hub_hold *h)
{
	while (!hf_list_empty(&h->items)) {
		struct held *item = first_of(h);

		take_off(h, item);
		free(item);
	}
	hf_timer_destroy(&h->timer);
}

static void arm(struct hub_hold *h)
{
	uint64_t now = hf_loop_now_ms(h->loop), due = first_of(h)->due_ms;

	hf_timer_start(h->timer, due > now ? due - now : 0, 0);
}

static void on_due(void *arg)
{
	struct hub_hold *h = arg;
	uint64_t now = hf_loop_now_ms(h->loop);

	while (!hf_list_empty(&h->items) && first_of(h)->due_ms <= now) {
		struct held *item = first_of(h);

		take_off(h, item);
		item->fn(item->arg, hf_span(item->data, item->len));
		free(item);
	}
	if (!hf_list_empty(&h->items))
		arm(h);
}

/* Behind everything that is due at the same time or sooner. */
static void insert(struct hub_hold *h, struct held *item)
{
	struct hf_list *pos = h->items.prev;

	while (pos != &h->items && hf_container_of(pos, struct held, node)->due_ms > item->due_ms)
		pos = pos->prev;
	hf_list_add_head(pos, &item->node);
}

int hub_hold_add(struct hub_hold *h, uint64_t ms, bool in_order, hub_hold_fn fn, void *arg, struct hf_span data)
{
	size_t size = sizeof(struct held) + data.len;
	struct held *item;

	if (!h->timer && hf_timer_create(h->loop, on_due, h, &h->timer) != 0)
		return -ENOMEM;
	if (!hub_faults_hold(h->faults, size))
		return HF_ELIMIT;
	item = malloc(size);
	if (!item) {
		hub_faults_release(h->faults, size);
		return -ENOMEM;
	}
	*item = (struct held){ .due_ms = hf_loop_now_ms(h->loop) + ms, .in_order = in_order, .fn = fn, .arg = arg, .len = data.len };
	if (data.len)
		memcpy(item->data, data.ptr, data.len);
	if (in_order) {
		if (h->n_in_order++ && h->order_ms > item->due_ms)
			item->due_ms = h->order_ms;
		h->order_ms = item->due_ms;
	}
	insert(h, item);
	arm(h);
	return 0;
}

bool hub_hold_waits(const struct hub_hold *h)
{
	return h->n_in_order > 0;
}

void hub_fault_error(const struct hub_fault *fault, struct hub_error *ret_err)
{
	static const struct { int http, code; const char *name; } known[] = {
		{ 400, 400004, "ArgumentInvalid" }, { 401, 401002, "IotHubUnauthorizedAccess" },
		{ 403, 403002, "IotHubQuotaExceeded" }, { 404, 404001, "DeviceNotFound" },
		{ 405, 405000, "GenericMethodNotAllowed" }, { 409, 409001, "DeviceAlreadyExists" },
		{ 412, 412001, "PreconditionFailed" }, { 413, 413001, "MessageTooLarge" },
		{ 415, 415001, "UnsupportedMediaType" }, { 429, 429001, "ThrottlingException" },
		{ 502, 502001, "BadDeviceResponse" }, { 503, 503001, "ServiceUnavailable" },
		{ 504, 504101, "GatewayTimeout" },
	};
	int http = fault->action == HUB_DO_THROTTLE ? 429 : fault->code;
	const char *name = http < 500 ? "GenericBadRequest" : "ServerError";
	int code = http * 1000 + 1;

	for (unsigned i = 0; i < HF_ARRAY_LEN(known); i++)
		if (known[i].http == http) {
			code = known[i].code;
			name = known[i].name;
		}
	hub_refuse(ret_err, 0, http, code, name, "%s", fault->action == HUB_DO_THROTTLE ?
		   "too many requests of this kind; try again later" : "refused on purpose, by a fault rule");
}
