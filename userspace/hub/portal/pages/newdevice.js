// SPDX-License-Identifier: GPL-3.0-or-later
// Registering a device.
import * as api from "./api.js";
import {el} from "./dom.js";
import {busy, checkbox, field, notice, select, text} from "./ui.js";
import {ID_RULE, credentialFields, idProblem} from "./credentials.js";
import {deviceLink} from "./registry.js";

export function newDevicePage() {
	const id = field("Device id", text({class: "mono", required: true, maxlength: "128"}), ID_RULE);
	const edge = checkbox("Edge device: a gateway that other devices can have as their parent");
	const status = field("Status", select([["enabled", "Enabled"], ["disabled", "Disabled"]], "enabled"));
	const credentials = credentialFields(null), where = el("div");
	const create = el("button.primary", {type: "submit"}, "Create");

	function submit(e) {
		e.preventDefault();
		const problem = idProblem(id.input.value.trim());

		id.error(problem);
		if (problem)
			id.input.focus();
		const authentication = problem ? null : credentials.read();
		if (!authentication)
			return;
		busy(create, where, async () => {
			const deviceId = id.input.value.trim();

			await api.call("PUT", `devices/${api.enc(deviceId)}`, {body: {
				deviceId, status: status.input.value, capabilities: {iotEdge: edge.input.checked}, authentication,
			}});
			notice(`${deviceId} is registered.`);
			location.hash = deviceLink(deviceId);
		});
	}
	return {
		title: "New device",
		above: el("p.crumbs", {}, el("a", {href: "#/devices"}, "Devices")),
		node: el("form.card.form", {onsubmit: submit, novalidate: true}, id.row, edge.row, status.row, credentials.node, where,
			el("div.actions", {}, create, el("a.button", {href: "#/devices"}, "Cancel"))),
		focus: id.input,
	};
}
