/* SPDX-License-Identifier: GPL-3.0-or-later */
/* hub/amqp/eh_position.h - where a reader of events wants to begin: the selector text of Event Hubs clients (iothub-protocol
 * 3.2). Any thread. */
#pragma once
#include "core/span.h"

enum hub_eh_by { HUB_EH_ALL, HUB_EH_LATEST, HUB_EH_OFFSET, HUB_EH_SEQUENCE, HUB_EH_TIME };
struct hub_eh_position {
	enum hub_eh_by by;
	int64_t from;		/* OFFSET, SEQUENCE, TIME (ms): the first that is wanted */
};
/* "amqp.annotation.x-opt-offset > '12'" and the like; an empty text is HUB_EH_ALL. HF_EINVALID. */
int hub_eh_position_parse(struct hf_span text, struct hub_eh_position *ret_position);
