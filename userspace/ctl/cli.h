/* SPDX-License-Identifier: GPL-3.0-or-later */
/* ctl/cli.h - the command table of holdfastctl. */
#pragma once
#include "ctlproto/cli.h"

struct hf_cli hf_ctl_cli(void);
