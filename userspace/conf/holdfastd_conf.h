/* SPDX-License-Identifier: GPL-3.0-or-later */
/* conf/holdfastd_conf.h - the settings of holdfastd. */
#pragma once
#include "conf/conf.h"

enum hf_kern_mode { HF_KERN_AUTO, HF_KERN_OFF };
struct hf_conf {
	char *hub_host, *hub_connection_string_file, *hub_ca_file;
	int64_t hub_mqtt_port, hub_https_port;
	char *gateway_host, **gateway_listen, *gateway_trust_bundle_file;
	int64_t gateway_workers;
	char *tls_cert_file, *tls_key_file;
	char *control_socket, *control_group;
	char *metrics_listen;
	char *storage_dir, *storage_seal_key_file;
	int64_t store_max_bytes, store_state_bytes, store_ttl_s;
	int store_when_full;		/* enum hf_when_full */
	char *store_durability;
	char **dns_servers;
	int64_t clock_max_step_days;
	int kern_mode;			/* enum hf_kern_mode */
	char *kern_pin_dir;
	int64_t limits_connections, limits_per_address, limits_handshake_timeout_ms, limits_connect_timeout_ms;
	char **limits_per_address_exempt;
	int64_t upstream_backoff_max_s, upstream_max_sessions, upstream_scope_refresh_s;
	int log_level;			/* enum hf_log_level */
};
extern const struct hf_conf_schema hf_conf_schema;
/* Milliseconds of store.durability: 0 = "sync"; HF_EINVALID for other text. */
int hf_conf_durability(const char *text, uint32_t *ret_interval_ms);
