/* SPDX-License-Identifier: GPL-3.0-or-later */
/* hub/model/bulk.h - one entry of a bulk request or an import file (iothub-protocol 5.7). Loop thread. */
#pragma once
#include "hub/model/model.h"

/* Does to the identity and its twin what the entry's importMode says (createOrUpdate when it says nothing). Errors as of
 * hub_ident_put, hub_ident_delete and hub_twin_update, with err. An entry whose twin would be refused changes nothing. */
int hub_bulk_entry(struct hub_model *m, const json_t *item, struct hub_error *err);
