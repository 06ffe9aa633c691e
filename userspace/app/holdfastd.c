/* SPDX-License-Identifier: GPL-3.0-or-later */
/* holdfastd: arguments, wiring of the modules, signals. */
#include "auth/clock_store.h"
#include "auth/sas.h"
#include "conf/holdfastd_conf.h"
#include "core/log.h"
#include "core/util.h"
#include "ctl/ctl.h"
#include "ctlproto/ctlproto.h"
#include "gw/metrics.h"
#include "http/http.h"
#include "net/listener.h"
#include "priv/drop.h"
#include "priv/notify.h"
#include "priv/sealkey.h"
#include <errno.h>
#include <grp.h>
#include <holdfast/err.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>

#define MAX_FILES 16
#define MAX_WORKERS 16
#define MAX_LISTEN 8

struct daemon {
	const char *files[MAX_FILES];
	unsigned n_files;
	struct hf_conf *conf;		/* in force */
	char *connection_string;	/* wiped at the end */
	struct hf_loop *loop;
	struct hf_inbox *inbox;
	struct hf_store *store;
	struct hf_clock_store *clock;
	struct hf_gw *gw;
	struct hf_upstream *up;
	struct hf_steer *steer;
	struct hf_ctl *ctl;
	struct hf_http_srv *metrics;
	struct hf_signal *on_term, *on_int, *on_hup;
	struct hf_timer *idle;
	int fds[MAX_WORKERS * MAX_LISTEN];
	unsigned n_workers, n_listen;
	int control_gid, control_fd, metrics_fd;
	bool stopping;
};

static void usage(FILE *to)
{
	fputs("usage: holdfastd -c FILE [-c FILE ...] [-t]\n\n"
	      "Offline-first IoT gateway; runs in the foreground.\n\n"
	      "  -c FILE     configuration; repeat it, later files override setting by setting\n"
	      "  -t          check the configuration and exit\n"
	      "  --help      this text\n"
	      "  --version   print the version\n\n"
	      "SIGTERM ends it: what was accepted is answered and kept. SIGHUP reloads certificates and log level.\n"
	      "Exit codes: 0 ok, 1 refused or failed, 2 usage.\n"
	      "Every setting: holdfastctl conf show --defaults\n", to);
}

/* Exit code, or -1 to go on. */
static int parse_args(int argc, char **argv, struct daemon *d, bool *ret_check)
{
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
			usage(stdout);
			return HF_EXIT_OK;
		} else if (strcmp(argv[i], "--version") == 0) {
			printf("holdfastd %s\n", HF_VERSION);
			return HF_EXIT_OK;
		} else if (strcmp(argv[i], "-t") == 0) {
			*ret_check = true;
		} else if (strcmp(argv[i], "-c") == 0 && i + 1 < argc && d->n_files < MAX_FILES) {
			d->files[d->n_files++] = argv[++i];
		} else {
			fprintf(stderr, "holdfastd: unknown or incomplete option %s\n", argv[i]);
			usage(stderr);
			return HF_EXIT_USAGE;
		}
	}
	if (d->n_files == 0) {
		fprintf(stderr, "holdfastd: -c FILE is missing\n");
		usage(stderr);
		return HF_EXIT_USAGE;
	}
	return -1;
}

static int load_conf(const struct daemon *d, struct hf_conf **ret_conf)
{
	hf_autobuf struct hf_buf problems = HF_BUF_INIT(1u << 20);
	struct hf_conf *c = malloc(sizeof *c);
	int r = c ? hf_conf_load(&hf_conf_schema, d->files, d->n_files, c, &problems) : -ENOMEM;

	if (r != 0) {
		fputs(hf_buf_cstr(&problems), stderr);
		free(c);
		return r;
	}
	*ret_conf = c;
	return 0;
}

static void free_conf(struct hf_conf **c)
{
	if (*c)
		hf_conf_fini(&hf_conf_schema, *c);
	free(*c);
	*c = NULL;
}

