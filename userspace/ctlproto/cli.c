/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ctlproto/cli.h"
#include "core/util.h"
#include "ctlproto/cli_print.h"
#include <holdfast/err.h>
#include <errno.h>
#include <stdio.h>

/* "--device-id, -d DEVICE"; returns its length. */
static int arg_text(const struct hf_cli_arg *a, char out[64])
{
	bool has_value = a->flag && a->kind != HF_CLI_FLAG;

	return snprintf(out, 64, "%s%s%s%s%s", a->flag ? a->flag : a->meta, a->alias ? ", " : "", a->alias ? a->alias : "",
			has_value ? " " : "", has_value ? a->meta : "");
}

static void usage_of(const struct hf_cli *cli, const struct hf_cli_cmd *cmd, FILE *to)
{
	char left[64];
	int width = 28;

	fprintf(to, "usage: %s %s", cli->tool, cmd->words);
	for (const struct hf_cli_arg *a = cmd->args; a && a->name; a++) {
		const char *open = a->required ? "" : "[", *close = a->required ? "" : "]";

		if (!a->flag)
			fprintf(to, " %s%s%s", open, a->meta, close);
		else if (a->kind == HF_CLI_FLAG)
			fprintf(to, " %s%s%s", open, a->flag, close);
		else
			fprintf(to, " %s%s %s%s", open, a->flag, a->meta, close);
	}
	fprintf(to, "\n\n%s\n", cmd->help);
	if (cmd->args && cmd->args->name)
		fprintf(to, "\n");
	for (const struct hf_cli_arg *a = cmd->args; a && a->name; a++)
		width = hf_max(width, arg_text(a, left));
	for (const struct hf_cli_arg *a = cmd->args; a && a->name; a++) {
		arg_text(a, left);
		fprintf(to, "  %-*s %s%s\n", width, left, a->help, a->required ? " (required)" : "");
	}
	if (cmd->example)
		fprintf(to, "\nexample:\n  %s\n", cmd->example);
}

/* Is word the first of several of cmd's words? */
static bool in_group(const struct hf_cli_cmd *cmd, const char *word)
{
	size_t n = strlen(word);

	return strncmp(cmd->words, word, n) == 0 && cmd->words[n] == ' ';
}

/* The commands that begin with word; false when there are none. */
static bool usage_of_group(const struct hf_cli *cli, const char *word, FILE *to)
{
	bool any = false;

	for (const struct hf_cli_cmd *c = cli->cmds; c->words; c++) {
		if (!in_group(c, word))
			continue;
		if (!any)
			fprintf(to, "usage: %s %s COMMAND [ARGUMENTS]\n\ncommands:\n", cli->tool, word);
		any = true;
		fprintf(to, "  %-24s %s\n", c->words, c->help);
	}
	if (any)
		fprintf(to, "\ntry: %s %s COMMAND --help\n", cli->tool, word);
	return any;
}

static void usage(const struct hf_cli *cli, FILE *to)
{
	fprintf(to, "usage: %s [-s SOCKET] [--json] [--timeout SECONDS] COMMAND [ARGUMENTS]\n\n%s\n\ncommands:\n",
		cli->tool, cli->about);
	for (const struct hf_cli_cmd *c = cli->cmds; c->words; c++)
		fprintf(to, "  %-24s %s\n", c->words, c->help);
	fprintf(to,
		"  %-24s %s\n\n"
		"options:\n"
		"  -s, --socket SOCKET      control socket (else $%s, else %s)\n"
		"  --json                   one JSON object a line\n"
		"  --timeout SECONDS        give up after this long (default 10)\n"
		"  --help                   this text; after a command or its first word: more about it\n"
		"  --version                print the version\n\n"
		"exit codes: 0 ok, 1 refused or failed, 2 usage, 3 unreachable, 4 timeout\n",
		"completion bash", "print a completion script for the shell", cli->socket_env, cli->socket_default);
}

/* Number of words of cmd that argv starts with, 0 unless all of them match. */
static int match_words(const char *words, int argc, char **argv)
{
	struct hf_span rest = hf_span_str(words), word;
	int n = 0;

	while (rest.len) {
		hf_span_cut(&rest, ' ', &word);
		if (n >= argc || !hf_span_is(word, argv[n]))
			return 0;
		n++;
	}
	return n;
}

