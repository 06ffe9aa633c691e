/* SPDX-License-Identifier: GPL-3.0-or-later */
/* hub/amqp/amqp.h - the emulator's AMQP 1.0 head on 5671 and over WebSocket: devices, modules, services, readers of events
 * (iothub-protocol 2, 3). Loop thread. */
#pragma once
#include "hub/model/clients.h"

struct hub_amqp;
struct hub_amqp_cfg {
	int listen_fd;			/* taken */
	struct hf_tls_ctx *tls;
	struct hub_conn_limit *limit;	/* shared with the other heads; outlives this one */
};
int hub_amqp_create(struct hf_loop *loop, struct hub_model *model, const struct hub_amqp_cfg *cfg,
		    struct hub_amqp **ret_amqp);
/* Takes a connection of the WebSocket endpoint that will speak AMQP, framing on it, or closes it. */
void hub_amqp_adopt(struct hub_amqp *amqp, struct hf_conn *conn);
/* Two-phase teardown: stop closes listener and connections; destroy once hub_amqp_count is 0. */
void hub_amqp_stop(struct hub_amqp *amqp);
unsigned hub_amqp_count(const struct hub_amqp *amqp);
void hub_amqp_destroy(struct hub_amqp **amqp);
