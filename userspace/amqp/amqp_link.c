/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Links and the messages on them. */
#include "amqp/amqp_int.h"
#include "core/util.h"

#include <errno.h>
#include <holdfast/err.h>
#include <stdio.h>

#define REPLENISH 4	/* credit goes back when a quarter is used */

/* --- attach and detach -------------------------------------------------------------------------------------- */

void hf_amqp_link_remote_open(struct hf_amqp *a, pn_link_t *pn)
{
	struct hf_amqp_link *l;

	if (pn_link_get_context(pn))
		return;
	l = calloc(1, sizeof *l);
	if (!l) {
		pn_condition_set_name(pn_link_condition(pn), "amqp:internal-error");
		pn_link_open(pn);
		pn_link_close(pn);
		return;
	}
	l->a = a;
	l->pn = pn;
	l->in = HF_BUF_INIT(a->max_message);
	hf_list_init(&l->deliveries);
	hf_list_add_tail(&a->links, &l->node);
	pn_link_set_context(pn, l);
	a->ops->attach(a->arg, l);
}

void hf_amqp_link_free(struct hf_amqp_link *l)
{
	struct hf_list *pos, *tmp;

	hf_list_for_each_safe(pos, tmp, &l->deliveries) {
		struct hf_amqp_delivery *d = hf_container_of(pos, struct hf_amqp_delivery, node);

		hf_list_del(&d->node);
		d->link = NULL;		/* its owner still settles it */
		d->pn = NULL;
	}
	hf_list_del(&l->node);
	if (l->accepted)
		l->a->ops->gone(l->a->arg, l);
	hf_buf_fini(&l->in);
	free(l);
}

static void set_condition(pn_link_t *pn, const char *condition, const char *text)
{
	if (!condition)
		return;
	pn_condition_set_name(pn_link_condition(pn), condition);
	pn_condition_set_description(pn_link_condition(pn), text);
}

void hf_amqp_link_remote_close(struct hf_amqp *a, pn_link_t *pn)
{
	struct hf_amqp_link *l = pn_link_get_context(pn);

	(void)a;
	if (l) {
		pn_link_set_context(pn, NULL);
		hf_amqp_link_free(l);
	}
	pn_link_close(pn);
	pn_link_free(pn);
}

void hf_amqp_link_accept(struct hf_amqp_link *l, unsigned credit)
{
	pn_terminus_copy(pn_link_source(l->pn), pn_link_remote_source(l->pn));
	pn_terminus_copy(pn_link_target(l->pn), pn_link_remote_target(l->pn));
	pn_link_set_snd_settle_mode(l->pn, pn_link_remote_snd_settle_mode(l->pn));
	pn_link_set_rcv_settle_mode(l->pn, pn_link_remote_rcv_settle_mode(l->pn));
	pn_link_set_max_message_size(l->pn, l->a->max_message);
	pn_link_open(l->pn);
	l->accepted = true;
	if (pn_link_is_receiver(l->pn))
		pn_link_flow(l->pn, (int)credit);
	hf_amqp_later(l->a);
}

void hf_amqp_link_refuse(struct hf_amqp_link *l, const char *condition, const char *text)
{
	pn_terminus_set_type(pn_link_source(l->pn), PN_UNSPECIFIED);
	pn_terminus_set_type(pn_link_target(l->pn), PN_UNSPECIFIED);
	pn_link_open(l->pn);
	set_condition(l->pn, condition, text);
	pn_link_close(l->pn);
	hf_amqp_later(l->a);
}

void hf_amqp_link_redirect(struct hf_amqp_link *l, const char *hostname, const char *address)
{
	pn_data_t *info = pn_condition_info(pn_link_condition(l->pn));
	const struct { const char *key, *value; } rows[] = { { "hostname", hostname }, { "network-host", hostname },
							     { "address", address } };

	pn_data_put_map(info);
	pn_data_enter(info);
	for (size_t i = 0; i < HF_ARRAY_LEN(rows); i++) {
		pn_data_put_symbol(info, pn_bytes(strlen(rows[i].key), rows[i].key));
		pn_data_put_string(info, pn_bytes(strlen(rows[i].value), rows[i].value));
	}
	pn_data_exit(info);
	hf_amqp_link_refuse(l, "amqp:link:redirect", "go to the address in the info map");
}

void hf_amqp_link_detach(struct hf_amqp_link *l, const char *condition, const char *text)
{
	if (!l->pn)
		return;
	set_condition(l->pn, condition, text);
	pn_link_close(l->pn);
	hf_amqp_later(l->a);
}

/* --- what a link says of itself ------------------------------------------------------------------------------- */

bool hf_amqp_link_we_send(const struct hf_amqp_link *l)
{
	return pn_link_is_sender(l->pn);
}

