/* SPDX-License-Identifier: GPL-3.0-or-later */
/* holdfast-hub: the command line, and `serve`, which wires the emulator. */
#include "core/log.h"
#include "core/util.h"
#include "hub/amqp/amqp.h"
#include "hub/ctl/cli.h"
#include "hub/ctl/ctl.h"
#include "hub/mqtt/dev.h"
#include "hub/hub_conf.h"
#include "hub/metrics.h"
#include "hub/portal/portal.h"
#include "hub/rest/rest.h"
#include "net/listener.h"
#include "priv/notify.h"
#include <holdfast/err.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>

struct hub {
	const struct hf_cli *cli;
	const json_t *args;		/* of serve, for a reload */
	struct hub_conf conf;
	struct hub_conn_limit limit;
	struct hf_loop *loop;
	struct hub_model *model;
	struct hub_dev *dev;
	struct hub_amqp *amqp;
	struct hub_rest *rest;
	struct hub_portal *portal;
	struct hub_ctl *ctl;
	struct hf_tls_ctx *tls;
	struct hf_signal *on_term, *on_int, *on_hup;
	struct hf_timer *idle;
	unsigned idle_turns;
	bool stopping;
};

static const struct hf_metric_def metric_defs[HUB_M__COUNT] = {
#define X(id, name, kind, help) [id] = { name, kind, help },
	HUB_METRICS(X)
#undef X
};

static int load(const struct hf_cli *cli, const json_t *args, struct hub_conf *ret_conf)
{
	hf_autobuf struct hf_buf problems = HF_BUF_INIT(1u << 20);
	const json_t *list = json_object_get(args, "config");
	const char *throttle = json_string_value(json_object_get(args, "throttle"));
	const char *files[16];
	unsigned n = 0;

	if (json_array_size(list) == 0 || json_array_size(list) > HF_ARRAY_LEN(files)) {
		fprintf(stderr, "%s: serve needs -c FILE, at most %zu times; init writes one\n", cli->tool, HF_ARRAY_LEN(files));
		return HF_EXIT_USAGE;
	}
	for (; n < json_array_size(list); n++)
		files[n] = json_string_value(json_array_get(list, n));
	if (hf_conf_load(&hub_conf_schema, files, n, ret_conf, &problems) != 0) {
		fputs(hf_buf_cstr(&problems), stderr);
		fprintf(stderr, "%s: configuration refused\n", cli->tool);
		return HF_EXIT_REFUSED;
	}
	if (throttle && !hub_conf_set_throttle(ret_conf, throttle)) {
		fprintf(stderr, "%s: --throttle takes s1 or off\n", cli->tool);
		hf_conf_fini(&hub_conf_schema, ret_conf);
		return HF_EXIT_USAGE;
	}
	return HF_EXIT_OK;
}

/* What changes live does so; the rest is named, and waits for the next start. */
static void on_reload(void *arg, int signo)
{
	struct hub *h = arg;
	struct hub_conf next;
	json_t *late;

	(void)signo;
	if (load(h->cli, h->args, &next) != HF_EXIT_OK) {
		hf_log(HF_LOG_ERR, "reload", "refused: the old configuration stays in force");
		return;
	}
	late = hf_conf_diff(&hub_conf_schema, &h->conf, &next, false);
	for (size_t i = 0; i < json_array_size(late); i++)
		hf_log(HF_LOG_WARN, "reload", "%s changes at the next start only", json_string_value(json_array_get(late, i)));
	json_decref(late);
	h->conf.log_level = next.log_level;
	hf_log_set_level((enum hf_log_level)next.log_level);
	hf_log(HF_LOG_NOTICE, "reload", "the log level is in force");
	hf_conf_fini(&hub_conf_schema, &next);
}

/* Connections end in their own time, 2 s at most. */
static void on_idle(void *arg)
{
	struct hub *h = arg;

	if ((hub_dev_count(h->dev) == 0 && hub_amqp_count(h->amqp) == 0) || ++h->idle_turns > 40)
		hf_loop_stop(h->loop);
}

static void on_signal(void *arg, int signo)
{
	struct hub *h = arg;

	(void)signo;
	if (h->stopping)
		return;
	h->stopping = true;
	hf_notify("STOPPING=1");
	hub_dev_stop(h->dev);
	hub_amqp_stop(h->amqp);
	hub_rest_destroy(&h->rest);
	hub_ctl_destroy(&h->ctl);
	if (hf_timer_create(h->loop, on_idle, h, &h->idle) == 0)
		hf_timer_start(h->idle, 20, 50);
	else
		hf_loop_stop(h->loop);
}

static void on_websocket(void *arg, enum hub_ws_protocol protocol, struct hf_conn *conn)
{
	struct hub *h = arg;

	if (protocol == HUB_WS_MQTT)
		hub_dev_adopt(h->dev, conn);
	else
		hub_amqp_adopt(h->amqp, conn);
}

