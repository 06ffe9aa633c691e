/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Logins of identities on a connection (hub/model/clients.h): each begins with the identity's token or its first link and ends
 * when it has neither. */
#include "core/log.h"
#include "core/util.h"
#include "hub/amqp/amqp_int.h"

struct hub_amqp_login *hub_amqp_login_find(struct hub_amqp_conn *c, const char *id)
{
	return hf_map_get(c->logins, hf_span_str(id));
}

/* The identity was deleted, disabled, re-keyed, or its client is to be cut. When nobody else uses the connection it is
 * closed, without an error: Node's SDK comes back from a lost connection, but not from amqp:connection:forced. */
static void on_cut(void *arg, const char *why)
{
	struct hub_amqp_login *login = arg;
	struct hub_amqp_conn *c = login->conn;
	struct hf_list *pos;

	if (login->is_cut)
		return;
	login->is_cut = true;
	hf_log(HF_LOG_INFO, "hub.amqp.cut", "%s: \"%s\": %s", hf_conn_peer(login->client.conn), login->client.id, why);
	free(hf_map_remove(c->claims, hf_span_str(login->client.id)));
	if (hf_map_count(c->logins) == 1 && c->n_policies == 0) {
		hf_metric_add(HUB_M_AMQP_DETACHED, 1);
		hub_amqp_cut_off(c);
		return;
	}
	hf_list_for_each(pos, &c->links) {
		struct hub_amqp_link *l = hf_container_of(pos, struct hub_amqp_link, node);

		if (l->login == login)
			hub_amqp_link_detach(l, HUB_M_AMQP_DETACHED, "amqp:link:detach-forced", why);
	}
}

struct hub_amqp_login *hub_amqp_login_get(struct hub_amqp_conn *c, const char *id)
{
	struct hub_amqp_login *login = hub_amqp_login_find(c, id);

	if (login) {
		login->is_cut = false;
		return login;
	}
	login = calloc(1, sizeof *login);
	if (!login)
		return NULL;
	login->conn = c;
	login->client = (struct hub_client){ .protocol = c->is_ws ? "amqp-ws" : "amqp", .conn = hf_amqp_conn(c->amqp),
					     .cut = on_cut, .arg = login };
	memcpy(login->client.id, id, strlen(id) + 1);
	if (hf_map_put(c->logins, hf_span_str(id), login) != 0) {
		free(login);
		return NULL;
	}
	if (hub_client_add(c->head->model, &login->client) != 0) {
		hf_map_remove(c->logins, hf_span_str(id));
		free(login);
		return NULL;
	}
	return login;
}

static void login_free(struct hub_amqp_login *login)
{
	hub_client_remove(login->conn->head->model, &login->client);
	free(login->client.auth_chain);
	free(login);
}

void hub_amqp_login_settle(struct hub_amqp_login *login)
{
	struct hub_amqp_conn *c = login->conn;

	if (login->n_links || hf_map_get(c->claims, hf_span_str(login->client.id)))
		return;
	hf_map_remove(c->logins, hf_span_str(login->client.id));
	login_free(login);
}

void hub_amqp_logins_free(struct hub_amqp_conn *c)
{
	struct hf_span key;
	size_t pos = 0;
	void *login;

	while (c->logins && hf_map_next(c->logins, &pos, &key, &login))
		login_free(login);
	hf_map_destroy(&c->logins);
}