static int read_connection_string(struct daemon *d)
{
	struct hf_buf b = HF_BUF_INIT(8192);
	struct hf_span text;
	int r = hf_read_file(d->conf->hub_connection_string_file, 4096, &b);

	if (r == 0) {
		text = hf_buf_span(&b);
		while (text.len && (text.ptr[text.len - 1] == '\n' || text.ptr[text.len - 1] == '\r' || text.ptr[text.len - 1] == ' '))
			text.len--;
		d->connection_string = hf_span_dup(text);
		r = d->connection_string ? 0 : -ENOMEM;
	} else {
		hf_log(HF_LOG_ERR, "start", "%s: %s", d->conf->hub_connection_string_file, hf_strerror(r));
	}
	hf_buf_wipe(&b);
	return r;
}

static int open_listeners(struct daemon *d)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	d->n_workers = d->conf->gateway_workers ? (unsigned)d->conf->gateway_workers : (unsigned)hf_max(1, hf_min(cpus, 8));
	for (char **l = d->conf->gateway_listen; *l && d->n_listen < MAX_LISTEN; l++)
		d->n_listen++;
	for (unsigned w = 0; w < d->n_workers; w++)
		for (unsigned i = 0; i < d->n_listen; i++) {
			int r = hf_listen_tcp(d->conf->gateway_listen[i], true, &d->fds[w * d->n_listen + i]);

			if (r != 0)
				return r;
		}
	return 0;
}

/* One socket per worker answers for all addresses of its family. */
static int start_steer(struct daemon *d)
{
	const char *listen[MAX_LISTEN];
	int fds[MAX_WORKERS];
	struct hf_steer_service svc = { .service = HF_SERVICE_MQTT, .listen = listen, .fds = fds, .n_workers = d->n_workers };
	struct hf_steer_cfg cfg = { .off = d->conf->kern_mode == HF_KERN_OFF, .pin_dir = d->conf->kern_pin_dir, .services = &svc,
				    .n_services = 1 };
	bool v6 = d->conf->gateway_listen[0][0] == '[';

	for (unsigned i = 0; i < d->n_listen; i++)
		if ((d->conf->gateway_listen[i][0] == '[') == v6)
			listen[svc.n_listen++] = d->conf->gateway_listen[i];
	for (unsigned w = 0; w < d->n_workers; w++)
		fds[w] = d->fds[w * d->n_listen];
	return hf_steer_create(&cfg, &d->steer);
}

static int open_store(struct daemon *d)
{
	const struct hf_conf *c = d->conf;
	struct hf_store_cfg cfg = { .dir = c->storage_dir, .max_bytes = (uint64_t)c->store_max_bytes,
				    .state_bytes = (uint64_t)c->store_state_bytes, .ttl_s = c->store_ttl_s,
				    .when_full = (enum hf_when_full)c->store_when_full };
	int r = hf_conf_durability(c->store_durability, &cfg.interval_ms);

	if (r == 0)
		r = hf_seal_key(c->storage_seal_key_file, cfg.seal_key);
	if (r == 0)
		r = hf_store_create(&cfg, &d->store);
	explicit_bzero(cfg.seal_key, sizeof cfg.seal_key);
	return r;
}

static int load_tls(const struct hf_conf *c, struct hf_tls_ctx **ret_tls)
{
	struct hf_tls_server_cfg cfg = {
		.cert_file = c->tls_cert_file, .key_file = c->tls_key_file, .request_client_cert = true,
		.client_ca_file = *c->gateway_trust_bundle_file ? c->gateway_trust_bundle_file : NULL,
	};

	return hf_tls_ctx_create_server(&cfg, ret_tls);
}

static char *join(char *const *list)
{
	hf_autobuf struct hf_buf b = HF_BUF_INIT(4096);

	for (; *list; list++) {
		if (hf_buf_len(&b))
			hf_buf_putc(&b, ',');
		hf_buf_puts(&b, *list);
	}
	return hf_span_dup(hf_buf_span(&b));
}

static const struct hf_upstream_ops upstream_ops = { .to_child = hf_gw_to_child, .scope = hf_gw_scope, .cut_off = hf_gw_cut_off };

