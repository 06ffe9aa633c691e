/* SPDX-License-Identifier: GPL-3.0-or-later */
/* dialect/bag_http.h - a message's properties between HTTP and the bag in which messages are kept (iothub-protocol 4.1, 4.2). */
#pragma once
#include "core/buf.h"

/* Key in the bag of an HTTP header or a batch's property; false: it says nothing about the message. */
bool hf_bag_http_key(struct hf_span header, struct hf_span *ret_key);
/* Appends the header lines that carry a bag to a receiver. What a header cannot carry, blanks in a name or control
 * bytes, is percent-encoded. */
void hf_bag_http_headers(struct hf_span bag, struct hf_buf *out);
