/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Links: attach and detach, what they say of themselves. */
#include "amqp/amqp_int.h"
#include "core/util.h"

/* --- attach and detach -------------------------------------------------------------------------------------- */

void hf_amqp_link_remote_open(struct hf_amqp *a, pn_link_t *pn)
{
	struct hf_amqp_link *l;

	if (pn_link_get_context(pn))
		return;
	if (a->n_links >= a->max_links) {
		hf_amqp_over_limit(a, "too many links");
		return;
	}
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
	hf_list_init(&l->posts);
	hf_list_init(&l->sent);
	hf_list_add_tail(&a->links, &l->node);
	a->n_links++;
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
	hf_list_for_each_safe(pos, tmp, &l->sent) {
		hf_list_del(pos);
		free(hf_container_of(pos, struct hf_amqp_delivery, node));
	}
	hf_list_for_each_safe(pos, tmp, &l->posts)
		free(hf_container_of(pos, struct hf_amqp_post, node));
	free(l->held);
	hf_list_del(&l->node);
	l->a->n_links--;
	if (!l->refused)
		l->a->ops->gone(l->a->arg, l);
	hf_buf_wipe(&l->in);
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

void hf_amqp_link_flow(pn_link_t *pn)
{
	struct hf_amqp_link *l = pn_link_get_context(pn);

	if (!l || !l->accepted || !pn_link_is_sender(pn))
		return;
	hf_amqp_usable(l);
	if (pn_link_get_drain(pn))
		pn_link_drained(pn);
}

void hf_amqp_link_accept(struct hf_amqp_link *l, unsigned credit, uint64_t max_message)
{
	pn_terminus_copy(pn_link_source(l->pn), pn_link_remote_source(l->pn));
	pn_terminus_copy(pn_link_target(l->pn), pn_link_remote_target(l->pn));
	pn_link_set_snd_settle_mode(l->pn, l->presettle ? PN_SND_MIXED : pn_link_remote_snd_settle_mode(l->pn));
	pn_link_set_rcv_settle_mode(l->pn, pn_link_remote_rcv_settle_mode(l->pn));
	pn_link_set_max_message_size(l->pn, max_message);
	pn_link_open(l->pn);
	l->accepted = true;
	if (pn_link_is_receiver(l->pn))
		pn_link_flow(l->pn, (int)credit);
	else if (pn_link_credit(l->pn) > 0) {		/* granted while the answer was open */
		l->choked = true;
		l->a->choked = true;
	}
	hf_amqp_later(l->a);
}

void hf_amqp_link_refuse(struct hf_amqp_link *l, const char *condition, const char *text)
{
	pn_terminus_set_type(pn_link_source(l->pn), PN_UNSPECIFIED);
	pn_terminus_set_type(pn_link_target(l->pn), PN_UNSPECIFIED);
	pn_link_open(l->pn);
	set_condition(l->pn, condition, text);
	pn_link_close(l->pn);
	l->refused = true;
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
	if (pn_link_state(l->pn) & PN_LOCAL_CLOSED)
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

bool hf_amqp_link_presettled(const struct hf_amqp_link *l)
{
	return l->presettle || pn_link_remote_snd_settle_mode(l->pn) == PN_SND_SETTLED;
}

void hf_amqp_link_presettle(struct hf_amqp_link *l)
{
	l->presettle = pn_link_remote_rcv_settle_mode(l->pn) != PN_RCV_SECOND;
}

const char *hf_amqp_link_name(const struct hf_amqp_link *l)
{
	return pn_link_name(l->pn);
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

bool hf_amqp_link_number(const struct hf_amqp_link *l, const char *key, int64_t *ret_n)
{
	pn_data_t *d = pn_link_remote_properties(l->pn);

	if (!d || !seek_key(d, key))
		return false;
	switch (pn_data_type(d)) {
	case PN_LONG: *ret_n = pn_data_get_long(d); return true;
	case PN_INT: *ret_n = pn_data_get_int(d); return true;
	case PN_UINT: *ret_n = pn_data_get_uint(d); return true;
	case PN_ULONG:
		*ret_n = (int64_t)pn_data_get_ulong(d);
		return *ret_n >= 0;
	default: return false;
	}
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