static const struct hf_cli_cmd *find(const struct hf_cli *cli, int argc, char **argv, int *ret_n)
{
	const struct hf_cli_cmd *best = NULL;

	*ret_n = 0;
	for (const struct hf_cli_cmd *c = cli->cmds; c->words; c++) {
		int n = match_words(c->words, argc, argv);

		if (n > *ret_n) {
			best = c;
			*ret_n = n;
		}
	}
	return best;
}

static int refuse(const struct hf_cli *cli, const struct hf_cli_cmd *cmd, const char *what, const char *which)
{
	fprintf(stderr, "%s: %s%s%s\ntry: %s %s%s--help\n", cli->tool, what, which ? " " : "", which ? which : "",
		cli->tool, cmd ? cmd->words : "", cmd ? " " : "");
	return HF_EXIT_USAGE;
}

static int refuse_words(const struct hf_cli *cli, const char *first, const char *second)
{
	const struct hf_cli_cmd *near = NULL;
	unsigned best = UINT32_MAX, d;
	char typed[128];

	/* A second word may be the command's or its first argument. */
	snprintf(typed, sizeof typed, "%s%s%s", first, second ? " " : "", second ? second : "");
	for (const struct hf_cli_cmd *c = cli->cmds; c->words; c++) {
		d = hf_edit_distance(strchr(c->words, ' ') ? typed : first, c->words);
		if (d < best) {
			best = d;
			near = c;
		}
	}
	fprintf(stderr, "%s: unknown command \"%s\"", cli->tool, typed);
	if (near && best <= strlen(near->words) / 3)
		fprintf(stderr, "; did you mean %s?", near->words);
	fprintf(stderr, "\ntry: %s --help\n", cli->tool);
	return HF_EXIT_USAGE;
}

static void split_list(json_t *array, const char *text)
{
	while (*text) {
		size_t n = strcspn(text, ", \t\n");

		if (n)
			json_array_append_new(array, json_stringn(text, n));
		text += n;
		text += strspn(text, ", \t\n");
	}
}

static json_t *load_json(const char *text, bool is_file, char *ret_why, size_t why_cap)
{
	json_error_t e;
	json_t *v;

	if (!is_file && text[0] != '@')
		v = json_loads(text, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &e);
	else if (strcmp(text, "-") == 0)
		v = json_loadf(stdin, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &e);
	else
		v = json_load_file(is_file ? text : text + 1, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &e);
	if (!v && e.line < 0)	/* the file cannot be opened */
		snprintf(ret_why, why_cap, "%s", e.text);
	else if (!v)
		snprintf(ret_why, why_cap, "%s: line %d: %s", text, e.line, e.text);
	return v;
}

/* Stores one value; false with a message on stderr. */
static bool set_arg(const struct hf_cli *cli, const struct hf_cli_cmd *cmd, const struct hf_cli_arg *a,
		    const char *text, json_t *args)
{
	char why[256] = "";
	json_t *v = NULL, *list;
	int64_t n;

	switch (a->kind) {
	case HF_CLI_STR:
		v = json_string(text);
		snprintf(why, sizeof why, "not UTF-8");
		break;
	case HF_CLI_INT:
		if (hf_parse_i64(hf_span_str(text), INT64_MIN, INT64_MAX, &n) == 0)
			v = json_integer(n);
		snprintf(why, sizeof why, "\"%s\" is not a whole number", text);
		break;
	case HF_CLI_FLAG:
		v = json_true();
		break;
	case HF_CLI_LIST:
		list = json_object_get(args, a->name);
		if (!list)
			json_object_set_new(args, a->name, list = json_array());
		split_list(list, text);
		return true;
	case HF_CLI_PATHS:
		list = json_object_get(args, a->name);
		if (!list)
			json_object_set_new(args, a->name, list = json_array());
		if (json_array_append_new(list, json_string(text)) == 0)
			return true;
		snprintf(why, sizeof why, "not UTF-8");
		break;
	case HF_CLI_JSON:
		v = load_json(text, false, why, sizeof why);
		break;
	case HF_CLI_FILE:
		v = load_json(text, true, why, sizeof why);
		break;
	}
	if (!v) {
		fprintf(stderr, "%s: %s: %s: %s\n", cli->tool, cmd->words, a->flag ? a->flag : a->meta, why);
		return false;
	}
	json_object_set_new(args, a->name, v);
	return true;
}

