/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Links from attach to their end: which kind, who may have them, what takes them away (iothub-protocol 2.3, 2.8, 2.9). */
#include "core/log.h"
#include "core/util.h"
#include "hub/amqp/amqp_int.h"

#include <errno.h>

#define MAX_MODEL_ID 256

static const struct hub_amqp_kind *const kinds[] = {
	&hub_amqp_cbs_requests, &hub_amqp_cbs_replies,
	&hub_amqp_c2d_send, &hub_amqp_feedback, &hub_amqp_file_notifications,
	&hub_amqp_event_readers, &hub_amqp_mgmt_requests, &hub_amqp_mgmt_replies, &hub_amqp_redirect_readers, &hub_amqp_redirect_senders,
	&hub_amqp_telemetry, &hub_amqp_c2d, &hub_amqp_inputs, &hub_amqp_twin_requests, &hub_amqp_twin_replies,
	&hub_amqp_method_requests, &hub_amqp_method_responses,
};

static const struct hub_amqp_kind *find_kind(const struct hub_amqp_addr *addr, bool we_send)
{
	for (size_t i = 0; i < HF_ARRAY_LEN(kinds); i++) {
		const struct hub_amqp_kind *k = kinds[i];

		if (k->we_send != we_send || (k->who == HUB_AMQP_IDENTITY) != (addr->ident[0] != '\0'))
			continue;
		for (size_t n = 0; n < HF_ARRAY_LEN(k->address) && k->address[n]; n++)
			if (hub_amqp_addr_is(addr, k->address[n]))
				return k;
	}
	return NULL;
}

/* --- the links of an identity ----------------------------------------------------------------------------------- */

struct hub_amqp_link *hub_amqp_link_of(struct hub_amqp *head, const char *id, enum hub_amqp_slot slot)
{
	struct hub_amqp_identity *who = hf_map_get(head->identities, hf_span_str(id));

	return who ? who->slot[slot] : NULL;
}

static bool take_slot(struct hub_amqp_link *l)
{
	struct hub_amqp *head = l->conn->head;
	struct hub_amqp_identity *who = hf_map_get(head->identities, hf_span_str(l->addr.ident));

	if (!who) {
		who = calloc(1, sizeof *who);
		if (!who)
			return false;
		memcpy(who->id, l->addr.ident, sizeof who->id);
		if (hf_map_put(head->identities, hf_span_str(who->id), who) != 0) {
			free(who);
			return false;
		}
	}
	if (who->slot[l->kind->slot]) {
		struct hub_amqp_link *old = who->slot[l->kind->slot];

		who->slot[l->kind->slot] = l;
		hub_amqp_link_detach(old, HUB_M_TAKEOVER, "amqp:link:stolen", "a newer link of the identity took its place");
	}
	who->slot[l->kind->slot] = l;
	return true;
}

static void leave_slot(struct hub_amqp_link *l)
{
	struct hub_amqp *head = l->conn->head;
	struct hub_amqp_identity *who = hf_map_get(head->identities, hf_span_str(l->addr.ident));

	if (!who || who->slot[l->kind->slot] != l)
		return;
	who->slot[l->kind->slot] = NULL;
	for (unsigned i = 0; i < HUB_AMQP__SLOTS; i++)
		if (who->slot[i])
			return;
	hf_map_remove(head->identities, hf_span_str(who->id));
	free(who);
}

/* --- the end ------------------------------------------------------------------------------------------------------ */

static void link_free(struct hub_amqp_link *l)
{
	hf_list_del(&l->node);
	if (l->login) {
		l->login->n_links--;
		hub_amqp_login_settle(l->login);
	}
	free(l);
}

static void end(struct hub_amqp_link *l)
{
	if (l->ended)
		return;
	l->ended = true;
	hub_hold_fini(&l->hold);
	hf_task_cancel(&l->task);
	if (l->open && l->kind->closed)
		l->kind->closed(l);
	if (l->kind->slot)
		leave_slot(l);
}

