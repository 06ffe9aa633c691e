/* SPDX-License-Identifier: GPL-3.0-or-later */
/* `holdfast-hub connection-string` and `token`: what clients log in with, made of keys that the hub shows. */
#include "auth/sas.h"
#include "core/clock.h"
#include "core/util.h"
#include "hub/ctl/cli.h"

#include <stdio.h>

#define TIMEOUT_MS 10000
#define DEFAULT_LIFE_S 3600

static void keep(void *arg, const json_t *item)
{
	json_t **to = arg;

	json_decref(*to);
	*to = json_incref((json_t *)item);
}

/* The document of the identity or policy that args name. */
static int fetch(const struct hf_cli *cli, const json_t *args, json_t **ret_item)
{
	json_t *device = json_object_get(args, "deviceId"), *module = json_object_get(args, "moduleId"), *item = NULL;
	json_t *request = device ? json_pack("{sO sO*}", "deviceId", device, "moduleId", module)
				 : json_pack("{sO*}", "name", json_object_get(args, "name"));
	char *error = NULL;
	int code;

	if (module && !device) {
		json_decref(request);
		fprintf(stderr, "%s: a module needs its --device-id, too\n", cli->tool);
		return HF_EXIT_USAGE;
	}
	code = hf_ctl_client_run(cli->socket, device ? "device.show" : "policy.show", request,
				 cli->timeout_ms ? cli->timeout_ms : TIMEOUT_MS, keep, &item, &error);
	if (code != HF_EXIT_OK)
		fprintf(stderr, "%s: %s\n", cli->tool, error ? error : "failed");
	free(error);
	if (code == HF_EXIT_OK)
		*ret_item = item;
	else
		json_decref(item);
	return code;
}

static void print_text(const struct hf_cli *cli, const char *name, const char *text)
{
	if (cli->json)
		printf("{\"%s\":\"%s\"}\n", name, text);	/* of characters that JSON does not escape */
	else
		puts(text);
}

int hub_cli_connection_string(const struct hf_cli *cli, const json_t *args)
{
	bool event_hub = json_is_true(json_object_get(args, "eventHub"));
	json_t *item = NULL;
	int code;

	if (event_hub && json_object_get(args, "deviceId")) {
		fprintf(stderr, "%s: --event-hub goes with a policy, not with a device\n", cli->tool);
		return HF_EXIT_USAGE;
	}
	code = fetch(cli, args, &item);
	if (code == HF_EXIT_OK)
		print_text(cli, "connectionString",
			   json_string_value(json_object_get(item, event_hub ? "eventHubConnectionString" : "connectionString")));
	json_decref(item);
	return code;
}

static int print_token(const struct hf_cli *cli, const char *connection, int64_t life_s)
{
	hf_autobuf struct hf_buf audience = HF_BUF_INIT(1024), token = HF_BUF_INIT(4096);
	struct hf_span cs = hf_span_str(connection), host = { 0 }, device, module, policy = { 0 }, key;
	hf_autofree char *name = NULL, *secret = NULL;
	int r;

	if (!hf_connstr_get(cs, "SharedAccessKey", &key)) {
		fprintf(stderr, "%s: it authenticates with a certificate, there is no token for it\n", cli->tool);
		return HF_EXIT_REFUSED;
	}
	hf_connstr_get(cs, "HostName", &host);
	hf_buf_put_span(&audience, host);
	if (hf_connstr_get(cs, "DeviceId", &device)) {
		hf_buf_puts(&audience, "/devices/");
		hf_buf_put_span(&audience, device);
	}
	if (hf_connstr_get(cs, "ModuleId", &module)) {
		hf_buf_puts(&audience, "/modules/");
		hf_buf_put_span(&audience, module);
	}
	if (hf_connstr_get(cs, "SharedAccessKeyName", &policy))
		name = hf_span_dup(policy);
	secret = hf_span_dup(key);
	r = secret && !audience.err ? hf_sas_create(hf_buf_cstr(&audience), secret, name, hf_clock_wall_s() + life_s, &token) : -1;
	if (secret)
		explicit_bzero(secret, strlen(secret));
	if (r != 0 || token.err) {
		fprintf(stderr, "%s: the token could not be made\n", cli->tool);
		return HF_EXIT_REFUSED;
	}
	print_text(cli, "sas", hf_buf_cstr(&token));
	return HF_EXIT_OK;
}

int hub_cli_token(const struct hf_cli *cli, const json_t *args)
{
	const json_t *life = json_object_get(args, "duration");
	json_int_t life_s = life ? json_integer_value(life) : DEFAULT_LIFE_S;
	json_t *item = NULL;
	int code;

	if (life_s < 1 || life_s > 10ll * 365 * 24 * 3600) {
		fprintf(stderr, "%s: --duration is 1 second to ten years\n", cli->tool);
		return HF_EXIT_USAGE;
	}
	code = fetch(cli, args, &item);
	if (code == HF_EXIT_OK)
		code = print_token(cli, json_string_value(json_object_get(item, "connectionString")), life_s);
	json_decref(item);
	return code;
}