static const struct hf_cli_arg *flag_of(const struct hf_cli_cmd *cmd, const char *text)
{
	for (const struct hf_cli_arg *a = cmd->args; a && a->name; a++)
		if (a->flag && (strcmp(a->flag, text) == 0 || (a->alias && strcmp(a->alias, text) == 0)))
			return a;
	return NULL;
}

static const struct hf_cli_arg *positional_of(const struct hf_cli_cmd *cmd, const json_t *args)
{
	for (const struct hf_cli_arg *a = cmd->args; a && a->name; a++)
		if (!a->flag && (a->kind == HF_CLI_LIST || a->kind == HF_CLI_PATHS || !json_object_get(args, a->name)))
			return a;
	return NULL;
}

/* An option every command has, in front of it or after it. How many words it takes, 0 when it is none, -1 after
 * refusing its value. */
static int take_global(struct hf_cli *cli, int left, char **argv)
{
	bool is_socket = strcmp(argv[0], "-s") == 0 || strcmp(argv[0], "--socket") == 0;
	int64_t s;

	if (strcmp(argv[0], "--json") == 0) {
		cli->json = true;
		return 1;
	}
	if (!is_socket && strcmp(argv[0], "--timeout") != 0)
		return 0;
	if (left < 2) {
		refuse(cli, NULL, "missing value after", argv[0]);
		return -1;
	}
	if (is_socket) {
		cli->socket = argv[1];
		return 2;
	}
	if (hf_parse_i64(hf_span_str(argv[1]), 1, 86400, &s) != 0) {
		refuse(cli, NULL, "--timeout is 1 to 86400 seconds, not", argv[1]);
		return -1;
	}
	cli->timeout_ms = (unsigned)s * 1000;
	return 2;
}

/* Parses what follows the command's words. Returns an exit code or -1 to go on. */
static int parse_args(struct hf_cli *cli, const struct hf_cli_cmd *cmd, int argc, char **argv, json_t *args)
{
	for (int i = 0; i < argc; i++) {
		const struct hf_cli_arg *a = flag_of(cmd, argv[i]);
		int n = a ? 0 : take_global(cli, argc - i, argv + i);

		if (n < 0)
			return HF_EXIT_USAGE;
		if (n > 0) {
			i += n - 1;
			continue;
		}
		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
			usage_of(cli, cmd, stdout);
			return HF_EXIT_OK;
		}
		if (!a && argv[i][0] == '-' && argv[i][1])
			return refuse(cli, cmd, "unknown option", argv[i]);
		if (!a && !(a = positional_of(cmd, args)))
			return refuse(cli, cmd, "one argument too many:", argv[i]);
		if (a->flag && a->kind != HF_CLI_FLAG && ++i >= argc)
			return refuse(cli, cmd, "missing value after", a->flag);
		if (!set_arg(cli, cmd, a, argv[i], args))
			return HF_EXIT_USAGE;
		while (a->flag && a->kind == HF_CLI_LIST && i + 1 < argc && argv[i + 1][0] != '-')
			set_arg(cli, cmd, a, argv[++i], args);
	}
	for (const struct hf_cli_arg *a = cmd->args; a && a->name; a++)
		if (a->required && !json_object_get(args, a->name))
			return refuse(cli, cmd, "missing", a->flag ? a->flag : a->meta);
	return -1;
}

static int completion(const struct hf_cli *cli, int argc, char **argv)
{
	for (int i = 0; i < argc; i++)
		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
			printf("usage: %s completion bash\n\nprint a completion script for the shell\n\nexample:\n"
			       "  source <(%s completion bash)\n", cli->tool, cli->tool);
			return HF_EXIT_OK;
		}
	if (argc != 1 || strcmp(argv[0], "bash") != 0) {
		fprintf(stderr, "%s: completion is offered for bash\ntry: source <(%s completion bash)\n", cli->tool, cli->tool);
		return HF_EXIT_USAGE;
	}
	printf("# bash completion for %s\n_%s() {\n\tlocal cur=${COMP_WORDS[COMP_CWORD]} line=\"${COMP_WORDS[*]:1}\" w=\"\"\n"
	       "\tcase \"$line\" in\n",
	       cli->tool, cli->tool);
	for (const struct hf_cli_cmd *c = cli->cmds; c->words; c++) {
		printf("\t\"%s \"*) w=\"--json --socket --timeout --help", c->words);
		for (const struct hf_cli_arg *a = c->args; a && a->name; a++)
			if (a->flag)
				printf(" %s", a->flag);
		printf("\" ;;\n");
	}
	printf("\t*)\n\t\tlocal c\n\t\tfor c in");
	for (const struct hf_cli_cmd *c = cli->cmds; c->words; c++)
		printf(" \"%s\"", c->words);
	printf(" \"completion bash\"; do\n\t\t\t[[ \"$c \" == \"${line%%\"$cur\"}\"* ]] && { c=\"${c#\"${line%%\"$cur\"}\"}\"; w=\"$w ${c%%%% *}\"; }\n"
	       "\t\tdone ;;\n\tesac\n\tCOMPREPLY=($(compgen -W \"$w\" -- \"$cur\"))\n}\n"
	       "complete -o default -F _%s %s\n",
	       cli->tool, cli->tool);
	return HF_EXIT_OK;
}

