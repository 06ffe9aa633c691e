/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Messages on links, in both directions, and their settlement. */
#include "amqp/amqp_int.h"
#include "core/util.h"

#include <errno.h>
#include <holdfast/err.h>

#define REPLENISH 4		/* credit goes back when a quarter is used */
#define MAX_POSTS 64
#define MAX_UNSETTLED 4096	/* of what we sent on a link */
#define SEND_HIGH (1u << 20)	/* bytes of a session that the peer has not read */

static bool is_closed(const struct hf_amqp_link *l)
{
	return pn_link_state(l->pn) & PN_LOCAL_CLOSED;
}

static struct hf_amqp_delivery *delivery_new(struct hf_amqp_link *l, pn_delivery_t *pn)
{
	struct hf_amqp_delivery *d = calloc(1, sizeof *d);

	if (!d) {
		hf_amqp_link_detach(l, "amqp:internal-error", "no memory");
		return NULL;
	}
	hf_list_init(&d->node);
	d->link = l;
	d->pn = pn;
	return d;
}

/* --- to us ----------------------------------------------------------------------------------------------------- */

static void give_credit(struct hf_amqp_link *l)
{
	/* `used` counts up to a quarter of the credit, so that one flow frame serves many messages. */
	unsigned quarter = hf_max((unsigned)(pn_link_credit(l->pn) + pn_link_unsettled(l->pn)) / REPLENISH, 1u);

	if (++l->used >= quarter) {
		pn_link_flow(l->pn, (int)l->used);
		l->used = 0;
	}
}

/* Hands d over with the message in l->in. False: the owner wants it later. */
static bool deliver(struct hf_amqp_link *l, struct hf_amqp_delivery *d)
{
	struct hf_amqp *a = l->a;
	struct hf_amqp_msg msg;

	hf_list_add_tail(&l->deliveries, &d->node);
	if (hf_amqp_decode(a->codec, hf_buf_span(&l->in), &msg) != 0) {
		a->ops->malformed(a->arg, HF_EPROTO, "a message cannot be decoded");
		hf_amqp_settle(d, HF_AMQP_REJECTED, "amqp:decode-error", "the message cannot be decoded");
	} else if (!a->ops->message(a->arg, l, d, hf_buf_span(&l->in), &msg)) {
		hf_list_del(&d->node);
		l->held = d;
		return false;
	}
	hf_buf_wipe(&l->in);		/* it may have been a token */
	return true;
}

/* False: nothing more to read on the link for now. */
static bool receive(struct hf_amqp_link *l, pn_delivery_t *pn)
{
	struct hf_amqp_delivery *d;
	char chunk[8192];
	ssize_t n;

	if (pn_delivery_aborted(pn)) {
		hf_buf_reset(&l->in);
		pn_delivery_settle(pn);
		give_credit(l);
		return true;
	}
	while ((n = pn_link_recv(l->pn, chunk, sizeof chunk)) > 0) {
		hf_buf_put(&l->in, chunk, (size_t)n);
		if (l->in.err) {
			l->a->ops->malformed(l->a->arg, HF_ELIMIT, "a message over the limit of its link");
			hf_amqp_link_detach(l, "amqp:link:message-size-exceeded", "the message is too large");
			return false;
		}
	}
	if (pn_delivery_partial(pn))
		return false;
	d = delivery_new(l, pn);
	if (!d)
		return false;
	d->is_batch = pn_delivery_get_context(pn) != NULL;
	pn_link_advance(l->pn);
	return deliver(l, d);
}

static void receive_all(struct hf_amqp_link *l)
{
	pn_delivery_t *pn;

	if (pn_link_remote_credit(l->pn) < 0) {
		l->a->ops->malformed(l->a->arg, HF_ELIMIT, "more messages than there was credit for");
		hf_amqp_link_detach(l, "amqp:link:transfer-limit-exceeded", "there was no credit for the message");
		return;
	}
	while (!l->held && (pn = pn_link_current(l->pn)) && !is_closed(l))
		if (!receive(l, pn))
			break;
}

void hf_amqp_link_resume(struct hf_amqp_link *l)
{
	l->resume = l->a->resuming = true;
	hf_amqp_later(l->a);
}

void hf_amqp_resume_links(struct hf_amqp *a)
{
	struct hf_list *pos, *tmp;

	a->resuming = false;
	hf_list_for_each_safe(pos, tmp, &a->links) {
		struct hf_amqp_link *l = hf_container_of(pos, struct hf_amqp_link, node);

		if (!l->resume)
			continue;
		l->resume = false;
		if (l->held && !is_closed(l) && deliver(l, hf_take(l->held)))
			receive_all(l);
	}
}

