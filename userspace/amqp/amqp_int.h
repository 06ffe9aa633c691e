/* SPDX-License-Identifier: GPL-3.0-or-later */
/* amqp/amqp_int.h - inside of a connection. */
#pragma once
#include "amqp/amqp.h"
#include "core/list.h"

#include <proton/connection_driver.h>
#include <proton/engine.h>

struct hf_amqp {
	struct hf_conn *conn;
	struct hf_loop *loop;
	const struct hf_amqp_ops *ops;
	void *arg;
	pn_connection_driver_t driver;
	struct hf_amqp_codec *codec;
	struct hf_buf encoded;
	struct hf_task pump;		/* events and output after calls of the owner */
	struct hf_list links;		/* accepted ones */
	uint64_t max_message, next_tag;
	uint64_t close_at_ms;		/* set: our close waits for the peer's */
	bool pumping, dead, sasl_refused;
};
struct hf_amqp_link {
	struct hf_list node;
	struct hf_amqp *a;
	pn_link_t *pn;			/* NULL once gone */
	void *arg;
	struct hf_buf in;		/* a message that is coming in */
	struct hf_list deliveries;	/* received, not settled */
	unsigned used;			/* credit to give back */
	bool accepted;
};
struct hf_amqp_delivery {
	struct hf_list node;
	struct hf_amqp_link *link;	/* NULL once the link went */
	pn_delivery_t *pn;
};

/* amqp_sasl.c: offers MSSBCBS, PLAIN, ANONYMOUS, EXTERNAL on the connection's transport. */
void hf_amqp_sasl_init(struct hf_amqp *a);
/* amqp_link.c */
void hf_amqp_link_remote_open(struct hf_amqp *a, pn_link_t *pn);
void hf_amqp_link_remote_close(struct hf_amqp *a, pn_link_t *pn);
void hf_amqp_link_free(struct hf_amqp_link *l);		/* tells gone */
void hf_amqp_on_delivery(struct hf_amqp *a, pn_delivery_t *d);
void hf_amqp_later(struct hf_amqp *a);			/* pump at the end of this turn */