int hf_cli_call(const struct hf_cli *cli, const char *cmd, json_t *args, const char *columns, unsigned timeout_ms)
{
	struct hf_cli_printer *p;
	char *error = NULL;
	int code;

	if (hf_cli_printer_create(cli->json, columns, timeout_ms == HF_CLI_NO_TIMEOUT, &p) != 0) {
		json_decref(args);
		return HF_EXIT_REFUSED;
	}
	code = hf_ctl_client_run(cli->socket, cmd, args, timeout_ms == HF_CLI_NO_TIMEOUT ? 0 : timeout_ms,
				 hf_cli_printer_item, p, &error);
	hf_cli_printer_finish(&p, code == HF_EXIT_OK);
	if (code != HF_EXIT_OK)
		fprintf(stderr, "%s: %s\n", cli->tool, error ? error : "failed");
	free(error);
	return code;
}

/* Options in front of the command. Returns an exit code or -1; *ret_i = first word. */
static int parse_globals(struct hf_cli *cli, int argc, char **argv, int *ret_i)
{
	int i = 1;

	for (; i < argc && argv[i][0] == '-'; i++) {
		int n = take_global(cli, argc - i, argv + i);

		if (n < 0)
			return HF_EXIT_USAGE;
		if (n > 0) {
			i += n - 1;
		} else if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
			usage(cli, stdout);
			return HF_EXIT_OK;
		} else if (strcmp(argv[i], "--version") == 0) {
			printf("%s %s\n", cli->tool, HF_VERSION);
			return HF_EXIT_OK;
		} else {
			return refuse(cli, NULL, "unknown option", argv[i]);
		}
	}
	*ret_i = i;
	return -1;
}

int hf_cli_main(struct hf_cli *cli, int argc, char **argv)
{
	const struct hf_cli_cmd *cmd;
	int i = 0, n, code;
	json_t *args;

	cli->socket = getenv(cli->socket_env);
	if (!cli->socket || !*cli->socket)
		cli->socket = cli->socket_default;
	code = parse_globals(cli, argc, argv, &i);
	if (code >= 0)
		return code;
	if (i >= argc && argc > 1)
		return refuse(cli, NULL, "missing COMMAND after the options", NULL);
	if (i >= argc) {
		usage(cli, stderr);
		return HF_EXIT_USAGE;
	}
	if (strcmp(argv[i], "completion") == 0)
		return completion(cli, argc - i - 1, argv + i + 1);
	if (strcmp(argv[i], "help") == 0) {
		usage(cli, stdout);
		return HF_EXIT_OK;
	}
	cmd = find(cli, argc - i, argv + i, &n);
	if (!cmd && (i + 1 == argc || strcmp(argv[i + 1], "--help") == 0) &&
	    usage_of_group(cli, argv[i], i + 1 == argc ? stderr : stdout))
		return i + 1 == argc ? HF_EXIT_USAGE : HF_EXIT_OK;
	if (!cmd)
		return refuse_words(cli, argv[i], i + 1 < argc ? argv[i + 1] : NULL);
	args = json_object();
	code = args ? parse_args(cli, cmd, argc - i - n, argv + i + n, args) : HF_EXIT_REFUSED;
	if (code < 0 && cmd->run) {
		code = cmd->run(cli, args);
	} else if (code < 0) {
		unsigned t = cli->timeout_ms ? cli->timeout_ms : cmd->timeout_ms ? cmd->timeout_ms : 10000;

		return hf_cli_call(cli, cmd->cmd, args, cmd->columns, t);
	}
	json_decref(args);
	return code;
}
