/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The command table. */
#include "core/clock.h"
#include "core/util.h"
#include "ctl/ctl_int.h"
#include <errno.h>

const char *hf_ctl_arg(const json_t *args, const char *name)
{
	return json_string_value(json_object_get(args, name));
}

static const struct hf_ctl_cmd commands[] = {
	{ "status", false, "state of the gateway in one object", hf_cmd_status },
	{ "children.list", false, "connected children", hf_cmd_children_list },
	{ "children.show", false, "one child: connection, stored session, ledger", hf_cmd_children_show },
	{ "children.disconnect", true, "end a child's connection", hf_cmd_children_disconnect },
	{ "queue.show", false, "ledger of the queue, a row per child", hf_cmd_queue_show },
	{ "queue.peek", true, "oldest stored messages, with bodies", hf_cmd_queue_peek },
	{ "upstream.show", false, "uplink, sessions, scope, time to live", hf_cmd_upstream_show },
	{ "upstream.reconnect", true, "connect to the hub anew, now", hf_cmd_upstream_reconnect },
	{ "kern.show", false, "kernel fast paths and their counters", hf_cmd_kern_show },
	{ "counters", false, "all counters", hf_cmd_counters },
	{ "conf.show", false, "effective configuration", hf_cmd_conf_show },
	{ "log.level", true, "show or set the log level", hf_cmd_log_level },
	{ 0 },
};

int hf_ctl_create(const struct hf_ctl_cfg *cfg, struct hf_ctl **ret_ctl)
{
	struct hf_ctl *ctl = calloc(1, sizeof *ctl);
	int r;

	if (!ctl) {
		close(cfg->listen_fd);
		return -ENOMEM;
	}
	ctl->cfg = *cfg;
	ctl->started_ms = hf_clock_mono_ms();
	r = hf_ctl_srv_create(cfg->loop, cfg->listen_fd, cfg->write_gid, commands, ctl, &ctl->srv);
	if (r != 0) {
		free(ctl);
		return r;
	}
	*ret_ctl = ctl;
	return 0;
}

void hf_ctl_stop(struct hf_ctl *ctl)
{
	hf_ctl_srv_destroy(&ctl->srv);
}

bool hf_ctl_idle(const struct hf_ctl *ctl)
{
	return ctl->n_waiting == 0;
}

void hf_ctl_destroy(struct hf_ctl **ctl)
{
	free(*ctl);
	*ctl = NULL;
}