/* --- from us --------------------------------------------------------------------------------------------------- */

static void judged(struct hf_amqp_link *l, pn_delivery_t *pn)
{
	struct hf_amqp_delivery *d;
	pn_delivery_tag_t tag = pn_delivery_tag(pn);
	uint64_t state = pn_delivery_remote_state(pn);
	enum hf_amqp_outcome outcome = state == PN_ACCEPTED ? HF_AMQP_ACCEPTED : state == PN_REJECTED ? HF_AMQP_REJECTED
				     : state == PN_MODIFIED ? HF_AMQP_MODIFIED : HF_AMQP_RELEASED;

	if ((state == 0 || state == PN_RECEIVED) && !pn_delivery_settled(pn))
		return;
	if (pn_delivery_get_context(pn) == l) {		/* posted: nobody asked */
		pn_delivery_update(pn, state);
		pn_delivery_settle(pn);
		return;
	}
	d = pn_delivery_get_context(pn);
	if (!d)
		return;		/* a second verdict */
	pn_delivery_set_context(pn, NULL);
	hf_list_del(&d->node);
	hf_list_add_tail(&l->deliveries, &d->node);
	l->a->ops->outcome(l->a->arg, l, d, d->cookie, hf_span(tag.start, tag.size), outcome);
}

/* On a link that was refused, is not answered yet or was detached: nothing of it is kept, the peer may send it elsewhere. */
static void send_back(pn_delivery_t *d)
{
	pn_delivery_update(d, PN_RELEASED);
	pn_delivery_settle(d);
}

void hf_amqp_on_delivery(struct hf_amqp *a, pn_delivery_t *d)
{
	pn_link_t *pn = pn_delivery_link(d);
	struct hf_amqp_link *l = pn_link_get_context(pn);

	if (!l || !l->accepted || is_closed(l)) {
		if (pn_link_is_receiver(pn))
			send_back(d);
		return;
	}
	if (pn_link_is_sender(pn) && a->frame.is_transfer) {
		a->ops->malformed(a->arg, HF_EPROTO, "a transfer on a link that receives");
		hf_amqp_close(a, "amqp:not-allowed", "a transfer on a link that receives");
		return;
	}
	if (pn_link_is_sender(pn)) {
		if (pn_delivery_updated(d))
			judged(l, d);
		return;
	}
	if (a->frame.is_batch)
		pn_delivery_set_context(d, l);	/* a mark that stays until its turn comes */
	receive_all(l);
}

/* The peer does not read, or gives no verdicts. */
static bool is_choked(const struct hf_amqp_link *l)
{
	return pn_link_unsettled(l->pn) >= MAX_UNSETTLED || pn_session_outgoing_bytes(pn_link_session(l->pn)) >= SEND_HIGH;
}

int hf_amqp_credit(struct hf_amqp_link *l)
{
	if (l->a->dead || !l->accepted || is_closed(l) || pn_link_credit(l->pn) <= 0)
		return 0;
	if (is_choked(l)) {
		l->choked = l->a->choked = true;
		return 0;
	}
	return pn_link_credit(l->pn);
}

void hf_amqp_unchoke_links(struct hf_amqp *a)
{
	struct hf_list *pos, *tmp;

	a->choked = false;
	hf_list_for_each_safe(pos, tmp, &a->links) {
		struct hf_amqp_link *l = hf_container_of(pos, struct hf_amqp_link, node);

		if (!l->choked)
			continue;
		if (is_choked(l)) {
			a->choked = true;
			continue;
		}
		l->choked = false;
		hf_amqp_usable(l);
	}
}

/* d: what gets the verdict; NULL: nobody wants it, the link is the mark of that. */
static int transmit(struct hf_amqp_link *l, struct hf_span tag, struct hf_span bytes, struct hf_amqp_delivery *d)
{
	struct hf_amqp *a = l->a;
	pn_delivery_t *pn;
	char own[8];

	if (tag.len == 0) {
		a->next_tag++;
		memcpy(own, &a->next_tag, sizeof own);
		tag = hf_span(own, sizeof own);
	}
	/* Proton collects settlements and would write them behind the message; a client that asks and waits needs the
	 * settlement of its request before the answer (iothub-protocol 9.6). */
	if (a->settled) {
		a->settled = false;
		pn_connection_driver_write_buffer(&a->driver);
	}
	pn = pn_delivery(l->pn, pn_dtag((const char *)tag.ptr, tag.len));
	if (!pn)
		return -ENOMEM;
	pn_delivery_set_context(pn, d ? (void *)d : l);
	if (pn_link_send(l->pn, (const char *)bytes.ptr, bytes.len) != (ssize_t)bytes.len) {
		pn_delivery_set_context(pn, NULL);
		pn_delivery_abort(pn);
		return -ENOMEM;
	}
	pn_link_advance(l->pn);
	if (hf_amqp_link_presettled(l))
		pn_delivery_settle(pn);
	if (d)
		d->pn = pn;
	hf_amqp_later(a);
	return 0;
}

