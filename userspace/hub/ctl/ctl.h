/* SPDX-License-Identifier: GPL-3.0-or-later */
/* hub/ctl/ctl.h - the emulator's control socket: registry, events, twins, methods for the command line and tests. */
#pragma once
#include "hub/model/model.h"

struct hub_ctl;
struct hub_portal;
struct hub_ctl_cfg {
	int listen_fd;		/* unix socket, taken */
	const char *host;
	struct hub_portal *portal;	/* borrowed; NULL = none */
};
int hub_ctl_create(struct hf_loop *loop, struct hub_model *model, const struct hub_ctl_cfg *cfg, struct hub_ctl **ret_ctl);
void hub_ctl_destroy(struct hub_ctl **ctl);