/* Of limits.per_address_exempt, whose texts were checked with the configuration. */
static int exemptions(const struct hf_conf *c, struct hf_prefix **ret_list, unsigned *ret_n)
{
	unsigned n = 0;
	int r = 0;

	while (c->limits_per_address_exempt[n])
		n++;
	*ret_list = calloc(n + 1, sizeof **ret_list);
	if (!*ret_list)
		return -ENOMEM;
	for (unsigned i = 0; i < n && r == 0; i++)
		r = hf_prefix_parse(c->limits_per_address_exempt[i], &(*ret_list)[i]);
	*ret_n = n;
	return r;
}

static int start_gateway(struct daemon *d)
{
	const struct hf_conf *c = d->conf;
	hf_autofree char *dns = join(c->dns_servers);
	struct hf_span edge;
	struct hf_tls_ctx *tls = NULL;
	struct hf_gw_cfg gw = { .workers = d->n_workers, .listen_fds = d->fds, .n_listen = d->n_listen, .hub_host = c->hub_host,
				.gateway_host = c->gateway_host, .store = d->store,
				.max_connections = (uint32_t)c->limits_connections,
				.per_address = (uint32_t)(c->limits_per_address ? c->limits_per_address : (c->limits_connections + 9) / 10),
				.handshake_timeout_ms = (uint32_t)c->limits_handshake_timeout_ms,
				.connect_timeout_ms = (uint32_t)c->limits_connect_timeout_ms };
	struct hf_upstream_cfg up = { .hub_host = c->hub_host, .connection_string = d->connection_string,
				      .ca_file = *c->hub_ca_file ? c->hub_ca_file : NULL, .dns_servers = dns,
				      .mqtt_port = (uint16_t)c->hub_mqtt_port, .https_port = (uint16_t)c->hub_https_port,
				      .backoff_max_ms = (uint32_t)c->upstream_backoff_max_s * 1000,
				      .scope_refresh_s = (uint32_t)c->upstream_scope_refresh_s,
				      .max_sessions = (uint32_t)c->upstream_max_sessions, .ttl_s_default = c->store_ttl_s };
	hf_autofree char *edge_id = hf_connstr_get(hf_span_str(d->connection_string), "DeviceId", &edge) ? hf_span_dup(edge) : NULL;
	hf_autofree struct hf_prefix *exempt = NULL;
	int r = hf_clock_store_create(d->loop, d->inbox, d->store, (int64_t)c->clock_max_step_days * 24 * 3600, &d->clock);

	if (r == 0) {
		up.clock = hf_clock_store_clock(d->clock);
		gw.auth_now_s = hf_clock_store_now_s;
		gw.auth_now_arg = up.clock;
		hf_tls_set_clock(&hf_clock_store_tls, up.clock);
		r = load_tls(c, &tls);
	}
	if (r == 0)
		r = exemptions(c, &exempt, &gw.n_exempt);
	gw.exempt = exempt;
	gw.tls = tls;
	gw.edge_id = edge_id ? edge_id : "";
	if (r == 0)
		r = hf_gw_create(&gw, &d->gw);
	hf_tls_ctx_unref(&tls);
	if (r == 0)
		r = hf_upstream_create(&up, d->store, &upstream_ops, d->gw, &d->up);
	if (r == 0)
		r = hf_gw_start(d->gw, d->up);
	return r;
}

static void on_metrics(void *arg, const struct hf_http_request *req, struct hf_http_exchange *x)
{
	struct daemon *d = arg;
	hf_autobuf struct hf_buf b = HF_BUF_INIT(1u << 20);
	struct hf_store_gauges g;

	if (!hf_span_is(req->path, "/metrics") || strcmp(req->method, "GET") != 0) {
		hf_http_respond(x, 404, "text/plain", hf_span_str("GET /metrics\n"), NULL);
		return;
	}
	hf_metrics_render(&b);
	hf_store_gauges(d->store, &g);
	const struct { const char *name; uint64_t v; } gauges[] = {
		{ "store_pending", g.pending }, { "store_pending_bytes", g.pending_bytes }, { "store_used_bytes", g.used_bytes },
		{ "store_max_bytes", g.max_bytes }, { "store_accepted_total", g.accepted }, { "store_delivered_total", g.delivered },
		{ "store_expired_total", g.expired }, { "store_evicted_total", g.evicted }, { "store_refused_total", g.refused },
		{ "store_commits_total", g.commits }, { "store_state_commits_total", g.state_commits },
		{ "store_state_writes_total", g.state_writes }, { "store_failed", g.failed },
		{ "pump_stalled_ms", hf_upstream_stalled_ms(d->up) },
		{ "uplink_online", hf_upstream_state(d->up) == HF_UPLINK_ONLINE },
	};
	for (size_t i = 0; i < HF_ARRAY_LEN(gauges); i++)
		hf_buf_printf(&b, "# TYPE hf_%s %s\nhf_%s %llu\n", gauges[i].name,
			      strstr(gauges[i].name, "_total") ? "counter" : "gauge", gauges[i].name, (unsigned long long)gauges[i].v);
	hf_http_respond(x, 200, "text/plain; version=0.0.4", hf_buf_span(&b), NULL);
}

