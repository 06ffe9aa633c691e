/* SPDX-License-Identifier: GPL-3.0-or-later */
/* dialect/user.h - the user name of an MQTT CONNECT to IoT Hub. Any thread. */
#pragma once
#include "core/span.h"

/* User name of CONNECT, iothub-protocol 1.1 / edgehub-behaviour 2.3.1. Parts borrow from `user`; property
 * values are percent-decoded into out (auth_chain, device_client_type, model_id appended one after another).
 * HF_EPROTO with reason. */
struct hf_mqtt_user {
	struct hf_span host, device, module;
	char auth_chain[1024], model_id[256], client_type[256];	/* truncation = HF_ELIMIT for the first two */
};
int hf_mqtt_user_parse(struct hf_span user, struct hf_mqtt_user *ret_user, const char **ret_reason);