void hub_amqp_on_gone(struct hub_amqp_conn *c, struct hf_amqp_link *link)
{
	struct hub_amqp_link *l = hf_amqp_link_arg(link);

	(void)c;
	if (!l)
		return;
	end(l);
	link_free(l);
}

void hub_amqp_link_detach(struct hub_amqp_link *l, enum hub_metric metric, const char *condition, const char *text)
{
	static struct hf_log_limit limit;

	if (l->ended)
		return;
	hf_metric_add(metric, 1);
	hf_log_limited(&limit, HF_LOG_NOTICE, "hub.amqp.detach", "%s: %s link of \"%s\": %s: %s",
		       hf_conn_peer(hf_amqp_conn(l->conn->amqp)), l->kind->name, l->addr.ident, condition, text);
	end(l);
	hf_amqp_link_detach(l->link, condition, text);
}

static void refuse(struct hub_amqp_conn *c, struct hf_amqp_link *link, const char *condition, const char *text)
{
	static struct hf_log_limit limit;

	hf_metric_add(HUB_M_AMQP_REFUSED, 1);
	hf_log_limited(&limit, HF_LOG_NOTICE, "hub.amqp.refused", "%s: link to \"%.200s\": %s: %s",
		       hf_conn_peer(hf_amqp_conn(c->amqp)), hf_amqp_link_address(link), condition, text);
	hf_amqp_link_refuse(link, condition, text);
}

void hub_amqp_link_refuse(struct hub_amqp_link *l, const char *condition, const char *text)
{
	refuse(l->conn, l->link, condition, text);
}

/* --- the beginning -------------------------------------------------------------------------------------------------- */

static const char *may_act_as(struct hub_amqp_link *l, const char *auth_chain, const char **ret_auth_type)
{
	const struct hub_ident *ident;
	const char *why = hub_ident_usable(l->conn->head->model, hf_span_str(l->addr.ident), &ident);

	return why ? why : hub_amqp_may_act_as(l->conn, ident, auth_chain, ret_auth_type);
}

static const char *check(struct hub_amqp_link *l, const char **ret_auth_type)
{
	switch (l->kind->who) {
	case HUB_AMQP_ANYBODY: return NULL;
	case HUB_AMQP_SERVICE: return hub_amqp_may_serve(l->conn, HUB_SERVICE_CONNECT);
	case HUB_AMQP_IDENTITY: break;
	}
	return may_act_as(l, l->login ? l->login->client.auth_chain : NULL, ret_auth_type);
}

void hub_amqp_recheck(struct hub_amqp_conn *c)
{
	const char *why, *auth_type;
	struct hf_list *pos;

	hf_list_for_each(pos, &c->links) {
		struct hub_amqp_link *l = hf_container_of(pos, struct hub_amqp_link, node);

		why = l->ended ? NULL : check(l, &auth_type);
		if (why)
			hub_amqp_link_detach(l, HUB_M_EXPIRED, "amqp:unauthorized-access", why);
	}
}

enum progress { GO_ON, REFUSED, WAITING };

/* What a fault rule does to the attach that would log in. */
static enum progress follow_fault(struct hub_amqp_link *l)
{
	struct hub_fault fault;
	int status;

	if (l->was_held || !hub_amqp_login_fault(l->conn, l->addr.ident, &fault))
		return GO_ON;
	status = hub_amqp_login_status(&fault);
	if (status) {
		hub_amqp_link_refuse(l, hub_amqp_condition(status), status == 429 ? "too many connections" : "refused by a fault rule");
		return REFUSED;
	}
	if (fault.action == HUB_DO_DELAY)
		hub_amqp_hold_attach(l, fault.ms);
	else if (fault.action == HUB_DO_DROP)
		hub_amqp_cut_off(l->conn);
	return WAITING;		/* for ever, if it hangs */
}

