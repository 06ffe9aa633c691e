/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Connections of the AMQP head: accept, limits, sweep of idle and expired ones, teardown. */
#include "core/clock.h"
#include "core/log.h"
#include "core/util.h"
#include "hub/amqp/amqp_int.h"
#include "net/listener.h"

#include <errno.h>
#include <holdfast/err.h>

#define IDLE_MS 240000		/* iothub-protocol 2.1 */
#define CLAIM_LIMIT_MS 30000	/* without a claim or a link of an identity */
#define LINKS_WITHOUT_CLAIM 16
#define MAX_ENCODED (1u << 20)	/* of one message, everything included */

/* --- the end of a connection ---------------------------------------------------------------------------------------- */

void hub_amqp_drop(struct hub_amqp_conn *c, enum hub_metric metric, const char *condition, const char *why)
{
	static struct hf_log_limit limit;

	if (c->closing)
		return;
	hf_metric_add(metric, 1);
	hf_log_limited(&limit, HF_LOG_NOTICE, "hub.amqp.drop", "%s: %s: %s", hf_conn_peer(hf_amqp_conn(c->amqp)), condition, why);
	c->closing = true;
	hf_amqp_close(c->amqp, condition, why);
}

static void conn_free(struct hub_amqp_conn *c)
{
	hub_amqp_logins_free(c);
	hub_amqp_claims_free(c);
	hf_list_del(&c->node);
	free(c);
}

static void on_closed(void *arg, int err, const char *detail)
{
	struct hub_amqp_conn *c = arg;
	struct hub_amqp *head = c->head;

	if (err && !hub_amqp_has_claims(c))
		hf_metric_add(HUB_M_TLS_FAILED, err == HF_ETLS || err == HF_ETIMEOUT);
	if (err)
		hf_log(HF_LOG_DEBUG, "hub.amqp.closed", "%s: %s (%s)", hf_conn_peer(hf_amqp_conn(c->amqp)), hf_strerror(err),
		       detail ? detail : "");
	hub_amqp_answers_cancel(c);
	head->n_connections--;
	hub_conn_limit_remove(head->limit);
	conn_free(c);
}

/* --- what the engine tells --------------------------------------------------------------------------------------------- */

static bool on_sasl(void *arg, const char *mechanism, struct hf_span user, struct hf_span password)
{
	return hub_amqp_on_sasl(arg, mechanism, user, password);
}

static void on_attach(void *arg, struct hf_amqp_link *link)
{
	hub_amqp_on_attach(arg, link);
}

static void on_gone(void *arg, struct hf_amqp_link *link)
{
	hub_amqp_on_gone(arg, link);
}

static bool on_message(void *arg, struct hf_amqp_link *link, struct hf_amqp_delivery *d, struct hf_span raw,
		       const struct hf_amqp_msg *msg)
{
	struct hub_amqp_link *l = hf_amqp_link_arg(link);

	(void)arg;
	return l->kind->message(l, d, raw, msg);
}

static void on_outcome(void *arg, struct hf_amqp_link *link, struct hf_amqp_delivery *d, uint64_t cookie, struct hf_span tag,
		       enum hf_amqp_outcome outcome)
{
	struct hub_amqp_link *l = hf_amqp_link_arg(link);

	(void)arg;
	if (l->kind->outcome)
		l->kind->outcome(l, d, cookie, tag, outcome);
	else
		hf_amqp_settle(d, outcome, NULL, NULL);
}

static void on_credit(void *arg, struct hf_amqp_link *link)
{
	struct hub_amqp_link *l = hf_amqp_link_arg(link);

	(void)arg;
	if (l->kind->credit_given)
		l->kind->credit_given(l);
}

static void on_malformed(void *arg, int err, const char *why)
{
	static struct hf_log_limit limit;
	struct hub_amqp_conn *c = arg;

	hf_metric_add(err == HF_ELIMIT ? HUB_M_AMQP_LIMIT : err == HF_ETIMEOUT ? HUB_M_KEEPALIVE : HUB_M_AMQP_MALFORMED, 1);
	hf_log_limited(&limit, HF_LOG_NOTICE, "hub.amqp.malformed", "%s: %s", hf_conn_peer(hf_amqp_conn(c->amqp)), why);
}

static const struct hf_amqp_ops ops = {
	.authenticate = on_sasl, .attach = on_attach, .gone = on_gone, .message = on_message, .outcome = on_outcome,
	.credit = on_credit, .malformed = on_malformed, .closed = on_closed,
};

/* --- connections ------------------------------------------------------------------------------------------------------------ */

static struct hub_amqp_conn *conn_new(struct hub_amqp *head)
{
	struct hub_amqp_conn *c = calloc(1, sizeof *c);

	if (!c)
		return NULL;
	hf_list_init(&c->node);
	hf_list_init(&c->links);
	hf_list_init(&c->answers);
	hub_hold_init(&c->hold, head->loop, hub_model_faults(head->model));
	c->head = head;
	c->since_ms = hf_loop_now_ms(head->loop);
	if (hf_map_create(&c->claims) != 0 || hf_map_create(&c->logins) != 0) {
		conn_free(c);
		return NULL;
	}
	return c;
}

static void take(struct hub_amqp *head, struct hf_conn *conn, bool is_ws)
{
	static const struct hf_amqp_cfg cfg = { .container_id = "holdfast-hub", .idle_timeout_ms = IDLE_MS,
						.max_message = MAX_ENCODED, .max_links = LINKS_WITHOUT_CLAIM };
	struct hub_amqp_conn *c = conn_new(head);

	if (!c) {
		hf_conn_close(conn);
		return;
	}
	c->is_ws = is_ws;
	if (hf_amqp_create(conn, &cfg, &ops, c, &c->amqp) != 0) {
		conn_free(c);
		return;
	}
	hf_list_add_tail(&head->conns, &c->node);
	head->n_connections++;
	hub_conn_limit_add(head->limit);
}