static const char *address_of(pn_terminus_t *t)
{
	const char *text = pn_terminus_get_address(t);

	return text ? text : "";
}

const char *hf_amqp_link_address(const struct hf_amqp_link *l)
{
	return address_of(pn_link_is_sender(l->pn) ? pn_link_remote_source(l->pn) : pn_link_remote_target(l->pn));
}

const char *hf_amqp_link_peer_address(const struct hf_amqp_link *l)
{
	return address_of(pn_link_is_sender(l->pn) ? pn_link_remote_target(l->pn) : pn_link_remote_source(l->pn));
}

const char *hf_amqp_link_name(const struct hf_amqp_link *l)
{
	return pn_link_name(l->pn);
}

struct hf_amqp *hf_amqp_link_conn(const struct hf_amqp_link *l)
{
	return l->a;
}

void hf_amqp_link_set_arg(struct hf_amqp_link *l, void *arg)
{
	l->arg = arg;
}

void *hf_amqp_link_arg(const struct hf_amqp_link *l)
{
	return l->arg;
}

/* Position of the value for a key of the map in d; false when there is none. */
static bool seek_key(pn_data_t *d, const char *key)
{
	pn_data_rewind(d);
	if (!pn_data_next(d) || pn_data_type(d) != PN_MAP || !pn_data_enter(d))
		return false;
	while (pn_data_next(d)) {
		pn_bytes_t k = pn_data_type(d) == PN_SYMBOL ? pn_data_get_symbol(d)
			     : pn_data_type(d) == PN_STRING ? pn_data_get_string(d) : pn_bytes(0, NULL);

		if (!pn_data_next(d))
			return false;
		if (hf_span_is(hf_span(k.start, k.size), key))
			return true;
	}
	return false;
}

static bool put_text(pn_data_t *d, struct hf_buf *out)
{
	pn_bytes_t b;

	if (pn_data_type(d) != PN_STRING && pn_data_type(d) != PN_SYMBOL)
		return false;
	b = pn_data_type(d) == PN_STRING ? pn_data_get_string(d) : pn_data_get_symbol(d);
	hf_buf_put(out, b.start, b.size);
	return !out->err;
}

bool hf_amqp_link_property(const struct hf_amqp_link *l, const char *key, struct hf_buf *out)
{
	pn_data_t *d = pn_link_remote_properties(l->pn);

	hf_buf_reset(out);
	return d && seek_key(d, key) && put_text(d, out);
}

bool hf_amqp_link_selector(const struct hf_amqp_link *l, struct hf_buf *out)
{
	pn_data_t *d = pn_terminus_filter(pn_link_remote_source(l->pn));

	hf_buf_reset(out);
	if (!seek_key(d, "apache.org:selector-filter:string"))
		return false;
	if (pn_data_is_described(d)) {
		if (!pn_data_enter(d) || !pn_data_next(d) || !pn_data_next(d))
			return false;
	}
	return put_text(d, out);
}

/* --- messages to us -------------------------------------------------------------------------------------------- */

static void give_credit(struct hf_amqp_link *l)
{
	/* `used` counts down from a quarter of the credit, so that one flow frame serves many messages. */
	unsigned quarter = hf_max((unsigned)(pn_link_credit(l->pn) + pn_link_unsettled(l->pn)) / REPLENISH, 1u);

	if (++l->used >= quarter) {
		pn_link_flow(l->pn, (int)l->used);
		l->used = 0;
	}
}

static void deliver(struct hf_amqp_link *l, pn_delivery_t *pn)
{
	struct hf_amqp_delivery *d = calloc(1, sizeof *d);
	struct hf_amqp *a = l->a;
	struct hf_amqp_msg msg;

	if (!d) {
		hf_amqp_link_detach(l, "amqp:internal-error", "no memory");
		return;
	}
	d->link = l;
	d->pn = pn;
	hf_list_add_tail(&l->deliveries, &d->node);
	if (hf_amqp_decode(a->codec, hf_buf_span(&l->in), &msg) != 0) {
		a->ops->malformed(a->arg, "a message cannot be decoded");
		hf_amqp_settle(d, HF_AMQP_REJECTED, "amqp:decode-error", "the message cannot be decoded");
	} else {
		a->ops->message(a->arg, l, d, hf_buf_span(&l->in), &msg);
	}
}

