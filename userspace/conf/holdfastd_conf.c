/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "conf/holdfastd_conf.h"
#include "core/util.h"
#include "net/listener.h"
#include "net/prefix.h"
#include <errno.h>
#include <holdfast/err.h>
#include <limits.h>

static const char *const when_full_names[] = { "refuse", "drop-oldest", NULL };
static const char *const kern_names[] = { "auto", "off", NULL };
static const char *const level_names[] = { "err", "warn", "notice", "info", "debug", NULL };

#define ROW_IF(path, kind, member, def, min, max, names, flags, help, refuse)                                       \
	{ path, HF_CONF_##kind, offsetof(struct hf_conf, member), def, min, max, names, flags, help, refuse }
#define ROW(path, kind, member, def, min, max, names, flags, help)                                                   \
	ROW_IF(path, kind, member, def, min, max, names, flags, help, NULL)
#define LIVE HF_CONF_RELOADABLE
#define MUST HF_CONF_REQUIRED

int hf_conf_durability(const char *text, uint32_t *ret_interval_ms)
{
	int64_t ms;

	if (strcmp(text, "sync") == 0) {
		*ret_interval_ms = 0;
		return 0;
	}
	if (strncmp(text, "interval ", 9) != 0 || hf_parse_i64(hf_span_str(text + 9), 1, 60000, &ms) != 0)
		return HF_EINVALID;
	*ret_interval_ms = (uint32_t)ms;
	return 0;
}

static const char *refuse_durability(const char *text)
{
	uint32_t ms;

	return hf_conf_durability(text, &ms) == 0 ? NULL : "\"sync\" or \"interval MS\" (1 to 60000)";
}

static const char *refuse_metrics(const char *text)
{
	return *text ? hf_listen_refuse(text) : NULL;
}

static const struct hf_conf_row rows[] = {
	ROW("hub.host", STR, hub_host, "", 0, 0, NULL, MUST, "IoT Hub host name"),
	ROW("hub.connection_string_file", STR, hub_connection_string_file, "", 0, 0, NULL, MUST,
	    "file with HostName=..;DeviceId=<edge>;ModuleId=$edgeHub;SharedAccessKey=<base64>"),
	ROW("hub.ca_file", STR, hub_ca_file, "", 0, 0, NULL, 0, "PEM roots that the hub's certificate must build to; empty = the system's"),
	ROW("hub.mqtt_port", INT, hub_mqtt_port, "8883", 1, 65535, NULL, 0, "the hub's MQTT port"),
	ROW("hub.https_port", INT, hub_https_port, "443", 1, 65535, NULL, 0, "the hub's HTTPS port"),
	ROW("gateway.host", STR, gateway_host, "", 0, 0, NULL, MUST, "host name that children connect to (GatewayHostName)"),
	ROW_IF("gateway.listen", LIST, gateway_listen, "0.0.0.0:8883", 0, 0, NULL, 0, "addresses for MQTT over TLS",
	       hf_listen_refuse),
	ROW("gateway.workers", INT, gateway_workers, "0", 0, 16, NULL, 0, "worker threads; 0 = one for each CPU, at most 8"),
	ROW("gateway.trust_bundle_file", STR, gateway_trust_bundle_file, "", 0, 0, NULL, LIVE, "PEM roots of children with CA certificates"),
	ROW("tls.cert_file", STR, tls_cert_file, "", 0, 0, NULL, MUST | LIVE, "PEM certificate chain for children, leaf first"),
	ROW("tls.key_file", STR, tls_key_file, "", 0, 0, NULL, MUST | LIVE, "PEM private key of it"),
	ROW("control.socket", STR, control_socket, "/run/holdfast/control.sock", 0, 0, NULL, 0, "unix socket for holdfastctl"),
	ROW("control.group", STR, control_group, "", 0, 0, NULL, 0, "group that may give commands besides root"),
	ROW_IF("metrics.listen", STR, metrics_listen, "", 0, 0, NULL, 0, "address for Prometheus, e.g. 127.0.0.1:9600; empty = off",
	       refuse_metrics),
	ROW("storage.dir", STR, storage_dir, "/var/lib/holdfast", 0, 0, NULL, 0, "directory of queue and state, mode 0700"),
	ROW("storage.seal_key_file", STR, storage_seal_key_file, "/etc/holdfast/seal.key", 0, 0, NULL, 0,
	    "32 random bytes that seal scope and twins; made at first start; keep it off the storage medium"),
	ROW("store.max_bytes", SIZE, store_max_bytes, "256 MiB", 1ll << 20, 1ll << 40, NULL, 0, "disk budget of the queue"),
	ROW("store.state_bytes", SIZE, store_state_bytes, "64 MiB", 1ll << 20, 16ll << 30, NULL, 0, "disk budget of scope, twins, sessions"),
	ROW("store.when_full", ENUM, store_when_full, "refuse", 0, 0, when_full_names, 0, "what happens at the budget"),
	ROW_IF("store.durability", STR, store_durability, "sync", 0, 0, NULL, 0,
	       "sync = on stable storage before every PUBACK; \"interval MS\" = may lose that long", refuse_durability),
	ROW("store.time_to_live_secs", INT, store_ttl_s, "7200", INT_MIN, INT_MAX, NULL, 0,
	    "age at which messages expire; 0 or less = never; the gateway's twin wins"),
	ROW("dns.servers", LIST, dns_servers, "", 0, 0, NULL, 0, "resolvers, address or address:port; empty = the system's"),
	ROW("clock.max_step", INT, clock_max_step_days, "366", 1, 36500, NULL, 0,
	    "days by which the wall clock may be ahead of the stored time floor before it is not believed"),
	ROW("kern.mode", ENUM, kern_mode, "auto", 0, 0, kern_names, 0, "eBPF fast paths: where possible, or off"),
	ROW("kern.pin_dir", STR, kern_pin_dir, "/sys/fs/bpf/holdfast", 0, 0, NULL, 0, "bpffs directory of pinned maps and links"),
	ROW("limits.connections", INT, limits_connections, "1000", 1, 1000000, NULL, 0,
	    "connections at once; at the limit the oldest that has not logged in gives way to a new one"),
	ROW("limits.per_address", INT, limits_per_address, "0", 0, 1000000, NULL, 0,
	    "of these, from one address (IPv6: from one /64); more are closed before TLS; 0 = a tenth of limits.connections"),
	ROW_IF("limits.per_address_exempt", LIST, limits_per_address_exempt, "", 0, 0, NULL, 0,
	       "prefixes without that limit, e.g. a network behind address translation: [\"10.0.0.0/8\"]", hf_prefix_refuse),
	ROW("limits.handshake_timeout_ms", INT, limits_handshake_timeout_ms, "10000", 100, 600000, NULL, 0, "time for the TLS handshake"),
	ROW("limits.connect_timeout_ms", INT, limits_connect_timeout_ms, "15000", 100, 600000, NULL, 0, "time from TLS to CONNECT"),
	ROW("upstream.backoff_max_secs", INT, upstream_backoff_max_s, "60", 1, 3600, NULL, 0, "longest pause between connection attempts"),
	ROW("upstream.max_sessions", INT, upstream_max_sessions, "1000", 2, 100000, NULL, 0, "hub sessions at once"),
	ROW("upstream.scope_refresh_secs", INT, upstream_scope_refresh_s, "3600", 5, 86400, NULL, 0, "time between full scope passes"),
	ROW("log.level", ENUM, log_level, "notice", 0, 0, level_names, LIVE, "least severe level that is logged"),
	{ 0 },
};

static void check_readable(const char *path, const char *setting, const char *file, struct hf_buf *problems)
{
	if (*path && access(path, R_OK) != 0)
		hf_conf_problem(problems, file, "%s: %s: %s", setting, path, strerror(errno));
}

static void check_files(const struct hf_conf *c, const char *file, struct hf_buf *problems)
{
	check_readable(c->hub_connection_string_file, "hub.connection_string_file", file, problems);
	check_readable(c->hub_ca_file, "hub.ca_file", file, problems);
	check_readable(c->tls_cert_file, "tls.cert_file", file, problems);
	check_readable(c->tls_key_file, "tls.key_file", file, problems);
	check_readable(c->gateway_trust_bundle_file, "gateway.trust_bundle_file", file, problems);
}

static void check_addresses(const struct hf_conf *c, const char *file, struct hf_buf *problems)
{
	unsigned n = 0;

	while (c->gateway_listen[n])
		n++;
	if (n == 0 || n > 8)
		hf_conf_problem(problems, file, "gateway.listen: give 1 to 8 addresses");
}

static void check(const void *values, const char *file, struct hf_buf *problems)
{
	const struct hf_conf *c = values;

	check_files(c, file, problems);
	check_addresses(c, file, problems);
}

const struct hf_conf_schema hf_conf_schema = { rows, sizeof(struct hf_conf), check };
