/* SPDX-License-Identifier: GPL-3.0-or-later */
/* hub/hub_conf.h - the settings of holdfast-hub. */
#pragma once
#include "conf/conf.h"

struct hub_conf {
	char *host, *listen_mqtt, *listen_amqp, *listen_https;
	char *cert_file, *key_file, *client_ca_file;
	char *control_socket, *storage_dir;
	int durability;			/* 0 process, 1 sync */
	int throttle;			/* 0 off, 1 s1 */
	int64_t max_age_s, max_bytes, max_blob_bytes, blobs_max_bytes, max_connections;
	int64_t portal_idle_s, portal_max_s;
	int log_level;
};
extern const struct hf_conf_schema hub_conf_schema;
/* "off" or "s1" into conf->throttle; false when it is neither. */
bool hub_conf_set_throttle(struct hub_conf *conf, const char *name);
