// SPDX-License-Identifier: GPL-3.0-or-later
// The modules of a device.
import * as api from "./api.js";
import {el, replace} from "./dom.js";
import {badge, busy, card, empty, field, notice, table, text, time, wide} from "./ui.js";
import {ID_RULE, credentialFields, idProblem} from "./credentials.js";
import {authName, deviceLink} from "./registry.js";

const COLUMNS = ["Module", "State", wide("Managed by"), wide("Authentication"), wide("Last activity")];

async function list(ident) {
	return api.may("registryRead") ? api.get(`devices/${api.enc(ident.device)}/modules`) :
		api.queryAll("SELECT moduleId, connectionState, authenticationType, lastActivityTime FROM devices.modules " +
			`WHERE deviceId = ${api.quoted(ident.device)}`);
}

function row(ident, m) {
	return el("tr", {},
		el("td", {}, el("a.name", {href: deviceLink(ident.device, `modules/${api.enc(m.moduleId)}`)}, m.moduleId)),
		el("td", {}, m.connectionState === "Connected" ? badge("ok", "Connected") : badge("off", "Disconnected")),
		el("td.wide", {}, m.managedBy || el("span.quiet", {}, "nobody")),
		el("td.wide", {}, authName(m.authentication ? m.authentication.type : m.authenticationType)),
		el("td.wide.quiet", {}, time(m.lastActivityTime)));
}

export async function modulesPart(ident) {
	const rows = el("div"), where = el("div");
	const id = field("Module id", text({class: "mono"}), ID_RULE), credentials = credentialFields(null);
	const create = el("button.primary", {type: "submit"}, "Add module");

	async function refresh() {
		const modules = await list(ident);

		replace(rows, modules.length ? table("Modules", COLUMNS, modules.map((m) => row(ident, m))) :
			empty("This device has no modules."));
	}
	function submit(e) {
		e.preventDefault();
		const moduleId = id.input.value.trim(), problem = idProblem(moduleId);

		id.error(problem);
		if (problem)
			id.input.focus();
		const authentication = problem ? null : credentials.read();
		if (!authentication)
			return;
		busy(create, where, async () => {
			await api.call("PUT", `devices/${api.identPath(ident.device, moduleId)}`, {body: {deviceId: ident.device, moduleId, authentication}});
			notice(`${ident.device}/${moduleId} is registered.`);
			id.input.value = "";
			await refresh();
		});
	}
	await refresh();
	return el("div", {}, rows, api.may("registryWrite") ? card("Add a module",
		el("form.form", {onsubmit: submit, novalidate: true}, id.row, credentials.node, where, el("div.actions", {}, create))) : null);
}