static int encode(struct hf_amqp *a, const struct hf_amqp_msg *msg)
{
	hf_buf_reset(&a->encoded);
	return hf_amqp_encode(a->codec, msg, &a->encoded);
}

int hf_amqp_send(struct hf_amqp_link *l, struct hf_span tag, const struct hf_amqp_msg *msg, uint64_t cookie)
{
	struct hf_amqp_delivery *d = NULL;
	int r = hf_amqp_credit(l) > 0 ? encode(l->a, msg) : HF_EFULL;

	if (r != 0)
		return r;
	if (!hf_amqp_link_presettled(l)) {
		d = delivery_new(l, NULL);
		if (!d)
			return -ENOMEM;
		d->cookie = cookie;
		hf_list_add_tail(&l->sent, &d->node);
	}
	r = transmit(l, tag, hf_buf_span(&l->a->encoded), d);
	if (r != 0 && d) {
		hf_list_del(&d->node);
		free(d);
	}
	return r;
}

static int keep_post(struct hf_amqp_link *l, struct hf_span bytes)
{
	struct hf_amqp_post *p = l->n_posts < MAX_POSTS ? malloc(sizeof *p + bytes.len) : NULL;

	if (!p)
		return l->n_posts < MAX_POSTS ? -ENOMEM : HF_EFULL;
	p->len = bytes.len;
	memcpy(p->bytes, bytes.ptr, bytes.len);
	hf_list_add_tail(&l->posts, &p->node);
	l->n_posts++;
	return 0;
}

int hf_amqp_post(struct hf_amqp_link *l, const struct hf_amqp_msg *msg)
{
	int r = encode(l->a, msg);

	if (r != 0)
		return r;
	if (l->n_posts || hf_amqp_credit(l) == 0)
		return keep_post(l, hf_buf_span(&l->a->encoded));
	return transmit(l, hf_span(NULL, 0), hf_buf_span(&l->a->encoded), NULL);
}

void hf_amqp_usable(struct hf_amqp_link *l)
{
	while (l->n_posts && hf_amqp_credit(l) > 0) {
		struct hf_amqp_post *p = hf_container_of(l->posts.next, struct hf_amqp_post, node);

		if (transmit(l, hf_span(NULL, 0), hf_span(p->bytes, p->len), NULL) != 0)
			return;
		hf_list_del(&p->node);
		l->n_posts--;
		free(p);
	}
	if (hf_amqp_credit(l) > 0)
		l->a->ops->credit(l->a->arg, l);
}

/* --- settlement ------------------------------------------------------------------------------------------------- */

static const uint64_t states[] = { [HF_AMQP_ACCEPTED] = PN_ACCEPTED, [HF_AMQP_REJECTED] = PN_REJECTED,
				   [HF_AMQP_RELEASED] = PN_RELEASED, [HF_AMQP_MODIFIED] = PN_MODIFIED };

void hf_amqp_tell(struct hf_amqp_delivery *d, enum hf_amqp_outcome outcome)
{
	if (!d->link)
		return;
	pn_delivery_update(d->pn, states[outcome]);
	hf_amqp_later(d->link->a);
}

void hf_amqp_settle(struct hf_amqp_delivery *d, enum hf_amqp_outcome outcome, const char *condition, const char *text)
{
	struct hf_amqp_link *l = d->link;

	if (l) {
		if (condition) {
			pn_condition_t *c = pn_disposition_condition(pn_delivery_local(d->pn));

			pn_condition_set_name(c, condition);
			pn_condition_set_description(c, text);
		}
		pn_delivery_update(d->pn, states[outcome]);
		pn_delivery_settle(d->pn);
		l->a->settled = true;
		hf_list_del(&d->node);
		if (pn_link_is_receiver(l->pn))
			give_credit(l);
		hf_amqp_later(l->a);
	}
	free(d);
}

void hf_amqp_forget(struct hf_amqp_delivery *d)
{
	hf_list_del(&d->node);
	free(d);
}

bool hf_amqp_is_batch(const struct hf_amqp_delivery *d)
{
	return d->is_batch;
}
