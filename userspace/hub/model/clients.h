/* SPDX-License-Identifier: GPL-3.0-or-later */
/* hub/model/clients.h - connections and who is logged in just now, over any head. Loop thread; nothing blocks. */
#pragma once
#include "hub/model/model.h"
#include "net/conn.h"

/* Connections of the MQTT and the AMQP head together. The owner of both heads sets max; the rest is for clients.c alone. */
struct hub_conn_limit { unsigned max, n; };
/* True: one more is to be closed; counted and logged here. */
bool hub_conn_limit_reached(const struct hub_conn_limit *c);
void hub_conn_limit_add(struct hub_conn_limit *c);
void hub_conn_limit_remove(struct hub_conn_limit *c);

/* One login of one identity (device or module). Embed it; it lives until hub_client_remove. An AMQP connection has one for each of its
 * identities. */
struct hub_client {
	struct hf_list node, all_node;
	const char *protocol;		/* "mqtt", "mqtt-ws", "amqp", "amqp-ws" */
	struct hf_conn *conn;		/* for peer and cipher */
	int64_t since_ms;		/* wall clock, set by hub_client_add */
	/* Ends the login: closes the connection, or detaches the identity's links. hub_client_remove follows later, not
	 * within the call; cut may come again until then. */
	void (*cut)(void *arg, const char *why);
	void *arg;
	char *auth_chain;		/* by which a gateway acts for the identity, NULL = nobody does; the head's */
	char id[HF_IDENT_MAX + 1];
};
int hub_clients_create(struct hub_model *m, struct hub_clients **ret_clients);
void hub_clients_destroy(struct hub_clients **clients);
/* protocol, conn, cut, arg and id are set. Counts the identity's connections and stamps its activity. -ENOMEM. */
int hub_client_add(struct hub_model *m, struct hub_client *client);
void hub_client_remove(struct hub_model *m, struct hub_client *client);	/* does nothing for one that is not added */
/* Cuts every login of the identity; how many there were. */
unsigned hub_client_cut(struct hub_model *m, const char *id, const char *why);
/* The switch of one device: cut, its logins and its modules' end and none is let in until it is set back (hub/fault/fault.h).
 * HF_ELIMIT, -ENOMEM. */
int hub_client_cut_off(struct hub_model *m, const struct hub_ident *device, bool cut);
unsigned hub_clients_count(struct hub_model *m);
/* One object for each login: id, protocol, peer, cipher, connectedAt. */
void hub_clients_list(struct hub_model *m, void (*fn)(void *arg, json_t *item), void *arg);
