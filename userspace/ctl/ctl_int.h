/* SPDX-License-Identifier: GPL-3.0-or-later */
/* ctl/ctl_int.h - shared by the command families. */
#pragma once
#include "ctl/ctl.h"
#include "ctlproto/ctlproto.h"

struct hf_ctl {
	struct hf_ctl_cfg cfg;
	struct hf_ctl_srv *srv;
	unsigned n_waiting;		/* calls whose answer comes from another thread */
	uint64_t started_ms;
};
const char *hf_ctl_arg(const json_t *args, const char *name);

void hf_cmd_status(void *arg, struct hf_ctl_call *call, const json_t *args);
void hf_cmd_counters(void *arg, struct hf_ctl_call *call, const json_t *args);
void hf_cmd_kern_show(void *arg, struct hf_ctl_call *call, const json_t *args);
void hf_cmd_conf_show(void *arg, struct hf_ctl_call *call, const json_t *args);
void hf_cmd_log_level(void *arg, struct hf_ctl_call *call, const json_t *args);
void hf_cmd_children_list(void *arg, struct hf_ctl_call *call, const json_t *args);
void hf_cmd_children_show(void *arg, struct hf_ctl_call *call, const json_t *args);
void hf_cmd_children_disconnect(void *arg, struct hf_ctl_call *call, const json_t *args);
void hf_cmd_queue_show(void *arg, struct hf_ctl_call *call, const json_t *args);
void hf_cmd_queue_peek(void *arg, struct hf_ctl_call *call, const json_t *args);
void hf_cmd_upstream_show(void *arg, struct hf_ctl_call *call, const json_t *args);
void hf_cmd_upstream_reconnect(void *arg, struct hf_ctl_call *call, const json_t *args);