static int start_heads(struct hub *h)
{
	const struct hub_conf *c = &h->conf;
	struct hub_dev_cfg dev = { .tls = h->tls, .host = c->host, .limit = &h->limit };
	struct hub_amqp_cfg amqp = { .tls = h->tls, .limit = &h->limit };
	struct hub_portal_cfg portal = { .listen_https = c->listen_https, .idle_ms = (uint64_t)c->portal_idle_s * 1000,
					 .max_ms = (uint64_t)c->portal_max_s * 1000 };
	struct hub_ctl_cfg ctl = { .host = c->host };
	int https, r = hf_listen_tcp(c->listen_mqtt, false, &dev.listen_fd);

	h->limit.max = (unsigned)c->max_connections;
	if (r == 0)
		r = hub_dev_create(h->loop, h->model, &dev, &h->dev);
	if (r == 0)
		r = hf_listen_tcp(c->listen_amqp, false, &amqp.listen_fd);
	if (r == 0)
		r = hub_amqp_create(h->loop, h->model, &amqp, &h->amqp);
	if (r == 0)
		r = hf_listen_tcp(c->listen_https, false, &https);
	if (r == 0)
		r = hub_rest_create(h->loop, h->model, https, h->tls, &h->rest);
	if (r == 0)
		r = hub_portal_create(h->loop, h->model, &portal, &h->portal);
	if (r == 0) {
		hub_rest_on_websocket(h->rest, on_websocket, h);
		hub_rest_set_portal(h->rest, h->portal);
		ctl.portal = h->portal;
	}
	if (r == 0)
		r = hf_listen_unix(c->control_socket, 0600, -1, &ctl.listen_fd);
	if (r == 0)
		r = hub_ctl_create(h->loop, h->model, &ctl, &h->ctl);
	return r;
}

static int start(struct hub *h)
{
	const struct hub_conf *c = &h->conf;
	struct hf_tls_server_cfg tls = { .cert_file = c->cert_file, .key_file = c->key_file, .request_client_cert = true,
					 .client_ca_file = *c->client_ca_file ? c->client_ca_file : NULL };
	struct hub_model_cfg model = { .dir = c->storage_dir, .host = c->host, .sync = c->durability == 1,
				       .max_blob_bytes = (uint64_t)c->max_blob_bytes,
				       .blobs_max_bytes = (uint64_t)c->blobs_max_bytes,
				       .max_bytes = (uint64_t)c->max_bytes, .max_age_s = (uint32_t)c->max_age_s, .throttle = c->throttle == 1 };
	int r = hf_tls_global_init();

	if (r == 0)
		r = hf_loop_create(&h->loop);
	if (r == 0)
		r = hf_tls_ctx_create_server(&tls, &h->tls);
	if (r == 0)
		r = hub_model_open(h->loop, &model, &h->model);
	if (r == 0)
		r = start_heads(h);
	if (r == 0)
		r = hf_signal_create(h->loop, SIGTERM, on_signal, h, &h->on_term);
	if (r == 0)
		r = hf_signal_create(h->loop, SIGINT, on_signal, h, &h->on_int);
	if (r == 0)
		r = hf_signal_create(h->loop, SIGHUP, on_reload, h, &h->on_hup);
	return r;
}

static void stop(struct hub *h)
{
	if (h->rest)
		hub_rest_destroy(&h->rest);
	hub_ctl_destroy(&h->ctl);
	hub_portal_destroy(&h->portal);
	hf_signal_destroy(&h->on_term);
	hf_signal_destroy(&h->on_int);
	hf_signal_destroy(&h->on_hup);
	hf_timer_destroy(&h->idle);
	if (h->dev && hub_dev_count(h->dev) == 0)
		hub_dev_destroy(&h->dev);
	if (h->amqp && hub_amqp_count(h->amqp) == 0)
		hub_amqp_destroy(&h->amqp);
	if (h->model)
		hub_model_close(&h->model);
	hf_tls_ctx_unref(&h->tls);
	if (!h->dev && !h->amqp)
		hf_loop_destroy(&h->loop);
	hf_tls_thread_fini();
}

static int print_defaults(void)
{
	hf_autobuf struct hf_buf text = HF_BUF_INIT(1u << 20);

	hf_conf_document(&hub_conf_schema, &text);
	fputs(hf_buf_cstr(&text), stdout);
	return HF_EXIT_OK;
}

static int serve(const struct hf_cli *cli, const json_t *args)
{
	struct hub h = { .cli = cli, .args = args };
	int r;

	if (json_is_true(json_object_get(args, "defaults")))
		return print_defaults();
	r = load(cli, args, &h.conf);
	if (r != HF_EXIT_OK)
		return r;
	if (json_is_true(json_object_get(args, "check"))) {
		puts("configuration ok");
		hf_conf_fini(&hub_conf_schema, &h.conf);
		return HF_EXIT_OK;
	}
	signal(SIGPIPE, SIG_IGN);
	umask(077);
	hf_log_set_level((enum hf_log_level)h.conf.log_level);
	hf_metrics_init(metric_defs, HUB_M__COUNT);
	r = start(&h);
	if (r == 0) {
		hf_log(HF_LOG_NOTICE, "start", "holdfast-hub %s ready: %s on %s, %s and %s", HF_VERSION, h.conf.host, h.conf.listen_mqtt,
		       h.conf.listen_amqp, h.conf.listen_https);
		printf("portal: %s\nportal key, works once: %s\n", hub_portal_url(h.portal), hub_portal_key(h.portal));
		fflush(stdout);
		hf_notify("READY=1");
		hf_loop_run(h.loop);
	} else {
		hf_log(HF_LOG_ERR, "start", "not started: %s", hf_strerror(r));
	}
	stop(&h);
	if (r == 0)
		hf_log(HF_LOG_NOTICE, "stop", "holdfast-hub stopped");
	hf_conf_fini(&hub_conf_schema, &h.conf);
	return r == 0 ? HF_EXIT_OK : HF_EXIT_REFUSED;
}

int main(int argc, char **argv)
{
	struct hf_cli cli = hub_cli(serve);

	return hf_cli_main(&cli, argc, argv);
}
