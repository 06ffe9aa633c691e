/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "priv/drop.h"
#include "core/log.h"
#include <cap-ng.h>
#include <errno.h>
#include <sys/prctl.h>

int hf_priv_drop(void)
{
	capng_clear(CAPNG_SELECT_BOTH);
	if (capng_apply(CAPNG_SELECT_BOTH) != 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
		hf_log(HF_LOG_ERR, "priv.drop", "capabilities could not be dropped");
		return -EPERM;
	}
	return 0;
}
