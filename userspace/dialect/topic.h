/* SPDX-License-Identifier: GPL-3.0-or-later */
/* dialect/topic.h - the MQTT topics of IoT Hub: what a client publishes to, and what a subscription filter is for
 * (iothub-protocol 1.12, edgehub-behaviour 2.3). Borrows from its input. Any thread. */
#pragma once
#include "core/span.h"

enum hf_topic_kind {
	HF_TOPIC_BAD,		/* nothing the hub knows */
	HF_TOPIC_EVENTS,	/* devices/D[/modules/M]/messages/events/[bag][/] ; rest = bag */
	HF_TOPIC_TWIN_GET,	/* $iothub/twin/GET/?$rid=.. ; rest = query */
	HF_TOPIC_TWIN_PATCH,	/* $iothub/twin/PATCH/properties/reported/?$rid=.. */
	HF_TOPIC_METHOD_RES,	/* $iothub/methods/res/{status}/?$rid=.. ; status set */
};
struct hf_topic {
	enum hf_topic_kind kind;
	struct hf_span device, module, rest, rid;	/* module empty for devices; rid raw text, may be empty */
	int64_t version;	/* $version= of a twin request, -1 when absent */
	int32_t status;
};
/* Classifies a client's PUBLISH topic (iothub-protocol 1.12). Bag not yet checked. */
void hf_topic_parse(struct hf_span topic, struct hf_topic *ret_topic);
/* Bytes of the topic of an identity's telemetry, without the property bag that follows; module empty for devices. */
size_t hf_topic_events_len(struct hf_span device, struct hf_span module);
/* Value of name= in the query of a topic, "?$rid=1&$version=2"; raw, empty when absent. */
struct hf_span hf_topic_query(struct hf_span query, const char *name);

/* What a client has subscribed to; a set of bits. */
enum { HF_SUB_METHODS = 1, HF_SUB_DESIRED = 2, HF_SUB_TWIN_RES = 4, HF_SUB_C2D = 8, HF_SUB_INPUTS = 16 };
/* The bit for a filter of this identity; 0 = nothing that is served to it. module empty for devices. */
unsigned hf_filter_kind(struct hf_span filter, struct hf_span device, struct hf_span module);
