/* SPDX-License-Identifier: GPL-3.0-or-later */
/* ctl/ctl.h - the control commands of holdfastd (docs/control-protocol.md). Main thread. */
#pragma once
#include "conf/holdfastd_conf.h"
#include "gw/gw.h"
#include "kern/steer.h"

struct hf_ctl;
struct hf_ctl_cfg {
	int listen_fd;			/* unix socket, taken */
	int write_gid;			/* -1 = root only */
	struct hf_loop *loop;
	struct hf_inbox *inbox;		/* of the main thread: answers of other threads */
	struct hf_store *store;
	const struct hf_auth_clock *clock;
	struct hf_upstream *up;
	struct hf_gw *gw;
	struct hf_steer *steer;
	struct hf_conf *const *conf;	/* the configuration in force; reload changes what it points to */
};
int hf_ctl_create(const struct hf_ctl_cfg *cfg, struct hf_ctl **ret_ctl);
/* Closes the socket; calls that wait for another thread still end first: run the loop until hf_ctl_idle. */
void hf_ctl_stop(struct hf_ctl *ctl);
bool hf_ctl_idle(const struct hf_ctl *ctl);
void hf_ctl_destroy(struct hf_ctl **ctl);
