// SPDX-License-Identifier: GPL-3.0-or-later
// Telemetry as it comes: newest first, a bounded number.
import * as api from "./api.js";
import {el, replace} from "./dom.js";
import {alertBox, badge, debounce, empty, facts, field, text} from "./ui.js";

const SHOWN = 200;
const CLOCK = {hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3, hourCycle: "h23"};

function hexDump(bytes) {
	const lines = [];

	const hex = (n, width) => n.toString(16).padStart(width, "0");

	for (let at = 0; at < Math.min(bytes.length, 1024); at += 16) {
		const part = [...bytes.subarray(at, at + 16)];
		const chars = part.map((b) => b > 31 && b < 127 ? String.fromCharCode(b) : ".").join("");

		lines.push(`${hex(at, 4)}  ${part.map((b) => hex(b, 2)).join(" ").padEnd(47)}  ${chars}`);
	}
	return lines.join("\n") + (bytes.length > 1024 ? `\n… ${bytes.length - 1024} bytes more` : "");
}

// As JSON, else as text, else as hex.
function decode(base64) {
	const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
	let body;

	try {
		body = new TextDecoder("utf-8", {fatal: true}).decode(bytes);
	} catch {
		return {kind: "hex", size: bytes.length, short: `${bytes.length} bytes`, full: hexDump(bytes)};
	}
	// eslint-disable-next-line no-control-regex
	if (/[\x00-\x08\x0e-\x1f]/.test(body))
		return {kind: "hex", size: bytes.length, short: `${bytes.length} bytes`, full: hexDump(bytes)};
	try {
		const value = JSON.parse(body);	// long numbers would be rounded: then as it came

		return {kind: "JSON", size: bytes.length, short: body, full: /\d{16}/.test(body) ? body : JSON.stringify(value, null, 2)};
	} catch {
		return {kind: "text", size: bytes.length, short: body, full: body};
	}
}

function pairs(title, o) {
	const entries = Object.entries(o);

	return entries.length ? [el("h3", {}, title), facts(entries.map(([k, v]) => [el("span.mono", {}, k), v === null ? "null" : String(v), "mono"]))] : null;
}

function item(e) {
	const body = decode(e.bodyBase64), when = new Date(e.enqueuedTime);
	const who = e.moduleId ? `${e.deviceId}/${e.moduleId}` : e.deviceId;

	return el("li", {}, el("details.event", {},
		el("summary", {}, el("span.event-who", {}, who), el("time.quiet", {datetime: e.enqueuedTime}, when.toLocaleTimeString(undefined, CLOCK)),
			badge("off", body.kind), el("span.event-body.mono", {}, body.short.slice(0, 200) || "(empty)")),
		el("div.event-more", {}, el("pre", {tabindex: "0", "aria-label": "Body"}, body.full || "(empty)"),
			pairs("Application properties", e.properties), pairs("System properties", e.systemProperties),
			el("p.quiet", {}, `${body.size} bytes, sequence number ${e.sequence}, partition ${e.partition}`))));
}

export function telemetryPage(params) {
	if (!api.may("serviceConnect"))
		return {title: "Telemetry", node: alertBox("info", el("p", {}, "Your policy may not read telemetry. Sign in with iothubowner or service."))};

	const device = text({value: params.get("device") || "", placeholder: "All devices", class: "mono"});
	const list = el("ol.events", {"aria-label": "Events, newest first"}), none = empty("Nothing yet. Events appear here the moment the hub takes them.");
	const state = el("p.quiet", {role: "status"});
	const pause = el("button", {type: "button", "aria-pressed": "false", onclick: () => setPaused(!paused)}, "Pause");
	const clear = el("button", {type: "button", onclick: () => { list.replaceChildren(); held = []; show(); }}, "Clear");
	let source = null, paused = false, held = [], waiting = [], frame = 0, missed = 0;

	function connection() {
		if (!source || source.readyState === EventSource.CLOSED)
			return "Not connected";
		if (source.readyState === EventSource.CONNECTING)
			return "Connecting …";
		return paused ? `Paused, ${held.length}${held.length === SHOWN ? " or more" : ""} new` : "Live";
	}
	function show() {
		none.hidden = list.childElementCount > 0;
		state.textContent = `${connection()}${missed ? ` · ${missed.toLocaleString()} not shown: more came than a page can show` : ""}`;
	}
	function draw() {
		frame = 0;
		list.prepend(...waiting.slice(-SHOWN).reverse().map(item));
		waiting = [];
		while (list.childElementCount > SHOWN)
			list.lastElementChild.remove();
		show();
	}
	function take(e) {
		const event = JSON.parse(e.data);

		if (paused) {
			held.push(event);
			if (held.length > SHOWN)
				held.shift();
			show();
			return;
		}
		waiting.push(event);
		if (!frame)
			frame = requestAnimationFrame(draw);
	}
	function setPaused(on) {
		paused = on;
		pause.textContent = on ? "Go on" : "Pause";
		pause.setAttribute("aria-pressed", String(on));
		if (!on) {
			waiting.push(...held);
			held = [];
			draw();
		}
		show();
	}
	function open() {
		const id = device.value.trim();

		source?.close();
		source = new EventSource(`api/live${id ? `?deviceId=${api.enc(id)}` : ""}`);
		source.addEventListener("message", take);
		source.addEventListener("skipped", (e) => { missed += Number(e.data); show(); });
		source.addEventListener("open", show);
		source.addEventListener("error", async () => {
			show();
			if (source.readyState === EventSource.CLOSED)	// refused: an ordinary call says why
				await api.get("session", {poll: true}).catch(() => {});
		});
		source.addEventListener("signedout", () => api.get("session").catch(() => {}));
		show();
	}
	device.addEventListener("input", debounce(() => {
		history.replaceState(null, "", `#/telemetry${device.value.trim() ? `?device=${api.enc(device.value.trim())}` : ""}`);
		replace(list);
		held = [];
		waiting = [];
		missed = 0;
		open();
	}, 400));
	open();
	return {
		title: "Telemetry",
		actions: el("div.actions", {}, pause, clear),
		node: el("div", {}, el("form.filters", {role: "search", onsubmit: (e) => e.preventDefault()}, field("Device id", device).row),
			state, none, list),
		leave() {
			source.close();
			cancelAnimationFrame(frame);
		},
	};
}