static int open_control(struct daemon *d)
{
	const struct hf_conf *c = d->conf;
	int r;

	if (*c->control_group) {
		const struct group *g = getgrnam(c->control_group);

		if (!g) {
			hf_log(HF_LOG_ERR, "start", "control.group: no group \"%s\"", c->control_group);
			return HF_EBADCONF;
		}
		d->control_gid = (int)g->gr_gid;
	}
	r = hf_listen_unix(c->control_socket, *c->control_group ? 0660 : 0600, d->control_gid, &d->control_fd);
	return r == 0 && *c->metrics_listen ? hf_listen_tcp(c->metrics_listen, false, &d->metrics_fd) : r;
}

static int start_control(struct daemon *d)
{
	struct hf_ctl_cfg cfg = { .listen_fd = d->control_fd, .write_gid = d->control_gid, .loop = d->loop, .inbox = d->inbox,
				  .store = d->store, .clock = hf_clock_store_clock(d->clock), .up = d->up, .gw = d->gw, .steer = d->steer, .conf = &d->conf };
	int r = hf_ctl_create(&cfg, &d->ctl);

	if (r != 0 || d->metrics_fd < 0)
		return r;
	return hf_http_srv_create(d->loop, d->metrics_fd, &(struct hf_http_srv_cfg){ .max_conns = 64 }, on_metrics, d, &d->metrics);
}

static void swap_text(char **a, char **b)
{
	char *was = *a;

	*a = *b;
	*b = was;
}

static void reload(struct daemon *d)
{
	struct hf_conf *next = NULL;
	struct hf_tls_ctx *tls = NULL;
	const char *why = NULL;
	json_t *late;

	hf_notify("RELOADING=1");
	if (load_conf(d, &next) != 0)
		why = "the new configuration cannot be used";
	else if (load_tls(next, &tls) != 0)
		why = "the new certificate or key cannot be used";
	if (why) {
		hf_log(HF_LOG_ERR, "reload", "%s: nothing changed, the configuration, certificates and log level from before stay in force",
		       why);
		free_conf(&next);
		hf_notify("READY=1");
		return;
	}
	late = hf_conf_diff(&hf_conf_schema, d->conf, next, false);
	for (size_t i = 0; i < json_array_size(late); i++)
		hf_log(HF_LOG_WARN, "reload", "%s changes at the next start only", json_string_value(json_array_get(late, i)));
	json_decref(late);
	hf_gw_set_tls(d->gw, tls);
	hf_tls_ctx_unref(&tls);
	hf_log_set_level((enum hf_log_level)next->log_level);
	/* what cannot change live stays as it is, also in `conf show` */
	d->conf->log_level = next->log_level;
	swap_text(&d->conf->tls_cert_file, &next->tls_cert_file);
	swap_text(&d->conf->tls_key_file, &next->tls_key_file);
	swap_text(&d->conf->gateway_trust_bundle_file, &next->gateway_trust_bundle_file);
	free_conf(&next);
	hf_log(HF_LOG_NOTICE, "reload", "certificate, trust bundle and log level are in force");
	hf_notify("READY=1");
}

static void on_idle(void *arg)
{
	struct daemon *d = arg;

	if (hf_ctl_idle(d->ctl))
		hf_loop_stop(d->loop);
}