/* What the attach tells of the identity is kept: the model, and the chain by which a gateway acts for it. */
static int note_properties(struct hub_amqp_link *l, const struct hub_ident *ident, struct hub_amqp_login *login,
			   const char *auth_chain)
{
	hf_autobuf struct hf_buf model_id = HF_BUF_INIT(MAX_MODEL_ID);

	if (auth_chain && !login->client.auth_chain && !(login->client.auth_chain = strdup(auth_chain)))
		return -ENOMEM;
	if (!hf_amqp_link_property(l->link, "com.microsoft:model-id", &model_id) || hf_buf_len(&model_id) == 0)
		return 0;
	return hub_twin_set_model(l->conn->head->model, ident, hf_buf_cstr(&model_id));
}

static enum progress log_in(struct hub_amqp_link *l)
{
	hf_autobuf struct hf_buf chain = HF_BUF_INIT(1024);
	const char *auth_chain = NULL, *auth_type, *why;
	struct hub_amqp_login *login;
	const struct hub_ident *ident;
	enum progress p;

	if (hf_amqp_link_property(l->link, "com.microsoft:auth-chain", &chain) && hf_buf_len(&chain))
		auth_chain = hf_buf_cstr(&chain);
	ident = hub_ident_find(l->conn->head->model, hf_span_str(l->addr.ident));
	if (!ident && l->conn->n_policies) {	/* devices do not learn who else there is */
		hub_amqp_link_refuse(l, "amqp:not-found", "identity unknown");
		return REFUSED;
	}
	why = may_act_as(l, auth_chain, &auth_type);
	if (why) {
		hub_amqp_link_refuse(l, "amqp:unauthorized-access", why);
		return REFUSED;
	}
	p = follow_fault(l);
	if (p != GO_ON)
		return p;
	login = hub_amqp_login_get(l->conn, l->addr.ident);
	if (!login || note_properties(l, ident, login, auth_chain) != 0) {
		hub_amqp_link_refuse(l, "amqp:internal-error", "no memory");
		if (login)
			hub_amqp_login_settle(login);
		return REFUSED;
	}
	login->auth_type = auth_type;
	login->n_links++;
	l->login = login;
	return GO_ON;
}

static enum progress authorise(struct hub_amqp_link *l)
{
	const char *why;

	if (l->kind->who == HUB_AMQP_IDENTITY)
		return log_in(l);
	why = check(l, NULL);
	if (why)
		hub_amqp_link_refuse(l, "amqp:unauthorized-access", why);
	return why ? REFUSED : GO_ON;
}

static void open_link(void *arg)
{
	struct hub_amqp_link *l = arg;
	const struct hub_amqp_kind *k = l->kind;
	enum progress p = authorise(l);

	if (p == WAITING)
		return;
	l->was_held = false;
	if (p == GO_ON && k->slot && !take_slot(l)) {
		hub_amqp_link_refuse(l, "amqp:internal-error", "no memory");
		p = REFUSED;
	}
	if (p == GO_ON && k->open && k->open(l) == HUB_AMQP_ANSWERED)
		p = REFUSED;
	if (p == REFUSED) {
		hf_amqp_link_set_arg(l->link, NULL);
		end(l);
		link_free(l);
		return;
	}
	l->open = true;
	hf_amqp_link_accept(l->link, k->credit, k->max_message);
}

void hub_amqp_on_attach(struct hub_amqp_conn *c, struct hf_amqp_link *link)
{
	struct hub_amqp_link *l = calloc(1, sizeof *l);

	if (!l) {
		refuse(c, link, "amqp:internal-error", "no memory");
		return;
	}
	l->conn = c;
	l->link = link;
	hub_hold_init(&l->hold, c->head->loop, hub_model_faults(c->head->model));
	hf_task_init(&l->task, open_link, l);
	if (hub_amqp_addr_parse(c->head->model, hf_amqp_link_address(link), &l->addr) == 0)
		l->kind = find_kind(&l->addr, hf_amqp_link_we_send(link));
	if (!l->kind) {
		refuse(c, link, "amqp:not-found", "nothing is served at this address");
		free(l);
		return;
	}
	hf_list_add_tail(&c->links, &l->node);
	hf_amqp_link_set_arg(link, l);
	open_link(l);
}
