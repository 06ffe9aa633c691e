/* SPDX-License-Identifier: GPL-3.0-or-later */
/* ctlproto/cli.h - a command line tool as a table: words -> control command, arguments, columns, help.
 *
 * Serves holdfastctl and holdfast-hub: parsing, --help on every level, --json, tables for people, shell
 * completion and exit codes come from the table. Blocks; single-threaded tools only. */
#pragma once
#include "ctlproto/ctlproto.h"

enum hf_cli_kind {
	HF_CLI_STR,
	HF_CLI_INT,
	HF_CLI_FLAG,	/* present = true */
	HF_CLI_LIST,	/* words after the flag, split at commas and spaces -> array of strings */
	HF_CLI_PATHS,	/* one a flag, as it is; the flag may be repeated -> array of strings */
	HF_CLI_JSON,	/* JSON text, or @FILE */
	HF_CLI_FILE,	/* content of a file as JSON, "-" = standard input */
};
struct hf_cli_arg {
	const char *flag;	/* "--count"; NULL = positional */
	const char *alias;	/* "-n" or NULL */
	const char *name;	/* member of the request's args */
	enum hf_cli_kind kind;
	bool required;
	const char *meta;	/* "N", "DEVICE" */
	const char *help;
};
struct hf_cli;
struct hf_cli_cmd {
	const char *words;	/* "children list" */
	const char *cmd;	/* control command "children.list"; NULL with run */
	const struct hf_cli_arg *args;	/* ends with name NULL; NULL = none */
	const char *columns;	/* "id:ID,peer:PEER": table, text in place of ...Base64; NULL = one "key value" line per member */
	const char *help;	/* one sentence */
	const char *example;	/* a whole line */
	unsigned timeout_ms;	/* 0 = the tool's default 10 s; HF_CLI_NO_TIMEOUT for streams */
	/* Local command instead of a control call: returns an exit code. args is borrowed. */
	int (*run)(const struct hf_cli *cli, const json_t *args);
};
#define HF_CLI_NO_TIMEOUT 0xffffffffu
struct hf_cli {
	const char *tool;	/* "holdfastctl" */
	const char *about;	/* a sentence or two */
	const char *socket_env;	/* "HOLDFAST_SOCKET" */
	const char *socket_default;
	const struct hf_cli_cmd *cmds;	/* ends with words NULL */
	/* set by hf_cli_main for run() */
	const char *socket;
	bool json;
	unsigned timeout_ms;
};
/* The whole tool; returns the exit code (HF_EXIT_*). */
int hf_cli_main(struct hf_cli *cli, int argc, char **argv);
/* For run(): calls cmd and prints its items as the table says (columns may be NULL). Steals args. */
int hf_cli_call(const struct hf_cli *cli, const char *cmd, json_t *args, const char *columns, unsigned timeout_ms);
