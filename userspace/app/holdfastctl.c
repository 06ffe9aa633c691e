/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ctl/cli.h"

int main(int argc, char **argv)
{
	struct hf_cli cli = hf_ctl_cli();

	return hf_cli_main(&cli, argc, argv);
}
