/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "hub/model/clients.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/map.h"
#include "core/util.h"
#include "hub/auth.h"
#include "hub/fault/fault.h"
#include "hub/metrics.h"

#include <errno.h>

/* The logins of one identity. */
struct logins { struct hf_list list; };

struct hub_clients {
	struct hf_map *by_id;		/* id -> struct logins */
	struct hf_list all;
	unsigned n;
};

bool hub_conn_limit_reached(const struct hub_conn_limit *c)
{
	static struct hf_log_limit limit;

	if (c->n < c->max)
		return false;
	hf_metric_add(HUB_M_REFUSED_MAX, 1);
	hf_log_limited(&limit, HF_LOG_WARN, "hub.connections.limit", "%u connections: refusing more", c->n);
	return true;
}

void hub_conn_limit_add(struct hub_conn_limit *c)
{
	c->n++;
	hf_metric_add(HUB_M_ACCEPTED, 1);
	hf_metric_add(HUB_M_CONNECTIONS, 1);
}

void hub_conn_limit_remove(struct hub_conn_limit *c)
{
	c->n--;
	hf_metric_add(HUB_M_CONNECTIONS, -1);
}

static void on_ident_change(void *arg, const char *id)
{
	hub_client_cut(arg, id, "the identity was deleted, disabled or re-keyed");
}

/* Gateways act for children only as long as they are their parents. */
static void on_scopes(void *arg)
{
	struct hub_model *m = arg;
	struct hf_list *pos, *tmp;

	hf_list_for_each_safe(pos, tmp, &hub_model_clients(m)->all) {
		struct hub_client *client = hf_container_of(pos, struct hub_client, all_node);

		if (client->auth_chain && !hub_chain_holds(m, client->id, client->auth_chain))
			client->cut(client->arg, "its auth-chain no longer holds");
	}
}

int hub_clients_create(struct hub_model *m, struct hub_clients **ret_clients)
{
	struct hub_clients *c = calloc(1, sizeof *c);

	if (!c)
		return -ENOMEM;
	hf_list_init(&c->all);
	if (hf_map_create(&c->by_id) != 0) {
		free(c);
		return -ENOMEM;
	}
	hub_on_ident_change(m, on_ident_change, m);
	hub_on_scopes(m, on_scopes, m);
	*ret_clients = c;
	return 0;
}

void hub_clients_destroy(struct hub_clients **clients)
{
	struct hub_clients *c = *clients;

	if (!c)
		return;
	hf_map_destroy(&c->by_id);
	free(c);
	*clients = NULL;
}

int hub_client_add(struct hub_model *m, struct hub_client *client)
{
	struct hub_clients *c = hub_model_clients(m);
	struct logins *l = hf_map_get(c->by_id, hf_span_str(client->id));

	if (!l) {
		l = malloc(sizeof *l);
		if (!l || hf_map_put(c->by_id, hf_span_str(client->id), l) != 0) {
			free(l);
			return -ENOMEM;
		}
		hf_list_init(&l->list);
	}
	client->since_ms = hf_clock_wall_ms();
	hf_list_add_tail(&l->list, &client->node);
	hf_list_add_tail(&c->all, &client->all_node);
	c->n++;
	hub_ident_connected(m, client->id, true);
	return 0;
}

void hub_client_remove(struct hub_model *m, struct hub_client *client)
{
	struct hub_clients *c = hub_model_clients(m);
	struct logins *l = hf_map_get(c->by_id, hf_span_str(client->id));

	if (!l || !hf_list_linked(&client->node))
		return;
	hf_list_del(&client->node);
	hf_list_del(&client->all_node);
	c->n--;
	if (hf_list_empty(&l->list)) {
		hf_map_remove(c->by_id, hf_span_str(client->id));
		free(l);
	}
	hub_ident_connected(m, client->id, false);
}

unsigned hub_client_cut(struct hub_model *m, const char *id, const char *why)
{
	struct hub_clients *c = hub_model_clients(m);
	struct logins *l = hf_map_get(c->by_id, hf_span_str(id));
	struct hf_list *pos;
	unsigned n = 0;

	if (l)
		hf_list_for_each(pos, &l->list) {
			struct hub_client *client = hf_container_of(pos, struct hub_client, node);

			client->cut(client->arg, why);
			n++;
		}
	return n;
}

int hub_client_cut_off(struct hub_model *m, const struct hub_ident *device, bool cut)
{
	static const char why[] = "cut off by the operator";
	int r = hub_fault_cut_off(hub_model_faults(m), device->id, cut);

	if (r != 0 || !cut)
		return r;
	hub_client_cut(m, device->id, why);
	for (const struct hub_ident *mod = hub_module_next(m, device->id, NULL); mod; mod = hub_module_next(m, device->id, mod->module_id))
		hub_client_cut(m, mod->id, why);
	return 0;
}

unsigned hub_clients_count(struct hub_model *m)
{
	return hub_model_clients(m)->n;
}

void hub_clients_list(struct hub_model *m, void (*fn)(void *arg, json_t *item), void *arg)
{
	struct hf_list *pos;

	hf_list_for_each(pos, &hub_model_clients(m)->all) {
		const struct hub_client *client = hf_container_of(pos, struct hub_client, all_node);
		char since[32];

		hf_iso8601(client->since_ms, since);
		fn(arg, json_pack("{ss ss ss ss ss}", "id", client->id, "protocol", client->protocol, "peer",
				  hf_conn_peer(client->conn), "cipher", hf_tls_cipher(hf_conn_tls(client->conn)),
				  "connectedAt", since));
	}
}
