/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "hub/hub_conf.h"
#include "core/util.h"
#include "net/listener.h"
#include <errno.h>

static const char *const durability_names[] = { "process", "sync", NULL };
static const char *const throttle_names[] = { "off", "s1", NULL };
static const char *const level_names[] = { "err", "warn", "notice", "info", "debug", NULL };

#define ROW_IF(path, kind, member, def, min, max, names, flags, help, refuse)                                        \
	{ path, HF_CONF_##kind, offsetof(struct hub_conf, member), def, min, max, names, flags, help, refuse }
#define ROW(path, kind, member, def, min, max, names, flags, help)                                                   \
	ROW_IF(path, kind, member, def, min, max, names, flags, help, NULL)

static const struct hf_conf_row rows[] = {
	ROW("hub.host", STR, host, "", 0, 0, NULL, HF_CONF_REQUIRED, "host name of the hub: in user names, tokens, certificates"),
	ROW_IF("listen.mqtt", STR, listen_mqtt, "0.0.0.0:8883", 0, 0, NULL, 0, "address for MQTT over TLS", hf_listen_refuse),
	ROW_IF("listen.amqp", STR, listen_amqp, "0.0.0.0:5671", 0, 0, NULL, 0, "address for AMQP over TLS", hf_listen_refuse),
	ROW_IF("listen.https", STR, listen_https, "0.0.0.0:443", 0, 0, NULL, 0, "address for the HTTPS API", hf_listen_refuse),
	ROW("tls.cert_file", STR, cert_file, "", 0, 0, NULL, HF_CONF_REQUIRED, "PEM certificate chain, leaf first"),
	ROW("tls.key_file", STR, key_file, "", 0, 0, NULL, HF_CONF_REQUIRED, "PEM private key of it"),
	ROW("tls.client_ca_file", STR, client_ca_file, "", 0, 0, NULL, 0, "PEM roots of devices with CA certificates"),
	ROW("control.socket", STR, control_socket, "/run/holdfast/hub.sock", 0, 0, NULL, 0, "unix socket for the other commands"),
	ROW("storage.dir", STR, storage_dir, "/var/lib/holdfast-hub", 0, 0, NULL, 0, "directory of registry, twins, events"),
	ROW("storage.durability", ENUM, durability, "process", 0, 0, durability_names, 0,
	    "process = survives kill -9; sync = also a power cut"),
	ROW("storage.max_bytes", SIZE, max_bytes, "4 GiB", 64ll << 20, 1ll << 40, NULL, 0, "disk budget; the oldest events go first"),
	ROW("storage.max_blob_bytes", SIZE, max_blob_bytes, "256 MiB", 0, 1ll << 40, NULL, 0, "largest file a device uploads; 0 = no uploads"),
	ROW("storage.blobs_max_bytes", SIZE, blobs_max_bytes, "4 GiB", 1ll << 20, 1ll << 44, NULL, 0,
	    "disk budget of uploaded files; beyond it uploads are refused"),
	ROW("retention.max_age_secs", INT, max_age_s, "86400", 0, 30ll * 86400, NULL, 0,
	    "older events go, the oldest first; 0 = only storage.max_bytes counts"),
	ROW("limits.connections", INT, max_connections, "10000", 1, 1000000, NULL, 0, "connections over MQTT and AMQP together, at once"),
	ROW("limits.throttle", ENUM, throttle, "off", 0, 0, throttle_names, 0, "s1 = the request limits of one S1 unit; off = none"),
	ROW("portal.session_idle_secs", INT, portal_idle_s, "1800", 1, 86400, NULL, 0, "a portal session ends when unused for that long"),
	ROW("portal.session_max_secs", INT, portal_max_s, "43200", 1, 604800, NULL, 0, "and that long after the sign-in"),
	ROW("log.level", ENUM, log_level, "notice", 0, 0, level_names, HF_CONF_RELOADABLE, "least severe level that is logged"),
	{ 0 },
};

bool hub_conf_set_throttle(struct hub_conf *conf, const char *name)
{
	for (int i = 0; throttle_names[i]; i++)
		if (strcmp(name, throttle_names[i]) == 0) {
			conf->throttle = i;
			return true;
		}
	return false;
}

static void check(const void *values, const char *file, struct hf_buf *problems)
{
	const struct hub_conf *c = values;
	const struct { const char *name, *path; } files[] = { { "tls.cert_file", c->cert_file }, { "tls.key_file", c->key_file },
							      { "tls.client_ca_file", c->client_ca_file } };

	for (size_t i = 0; i < HF_ARRAY_LEN(files); i++)
		if (*files[i].path && access(files[i].path, R_OK) != 0)
			hf_conf_problem(problems, file, "%s: %s: %s", files[i].name, files[i].path, strerror(errno));
}

const struct hf_conf_schema hub_conf_schema = { rows, sizeof(struct hub_conf), check };