static void on_signal(void *arg, int signo)
{
	struct daemon *d = arg;

	if (signo == SIGHUP) {
		reload(d);
		return;
	}
	if (d->stopping)
		return;
	d->stopping = true;
	hf_log(HF_LOG_NOTICE, "stop", "draining");
	hf_notify("STOPPING=1");
	hf_ctl_stop(d->ctl);
	if (hf_timer_create(d->loop, on_idle, d, &d->idle) == 0)
		hf_timer_start(d->idle, 20, 20);
	else
		hf_loop_stop(d->loop);
}

static int start(struct daemon *d)
{
	int r = hf_tls_global_init();

	for (unsigned i = 0; i < HF_ARRAY_LEN(d->fds); i++)
		d->fds[i] = -1;
	d->control_gid = d->control_fd = d->metrics_fd = -1;
	if (r == 0)
		r = read_connection_string(d);
	if (r == 0)
		r = hf_loop_create(&d->loop);
	if (r == 0)
		r = hf_inbox_create(d->loop, false, &d->inbox);
	/* what needs privileges: ports, BPF, sockets of root; children wait in the backlog meanwhile */
	if (r == 0)
		r = open_listeners(d);
	if (r == 0)
		r = open_control(d);
	if (r == 0)
		r = start_steer(d);
	if (r == 0)
		r = hf_priv_drop();
	if (r == 0)
		r = open_store(d);
	if (r == 0)
		r = start_gateway(d);
	if (r == 0)
		r = start_control(d);
	if (r == 0)
		r = hf_signal_create(d->loop, SIGTERM, on_signal, d, &d->on_term);
	if (r == 0)
		r = hf_signal_create(d->loop, SIGINT, on_signal, d, &d->on_int);
	if (r == 0)
		r = hf_signal_create(d->loop, SIGHUP, on_signal, d, &d->on_hup);
	return r;
}

/* Children first: their answers go out; then the uplink; the store last, with everything committed. */
static void stop(struct daemon *d)
{
	if (d->gw)
		hf_gw_stop(d->gw);
	hf_upstream_destroy(&d->up);
	hf_store_destroy(&d->store);
	hf_gw_destroy(&d->gw);
	hf_tls_set_clock(NULL, NULL);
	hf_clock_store_destroy(&d->clock);
	hf_steer_destroy(&d->steer);
	if (d->metrics)
		hf_http_srv_destroy(&d->metrics);
	hf_ctl_destroy(&d->ctl);
	hf_signal_destroy(&d->on_term);
	hf_signal_destroy(&d->on_int);
	hf_signal_destroy(&d->on_hup);
	hf_timer_destroy(&d->idle);
	hf_inbox_destroy(&d->inbox);
	hf_loop_destroy(&d->loop);
	if (d->connection_string)
		explicit_bzero(d->connection_string, strlen(d->connection_string));
	free(d->connection_string);
	hf_tls_thread_fini();
}

int main(int argc, char **argv)
{
	struct daemon d = { 0 };
	bool check = false;
	int r = parse_args(argc, argv, &d, &check);

	if (r >= 0)
		return r;
	if (load_conf(&d, &d.conf) != 0)
		return HF_EXIT_REFUSED;
	if (check) {
		puts("configuration ok");
		free_conf(&d.conf);
		return HF_EXIT_OK;
	}
	signal(SIGPIPE, SIG_IGN);
	umask(077);
	hf_log_set_level((enum hf_log_level)d.conf->log_level);
	hf_metrics_init(hf_metric_table, HF_M__COUNT);
	r = start(&d);
	if (r == 0) {
		hf_log(HF_LOG_NOTICE, "start", "holdfastd %s ready: %u workers, kern %s, durability %s", HF_VERSION, d.n_workers,
		       hf_steer_state(d.steer), d.conf->store_durability);
		hf_notify("READY=1");
		hf_loop_run(d.loop);
	} else {
		hf_log(HF_LOG_ERR, "start", "%s", hf_strerror(r));
	}
	stop(&d);
	if (r == 0)
		unlink(d.conf->control_socket);
	free_conf(&d.conf);
	hf_log(HF_LOG_NOTICE, "stop", "ended");
	return r == 0 ? HF_EXIT_OK : HF_EXIT_REFUSED;
}
