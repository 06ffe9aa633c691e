// SPDX-License-Identifier: GPL-3.0-or-later
// The rules by which the hub fails on purpose.
import * as api from "./api.js";
import {el, replace} from "./dom.js";
import {badge, busy, empty, failure, loading, table, wide} from "./ui.js";
import {deviceLink} from "./registry.js";

const COLUMNS = ["On", "Action", "Device", wide("Rate"), wide("Left"), wide("Hits"), "Remove"];

export function faultsPage() {
	const list = el("div", {}, loading()), where = el("div");
	const mayWrite = api.may("registryWrite");

	async function remove(button, id) {
		await busy(button, where, async () => {
			await api.call("DELETE", `faults${id ? `?id=${id}` : ""}`);
			window.dispatchEvent(new Event("faults-changed"));
			await refresh();
		});
	}
	function row(r) {
		const button = el("button.small", {
			type: "button", disabled: !mayWrite, "aria-label": `Remove rule ${r.id}`, onclick: () => remove(button, r.id),
		}, "Remove");

		return el("tr", {},
			el("td", {}, r.on), el("td", {}, el("code", {}, r.action), r.cutOff ? [" ", badge("bad", "Cut off")] : null),
			el("td", {}, r.device ? el("a", {href: deviceLink(r.device.split("/")[0])}, r.device) : "all"),
			el("td.wide", {}, `${r.rate} %`), el("td.wide", {}, r.count === null ? "no end" : r.count),
			el("td.wide", {}, r.hits), el("td", {}, button));
	}
	async function refresh() {
		try {
			const rules = await api.get("faults");

			clear.hidden = rules.length < 2;
			replace(list, rules.length ? table("Fault rules", COLUMNS, rules.map(row)) :
				empty("The hub does nothing wrong on purpose.", el("p", {}, "Add a rule on the command line:"),
					el("pre", {}, "holdfast-hub fault add --on telemetry --action ack-late=2000 --device edge1")));
		} catch (e) {
			replace(list, failure(e));
		}
	}
	const clear = el("button.danger", {type: "button", hidden: true, disabled: !mayWrite, onclick: () => remove(clear, 0)}, "Remove all");

	refresh();
	return {
		title: "Faults",
		actions: el("div.actions", {}, el("button", {type: "button", onclick: refresh}, "Refresh"), clear),
		node: el("div", {}, el("p.quiet", {}, "Rules live as long as the hub runs. The first that fits an operation decides; ",
			"devices that are cut off stand first."), where, list),
	};
}
