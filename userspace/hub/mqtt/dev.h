/* SPDX-License-Identifier: GPL-3.0-or-later */
/* hub/mqtt/dev.h - the emulator's MQTT head on 8883: devices and modules (iothub-protocol 1). Loop thread. */
#pragma once
#include "hub/model/clients.h"

struct hub_dev;
struct hub_dev_cfg {
	int listen_fd;			/* taken */
	struct hf_tls_ctx *tls;
	const char *host;		/* H: must be named by user name and token */
	struct hub_conn_limit *limit;	/* shared with the other heads; outlives this one */
};
int hub_dev_create(struct hf_loop *loop, struct hub_model *model, const struct hub_dev_cfg *cfg,
		   struct hub_dev **ret_dev);
/* Takes a connection of the WebSocket endpoint that will speak MQTT, framing already on it, or closes it. */
void hub_dev_adopt(struct hub_dev *dev, struct hf_conn *conn);
/* Two-phase teardown: stop closes listener and connections; destroy once hub_dev_count is 0. */
void hub_dev_stop(struct hub_dev *dev);
unsigned hub_dev_count(const struct hub_dev *dev);
void hub_dev_destroy(struct hub_dev **dev);
