/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ctl/cli.h"
#include "conf/holdfastd_conf.h"
#include "core/util.h"
#include <stdio.h>

#define END { 0 }

static const struct hf_cli_arg child_args[] = {
	{ NULL, NULL, "id", HF_CLI_STR, true, "CHILD", "DEVICE or DEVICE/MODULE" },
	END,
};
static const struct hf_cli_arg peek_args[] = {
	{ NULL, NULL, "id", HF_CLI_STR, false, "CHILD", "only this child's messages" },
	{ "--max", "-n", "max", HF_CLI_INT, false, "N", "how many, default 10, at most 1000" },
	END,
};
static const struct hf_cli_arg level_args[] = {
	{ NULL, NULL, "level", HF_CLI_STR, false, "LEVEL", "err, warn, notice, info or debug" },
	END,
};
static const struct hf_cli_arg check_args[] = {
	{ "-c", "--config", "files", HF_CLI_PATHS, false, "FILE", "file to check; repeat: later ones override" },
	{ NULL, NULL, "files", HF_CLI_PATHS, false, "FILE", "the same" },
	END,
};
static const struct hf_cli_arg show_args[] = {
	{ "-c", "--config", "files", HF_CLI_PATHS, false, "FILE",
	  "show what these files give, without a daemon; repeat: later ones override" },
	{ "--defaults", NULL, "defaults", HF_CLI_FLAG, false, "", "every setting with its default and meaning (Markdown)" },
	END,
};

/* Loads the files named in args. Exit code, or -1 with *ret_conf filled. */
static int load(const struct hf_cli *cli, const json_t *args, struct hf_conf *ret_conf)
{
	hf_autobuf struct hf_buf problems = HF_BUF_INIT(1u << 20);
	const json_t *list = json_object_get(args, "files");
	const char *files[16];
	unsigned n = 0;

	for (; n < json_array_size(list) && n < HF_ARRAY_LEN(files); n++)
		files[n] = json_string_value(json_array_get(list, n));
	if (n == 0)
		files[n++] = "/etc/holdfast/holdfastd.conf";
	if (hf_conf_load(&hf_conf_schema, files, n, ret_conf, &problems) == 0)
		return -1;
	fprintf(stderr, "%s", hf_buf_cstr(&problems));
	fprintf(stderr, "%s: configuration refused\n", cli->tool);
	return HF_EXIT_REFUSED;
}

static int conf_check(const struct hf_cli *cli, const json_t *args)
{
	struct hf_conf conf;
	int code = load(cli, args, &conf);

	if (code >= 0)
		return code;
	hf_conf_fini(&hf_conf_schema, &conf);
	printf(cli->json ? "{\"ok\":true}\n" : "ok\n");
	return HF_EXIT_OK;
}

static int conf_show(const struct hf_cli *cli, const json_t *args)
{
	hf_autobuf struct hf_buf text = HF_BUF_INIT(1u << 20);
	struct hf_conf conf;
	int code;

	if (json_is_true(json_object_get(args, "defaults"))) {
		hf_conf_document(&hf_conf_schema, &text);
		fputs(hf_buf_cstr(&text), stdout);
		return HF_EXIT_OK;
	}
	if (!json_object_get(args, "files"))
		return hf_cli_call(cli, "conf.show", NULL, NULL, cli->timeout_ms ? cli->timeout_ms : 10000);
	code = load(cli, args, &conf);
	if (code >= 0)
		return code;
	if (cli->json) {
		json_t *all = hf_conf_json(&hf_conf_schema, &conf);

		json_dumpf(all, stdout, JSON_COMPACT);
		putchar('\n');
		json_decref(all);
	} else {
		hf_conf_render(&hf_conf_schema, &conf, false, &text);
		fputs(hf_buf_cstr(&text), stdout);
	}
	hf_conf_fini(&hf_conf_schema, &conf);
	return HF_EXIT_OK;
}

static const struct hf_cli_cmd commands[] = {
	{ "status", "status", NULL, NULL, "state of the gateway", "holdfastctl status --json", 0, NULL },
	{ "children list", "children.list", NULL,
	  "id:CHILD,worker:WORKER,peer:PEER,connectedAt:SINCE,accepted:ACCEPTED,inflight:IN FLIGHT,cipher:CIPHER",
	  "connected children", "holdfastctl children list", 30000, NULL },
	{ "children show", "children.show", child_args, NULL, "one child: connection, stored session, ledger",
	  "holdfastctl children show dev0", 0, NULL },
	{ "children disconnect", "children.disconnect", child_args, NULL, "end a child's connection",
	  "holdfastctl children disconnect dev0", 0, NULL },
	{ "queue show", "queue.show", NULL,
	  "child:CHILD,accepted:ACCEPTED,delivered:DELIVERED,pending:PENDING,expired:EXPIRED,evicted:EVICTED,refused:REFUSED,pendingBytes:BYTES",
	  "what is stored, a row per child", "holdfastctl queue show", 30000, NULL },
	{ "queue peek", "queue.peek", peek_args, "sequence:SEQ,child:CHILD,ageMs:AGE MS,properties:PROPERTIES,bodyBase64:BODY",
	  "oldest stored messages", "holdfastctl queue peek dev0 --max 5 --json", 30000, NULL },
	{ "upstream show", "upstream.show", NULL, NULL, "uplink, sessions, scope, time to live", "holdfastctl upstream show", 0, NULL },
	{ "upstream reconnect", "upstream.reconnect", NULL, NULL, "connect to the hub anew, now", "holdfastctl upstream reconnect", 0, NULL },
	{ "kern show", "kern.show", NULL, NULL, "kernel fast paths: active, fallback with its reason, or off", "holdfastctl kern show", 0, NULL },
	{ "counters", "counters", NULL, NULL, "all counters", "holdfastctl counters --json", 0, NULL },
	{ "conf check", NULL, check_args, NULL, "check configuration files, report every problem",
	  "holdfastctl conf check -c /etc/holdfast/holdfastd.conf", 0, conf_check },
	{ "conf show", NULL, show_args, NULL, "configuration in force, or what files would give", "holdfastctl conf show -c base.conf -c site.conf",
	  0, conf_show },
	{ "log level", "log.level", level_args, NULL, "show or set the log level", "holdfastctl log level debug", 0, NULL },
	{ 0 },
};

struct hf_cli hf_ctl_cli(void)
{
	return (struct hf_cli){
		.tool = "holdfastctl",
		.about = "Commands for a running holdfastd, the offline-first IoT gateway.",
		.socket_env = "HOLDFAST_SOCKET",
		.socket_default = "/run/holdfast/control.sock",
		.cmds = commands,
	};
}
