// SPDX-License-Identifier: GPL-3.0-or-later
// The parent of a device: chosen among the edge devices, changed, taken away.
import * as api from "./api.js";
import {el, replace} from "./dom.js";
import {Pager, busy, card, debounce, empty, field, help, newRadioGroup, notice, table, text, wide} from "./ui.js";
import {allOf, deviceLink, findDevice, nameContains, parentOf, searchDevices, setParent, stateBadges} from "./registry.js";

export async function parentPart(ident) {
	const where = el("div"), now = el("p"), search = text({type: "search", placeholder: "Part of a device id"});
	const mayWrite = api.may("registryWrite") && api.may("registryRead");
	const save = el("button.primary", {type: "button", disabled: true, onclick: () => change(save, group.value.scope, group.value.id)}, "Set the parent");
	const clear = el("button", {type: "button", onclick: () => change(clear, "", null)}, "Take the parent away");
	const group = newRadioGroup((v) => {
		save.disabled = false;
		save.textContent = `Set ${v.id} as the parent`;
	});

	async function refresh() {
		const row = await findDevice(ident.device), parent = row && parentOf(row);

		clear.hidden = !parent || !mayWrite;
		replace(now, parent ? [`${ident.device} is a child of `, el("a", {href: deviceLink(parent)}, parent), "."] :
			`${ident.device} has no parent: it connects to the hub itself.`);
	}
	async function change(button, scope, name) {
		await busy(button, where, async () => {
			await setParent(ident.device, scope);
			notice(scope ? `${ident.device} is now a child of ${name}.` : `${ident.device} has no parent any more.`);
			await refresh();
			if (button.hidden)
				search.focus();
		});
	}
	let total = null;
	const pager = new Pager("edge devices", async (token) => {
		const where = allOf(nameContains(search.value.trim()), "capabilities.iotEdge = true", `deviceId != ${api.quoted(ident.device)}`);
		const page = await searchDevices(where, token, 20);

		if (!token)
			total = page.all;
		return {n: page.rows.length, next: page.next, all: total, content: page.rows.length ?
			table("Edge devices", ["", "Edge device", wide("State")], page.rows.map((d) => el("tr", {},
				el("td.tick", {}, group.radio(d.deviceId, {id: d.deviceId, scope: d.deviceScope})),
				el("td", {}, el("a.name", {href: deviceLink(d.deviceId)}, d.deviceId)), el("td.wide", {}, stateBadges(d, false))))) :
			empty(search.value ? "No edge device fits the search." :
				"There is no other edge device. Create one, with the box Edge device ticked.")};
	});

	search.addEventListener("input", debounce(() => pager.restart()));
	await Promise.all([refresh(), mayWrite ? pager.restart() : null]);
	return el("div", {}, card("Parent", now, el("div.actions", {}, clear)), where,
		mayWrite ? card("Choose an edge device",
			ident.edge ? help("A gateway below another gateway: at most five layers, no circles.") : null,
			field("Search", search).row, pager.node, el("div.actions", {}, save)) : null);
}
