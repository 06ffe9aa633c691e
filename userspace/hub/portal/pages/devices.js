// SPDX-License-Identifier: GPL-3.0-or-later
// All devices: searched and shown page by page.
import * as api from "./api.js";
import {el} from "./dom.js";
import {Pager, badge, debounce, empty, field, select, table, text, time, wide} from "./ui.js";
import {allOf, authName, cutOffIds, deviceLink, nameContains, parentLink, searchDevices, stateBadges} from "./registry.js";

const SHOW = {
	all: ["All devices", () => null],
	edge: ["Edge devices", () => "capabilities.iotEdge = true"],
	leaf: ["Devices that are no edge devices", () => "capabilities.iotEdge = false"],
	free: ["Without a parent", () => "parentScopes = []"],
	connected: ["Connected", () => "connectionState = 'Connected'"],
	disabled: ["Disabled", () => "status = 'disabled'"],
	cut: ["Cut off", (cut) => `deviceId IN [${[...cut].map(api.quoted).join(", ")}]`],
};

function row(d, cut) {
	return el("tr", {},
		el("td", {}, el("a.name", {href: deviceLink(d.deviceId)}, d.deviceId), d.iotEdge ? [" ", badge("edge", "Edge")] : null),
		el("td", {}, stateBadges(d, cut.has(d.deviceId))),
		el("td.wide", {}, parentLink(d)),
		el("td.wide", {}, authName(d.authenticationType)),
		el("td.wide.quiet", {}, time(d.lastActivityTime)));
}

const COLUMNS = ["Device", "State", wide("Parent"), wide("Authentication"), wide("Last activity")];

export function devicesPage(params) {
	const search = text({type: "search", value: params.get("search") || "", placeholder: "Part of a device id"});
	const show = select(Object.entries(SHOW).map(([key, [label]]) => [key, label]), SHOW[params.get("show")] ? params.get("show") : "all");
	let all = null;

	async function load(token) {
		const cut = await cutOffIds();
		const where = allOf(nameContains(search.value.trim()), SHOW[show.value][1](cut));
		const page = await searchDevices(where, token);

		if (!token)
			all = page.all;
		return {n: page.rows.length, next: page.next, all, content: page.rows.length ?
			table("Devices", COLUMNS, page.rows.map((d) => row(d, cut))) :
			search.value || show.value !== "all" ? empty("No device fits. Search for less, or show all devices.") :
				empty("There is no device yet.", el("a.button.primary", {href: "#/new-device"}, "Create the first device"))};
	}
	const pager = new Pager("devices", load);

	function changed() {
		const p = new URLSearchParams();

		if (search.value)
			p.set("search", search.value);
		if (show.value !== "all")
			p.set("show", show.value);
		history.replaceState(null, "", `#/devices${p.size ? `?${p}` : ""}`);
		pager.restart();
	}
	search.addEventListener("input", debounce(changed));
	show.addEventListener("change", changed);
	pager.restart();
	return {
		title: "Devices",
		actions: el("div.actions", {}, el("button", {type: "button", onclick: () => pager.again()}, "Refresh"),
			api.may("registryWrite") ? el("a.button.primary", {href: "#/new-device"}, "New device") : null),
		node: el("div", {}, el("form.filters", {role: "search", onsubmit: (e) => e.preventDefault()},
			field("Search", search).row, field("Show", show).row), pager.node),
	};
}
