// SPDX-License-Identifier: GPL-3.0-or-later
// One device or module: its state, the switch that cuts a device off, and the parts below it.
import * as api from "./api.js";
import {el, replace} from "./dom.js";
import {badge, busy, failure, notice} from "./ui.js";
import {cutOffIds, deviceLink, findDevice, stateBadges} from "./registry.js";
import {identityPart} from "./identity.js";
import {twinPart} from "./twin.js";
import {modulesPart} from "./modules.js";
import {childrenPart} from "./children.js";
import {parentPart} from "./parent.js";
import {manifestPart} from "./manifest.js";
import {messagesPart} from "./messages.js";

const STATE_MS = 3000;
const DEVICE_PARTS = {
	"": ["Identity", identityPart], twin: ["Twin", twinPart], modules: ["Modules", modulesPart],
	children: ["Children", childrenPart, (d) => d.edge], parent: ["Parent", parentPart],
	manifest: ["Manifest", manifestPart, (d) => d.edge], messages: ["Messages", messagesPart],
};
const MODULE_PARTS = {"": ["Identity", identityPart], twin: ["Twin", twinPart], messages: ["Methods", messagesPart]};

const tabLink = (ident, name) => deviceLink(ident.device, [ident.module ? `modules/${api.enc(ident.module)}` : "", name].filter(Boolean).join("/"));

function tabs(ident, parts, current) {
	return el("nav.tabs", {"aria-label": ident.module ? "Parts of the module" : "Parts of the device"},
		Object.entries(parts).filter(([, [, , wanted]]) => !wanted || wanted(ident)).map(([name, [title]]) =>
			el("a", {href: tabLink(ident, name), "aria-current": name === current ? "page" : null}, title)));
}

// The switch of one device. It lives in the hub, so that every window shows the same.
function cutSwitch(ident, state, where) {
	const button = el("button.switch", {type: "button", role: "switch", disabled: !api.may("registryWrite"), onclick: flip},
		el("span.knob", {"aria-hidden": "true"}), "Connection allowed");

	async function flip() {
		const cut = button.getAttribute("aria-checked") === "true";

		await busy(button, where, async () => {
			await api.call(cut ? "PUT" : "DELETE", `cutOff/${api.enc(ident.device)}`);
			notice(cut ? `${ident.device} is cut off: it is disconnected and cannot come back until you allow it.` :
				`${ident.device} may connect again.`);
			window.dispatchEvent(new Event("faults-changed"));
			await state.refresh();
		});
	}
	return {node: button, set: (cut) => button.setAttribute("aria-checked", String(!cut))};
}

// Badges that follow the hub.
function liveState(ident) {
	const badges = el("span.badges", {role: "status"}), where = el("div");
	const state = {badges, where, refresh, stop() {
		gone = true;
		clearTimeout(timer);
		window.removeEventListener("device-changed", refresh);
	}};
	const knob = cutSwitch(ident, state, where);
	let timer = 0, gone = false, shown = "";

	async function refresh() {
		clearTimeout(timer);
		try {
			const [row, cut] = await Promise.all([findDevice(ident.device, {poll: true}), cutOffIds({poll: true})]);

			if (gone)
				return;
			const isCut = cut.has(ident.device), now = row ? `${row.connectionState} ${row.status} ${isCut}` : "";

			knob.set(isCut);
			if (row && now !== shown)
				replace(badges, row.iotEdge ? [badge("edge", "Edge"), " "] : null, stateBadges(row, isCut));
			shown = now;
		} catch {
			// the part below tells what is wrong
		}
		if (!gone)
			timer = setTimeout(refresh, STATE_MS);
	}
	window.addEventListener("device-changed", refresh);
	state.knob = knob.node;
	return state;
}

async function findIdent(device, module) {
	const row = await findDevice(device);

	if (!row)
		throw new api.ApiError(404, "DeviceNotFound", `There is no device ${device}. Perhaps it was deleted.`);
	return {device, module: module || null, edge: row.iotEdge, scope: row.deviceScope || "", name: module ? `${device}/${module}` : device};
}

export async function devicePage(device, rest, params) {
	const module = rest[0] === "modules" && rest[1] ? rest[1] : null;
	const ident = await findIdent(device, module);
	const parts = module ? MODULE_PARTS : DEVICE_PARTS, name = (module ? rest[2] : rest[0]) || "";
	const part = parts[name], state = module ? null : liveState(ident);
	let content;

	if (!part || (part[2] && !part[2](ident)))
		content = failure(new Error("There is no such part. Choose one above."));
	else
		content = await part[1](ident, params);
	if (state)
		await state.refresh();
	const node = content.node || content;
	return {
		title: module || device,
		above: el("p.crumbs", {}, el("a", {href: "#/devices"}, "Devices"),
			module ? [" / ", el("a", {href: deviceLink(device)}, device), " / ",
				el("a", {href: deviceLink(device, "modules")}, "Modules")] : null),
		actions: state ? el("div.state", {}, state.badges, state.knob) : null,
		below: [state ? state.where : null, tabs(ident, parts, name)],
		node,
		leave() {
			if (state)
				state.stop();
			if (content.leave)
				content.leave();
		},
	};
}
