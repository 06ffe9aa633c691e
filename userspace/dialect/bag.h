/* SPDX-License-Identifier: GPL-3.0-or-later */
/* dialect/bag.h - property bags of MQTT topics, and their canonical text, which is how messages keep their properties
 * (iothub-protocol 1.4, edgehub-behaviour 7.7). Any thread. */
#pragma once
#include "core/buf.h"

/* Checks and canonicalises a property bag from a topic into out (appends). Strips one leading '?' and one
 * trailing '/'. Refuses (HF_EPROTO): broken %-escape, bytes that decode to invalid UTF-8, empty key, empty
 * pair ("a=1&&b"), second '=' in a pair. extra: text appended as one more pair ("mqtt-retain=true") or NULL. */
int hf_bag_canonical(struct hf_span bag, const char *extra, struct hf_buf *out);
/* Appends one pair to a canonical bag, encoded; value NULL: the key alone. */
void hf_bag_put(struct hf_buf *bag, struct hf_span key, const struct hf_span *value);
/* Walks a canonical bag: decoded key and value appended to *key, *value (both reset first); has_value false
 * for a key without '='. Returns false at the end. */
struct hf_bag_iter { struct hf_span rest; };
bool hf_bag_next(struct hf_bag_iter *it, struct hf_buf *key, struct hf_buf *value, bool *has_value);