static void nobody_data(void *arg, struct hf_conn *c, struct hf_span in)
{
	(void)arg;
	(void)c;
	(void)in;
}

static void nobody_closed(void *arg, struct hf_conn *c, int err, const char *detail)
{
	(void)arg;
	(void)c;
	(void)err;
	(void)detail;
}

static void on_accept(void *arg, int fd, const struct sockaddr_storage *peer)
{
	static const struct hf_conn_ops nobody = { .data = nobody_data, .closed = nobody_closed };
	struct hub_amqp *head = arg;
	struct hf_conn_cfg cfg = { .tls = head->tls };
	struct hf_conn *conn;

	(void)peer;
	if (hub_conn_limit_reached(head->limit))
		close(fd);
	else if (hf_conn_create(head->loop, fd, &cfg, &nobody, NULL, &conn) == 0)
		take(head, conn, false);
}

void hub_amqp_adopt(struct hub_amqp *head, struct hf_conn *conn)
{
	if (head->listener && !hub_conn_limit_reached(head->limit))
		take(head, conn, true);
	else
		hf_conn_close(conn);
}

/* --- time --------------------------------------------------------------------------------------------------------------------- */

static void sweep_one(struct hub_amqp_conn *c, uint64_t now, int64_t wall)
{
	struct hf_span key;
	size_t pos = 0;
	void *login;

	hf_amqp_tick(c->amqp, now);
	if (c->closing)
		return;
	if (c->plain_expiry_s && wall > c->plain_expiry_s + HUB_AMQP_GRACE_S) {
		hub_amqp_drop(c, HUB_M_EXPIRED, "amqp:unauthorized-access", "token expired");
		return;
	}
	hub_amqp_claims_expire(c, wall);
	while (hf_map_next(c->logins, &pos, &key, &login))
		if (((struct hub_amqp_login *)login)->is_cut)
			hub_amqp_login_settle(login);
	if (!hub_amqp_has_claims(c) && hf_map_count(c->logins) == 0 && now - c->since_ms > CLAIM_LIMIT_MS)
		hub_amqp_drop(c, HUB_M_KEEPALIVE, "amqp:connection:forced", "no token and no link of an identity in time");
	else if (hub_amqp_has_claims(c) || hf_map_count(c->logins))
		c->since_ms = now;
}

static void on_sweep(void *arg)
{
	struct hub_amqp *head = arg;
	uint64_t now = hf_loop_now_ms(head->loop);
	int64_t wall = hf_clock_wall_s();
	struct hf_list *pos, *tmp;

	hf_list_for_each_safe(pos, tmp, &head->conns)
		sweep_one(hf_container_of(pos, struct hub_amqp_conn, node), now, wall);
}

int hub_amqp_create(struct hf_loop *loop, struct hub_model *model, const struct hub_amqp_cfg *cfg,
		    struct hub_amqp **ret_amqp)
{
	struct hub_amqp *head = calloc(1, sizeof *head);
	int r;

	if (!head) {
		close(cfg->listen_fd);
		return -ENOMEM;
	}
	hf_list_init(&head->conns);
	hub_amqp_out_init(&head->out);
	head->loop = loop;
	head->model = model;
	head->tls = cfg->tls ? hf_tls_ctx_ref(cfg->tls) : NULL;
	head->limit = cfg->limit;
	r = hf_listener_create(loop, cfg->listen_fd, on_accept, head, &head->listener);
	if (r == 0)
		r = hf_map_create(&head->identities);
	if (r == 0)
		r = hf_amqp_codec_create(&head->codec);
	if (r == 0)
		r = hf_timer_create(loop, on_sweep, head, &head->sweep);
	if (r == 0)
		r = hub_amqp_events_create(head);
	if (r != 0) {
		hub_amqp_destroy(&head);
		return r;
	}
	hf_timer_start(head->sweep, 1000, 1000);
	hub_amqp_feedback_init(head);
	hf_random(head->salt, sizeof head->salt);
	hub_on_c2d(model, hub_amqp_on_c2d, head);
	hub_on_desired(model, hub_amqp_on_desired, head);
	*ret_amqp = head;
	return 0;
}

void hub_amqp_stop(struct hub_amqp *head)
{
	struct hf_list *pos, *tmp;

	hf_listener_destroy(&head->listener);
	hf_list_for_each_safe(pos, tmp, &head->conns) {
		struct hub_amqp_conn *c = hf_container_of(pos, struct hub_amqp_conn, node);

		if (!c->closing)
			hub_amqp_cut_off(c);	/* clients come back as from a lost connection */
	}
}

unsigned hub_amqp_count(const struct hub_amqp *head)
{
	return head->n_connections;
}

void hub_amqp_destroy(struct hub_amqp **amqp)
{
	struct hub_amqp *head = *amqp;

	if (!head)
		return;
	assert(head->n_connections == 0);
	hub_amqp_events_destroy(head);
	hf_listener_destroy(&head->listener);
	hf_timer_destroy(&head->sweep);
	hf_map_destroy(&head->identities);
	hf_amqp_codec_destroy(&head->codec);
	hub_amqp_out_fini(&head->out);
	hf_tls_ctx_unref(&head->tls);
	free(head);
	*amqp = NULL;
}