static void receive(struct hf_amqp_link *l, pn_delivery_t *d)
{
	char chunk[8192];
	ssize_t n;

	if (pn_delivery_aborted(d)) {
		hf_buf_reset(&l->in);
		pn_delivery_settle(d);
		give_credit(l);
		return;
	}
	while ((n = pn_link_recv(l->pn, chunk, sizeof chunk)) > 0) {
		hf_buf_put(&l->in, chunk, (size_t)n);
		if (l->in.err) {
			l->a->ops->malformed(l->a->arg, "a message over the limit of its link");
			hf_amqp_link_detach(l, "amqp:link:message-size-exceeded", "the message is too large");
			return;
		}
	}
	if (pn_delivery_partial(d))
		return;
	pn_link_advance(l->pn);
	deliver(l, d);
	hf_buf_reset(&l->in);
	hf_buf_shrink(&l->in);
}

/* --- messages from us ------------------------------------------------------------------------------------------ */

static void judged(struct hf_amqp_link *l, pn_delivery_t *d)
{
	uint64_t cookie = (uint64_t)(uintptr_t)pn_delivery_get_context(d), state = pn_delivery_remote_state(d);
	enum hf_amqp_outcome outcome = HF_AMQP_RELEASED;

	if (state == 0 && !pn_delivery_settled(d))
		return;
	if (state == PN_RECEIVED && !pn_delivery_settled(d))
		return;
	if (state == PN_ACCEPTED)
		outcome = HF_AMQP_ACCEPTED;
	else if (state == PN_REJECTED)
		outcome = HF_AMQP_REJECTED;
	else if (state == PN_MODIFIED)
		outcome = HF_AMQP_MODIFIED;
	/* A receiver in mode "second" waits for our settled answer. */
	pn_delivery_update(d, state);
	pn_delivery_settle(d);
	l->a->ops->outcome(l->a->arg, l, cookie, outcome);
}

void hf_amqp_on_delivery(struct hf_amqp *a, pn_delivery_t *d)
{
	pn_link_t *pn = pn_delivery_link(d);
	struct hf_amqp_link *l = pn_link_get_context(pn);

	(void)a;
	if (!l || !l->accepted || pn_link_state(pn) & PN_LOCAL_CLOSED)
		return;
	if (pn_link_is_sender(pn)) {
		if (pn_delivery_updated(d))
			judged(l, d);
	} else if (pn_delivery_readable(d) || pn_delivery_aborted(d)) {
		receive(l, d);
	}
}

int hf_amqp_credit(const struct hf_amqp_link *l)
{
	return l->pn && !(pn_link_state(l->pn) & PN_LOCAL_CLOSED) ? pn_link_credit(l->pn) : 0;
}

int hf_amqp_send(struct hf_amqp_link *l, struct hf_span tag, const struct hf_amqp_msg *msg, uint64_t cookie)
{
	struct hf_amqp *a = l->a;
	struct hf_span bytes;
	pn_delivery_t *d;
	char own[8];
	int r;

	if (a->dead || hf_amqp_credit(l) <= 0)
		return HF_EFULL;
	hf_buf_reset(&a->encoded);
	r = hf_amqp_encode(a->codec, msg, &a->encoded);
	if (r != 0)
		return r;
	if (tag.len == 0) {
		a->next_tag++;
		memcpy(own, &a->next_tag, sizeof own);
		tag = hf_span(own, sizeof own);
	}
	d = pn_delivery(l->pn, pn_dtag((const char *)tag.ptr, tag.len));
	if (!d)
		return -ENOMEM;
	bytes = hf_buf_span(&a->encoded);
	pn_delivery_set_context(d, (void *)(uintptr_t)cookie);
	if (pn_link_send(l->pn, (const char *)bytes.ptr, bytes.len) != (ssize_t)bytes.len) {
		pn_delivery_abort(d);
		return -ENOMEM;
	}
	pn_link_advance(l->pn);
	if (pn_link_remote_snd_settle_mode(l->pn) == PN_SND_SETTLED)
		pn_delivery_settle(d);
	hf_amqp_later(a);
	return 0;
}

void hf_amqp_settle(struct hf_amqp_delivery *d, enum hf_amqp_outcome outcome, const char *condition, const char *text)
{
	static const uint64_t states[] = { [HF_AMQP_ACCEPTED] = PN_ACCEPTED, [HF_AMQP_REJECTED] = PN_REJECTED,
					   [HF_AMQP_RELEASED] = PN_RELEASED, [HF_AMQP_MODIFIED] = PN_MODIFIED };
	struct hf_amqp_link *l = d->link;

	if (l) {
		if (condition) {
			pn_condition_t *c = pn_disposition_condition(pn_delivery_local(d->pn));

			pn_condition_set_name(c, condition);
			pn_condition_set_description(c, text);
		}
		pn_delivery_update(d->pn, states[outcome]);
		pn_delivery_settle(d->pn);
		hf_list_del(&d->node);
		give_credit(l);
		hf_amqp_later(l->a);
	}
	free(d);
}
