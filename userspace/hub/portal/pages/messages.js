// SPDX-License-Identifier: GPL-3.0-or-later
// Calling a method, sending a message to a device.
import * as api from "./api.js";
import {el, replace} from "./dom.js";
import {alertBox, busy, card, confirmAction, field, notice, select, text} from "./ui.js";
import {jsonEditor} from "./editor.js";
import {parseJson, pretty} from "./json.js";

function methodForm(ident) {
	const name = field("Method", text({class: "mono", maxlength: "100"}), "As the device knows it, such as reboot.");
	const payload = jsonEditor("Payload (JSON)", {rows: 5});
	const answer = field("Answer within, seconds", text({type: "number", value: "30", min: "5", max: "300"}), "5 to 300");
	const connect = field("Connect within, seconds", text({type: "number", value: "0", min: "0", max: "300"}), "0 to 300");
	const result = el("div", {"aria-live": "polite"}), button = el("button.primary", {type: "submit"}, "Call");

	payload.set(null);
	function submit(e) {
		e.preventDefault();
		const methodName = name.input.value.trim();

		name.error(methodName ? null : "Enter the name of a method.");
		if (!methodName)
			name.input.focus();
		const value = methodName ? payload.value() : undefined;
		if (value === undefined)
			return;
		busy(button, result, async () => {
			const {doc} = await api.call("POST", `twins/${api.identPath(ident.device, ident.module)}/methods`, {body: {
				methodName, payload: value, responseTimeoutInSeconds: Number(answer.input.value),
				connectTimeoutInSeconds: Number(connect.input.value),
			}});

			replace(result, alertBox(doc.status < 400 ? "ok" : "warn", el("p", {}, `The device answered with status ${doc.status}.`),
				el("pre", {}, pretty(doc.payload))));
		});
	}
	return card("Direct method", el("form.form", {onsubmit: submit, novalidate: true}, name.row, payload.node,
		el("div.pair", {}, answer.row, connect.row), result, el("div.actions", {}, button)));
}

// Rows of a name and a value; read() gives an object, or null after showing what is wrong.
function properties() {
	const rows = el("div"), message = el("p.field-error", {role: "alert", hidden: true});
	const add = el("button.small", {type: "button", onclick: () => {
		const gone = el("button.small", {type: "button", "aria-label": "Remove the property", onclick: () => { row.remove(); add.focus(); }}, "×");
		const row = el("div.with-buttons", {}, text({"aria-label": "Property name", placeholder: "name"}),
			text({"aria-label": "Property value", placeholder: "value"}), gone);

		rows.append(row);
		row.querySelector("input").focus();
	}}, "Add a property");

	return {
		node: el("fieldset.plain", {}, el("legend", {}, "Application properties"), rows, message, add),
		read() {
			const out = {};

			message.hidden = true;
			for (const row of rows.children) {
				const [name, value] = [...row.querySelectorAll("input")];

				if (!name.value && !value.value)
					continue;
				if (!name.value || Object.hasOwn(out, name.value)) {
					message.textContent = name.value ? `The property ${name.value} stands here twice.` : "A property needs a name.";
					message.hidden = false;
					name.focus();
					return null;
				}
				out[name.value] = value.value;
			}
			return out;
		},
	};
}

const ACKS = [["none", "none"], ["positive", "when completed"], ["negative", "when lost"], ["full", "in both cases"]];

function c2dForm(ident) {
	const body = el("textarea.code", {rows: "5"}), data = field("Body", body);
	const type = field("Content type", select([["", "none"], ["application/json", "application/json"], ["text/plain", "text/plain"]], ""));
	const id = field("Message id", text({class: "mono", maxlength: "128"}), "Left empty, the hub makes one.");
	const correlation = field("Correlation id", text({class: "mono", maxlength: "128"}));
	const ack = field("Feedback", select(ACKS, "none"));
	const life = field("Time to live, seconds", text({type: "number", value: "3600", min: "1", max: "172800"}), "At most two days.");
	const props = properties(), result = el("div", {"aria-live": "polite"}), button = el("button.primary", {type: "submit"}, "Send");
	const purge = el("button", {type: "button", onclick: empty}, "Discard waiting messages");

	async function empty() {
		if (!await confirmAction(`Discard the messages that wait for ${ident.device}?`, el("p", {}, "The device will not receive them."), "Discard"))
			return;
		await busy(purge, result, async () => {
			const {doc} = await api.call("DELETE", `devices/${api.enc(ident.device)}/commands`);

			notice(`${doc.totalMessagesPurged} messages discarded.`);
		});
	}
	function submit(e) {
		e.preventDefault();
		if (type.input.value === "application/json")
			try {
				parseJson(body.value);
				data.error(null);
			} catch (bad) {
				data.error(`Line ${bad.line}, column ${bad.column}: ${bad.message}`);
				body.focus();
				return;
			}
		const list = props.read(), seconds = Number(life.input.value);
		if (!list)
			return;
		life.error(seconds >= 1 && seconds <= 172800 ? null : "1 to 172800 seconds.");
		if (!(seconds >= 1 && seconds <= 172800)) {
			life.input.focus();
			return;
		}
		busy(button, result, async () => {
			await api.call("POST", `devices/${api.enc(ident.device)}/messages/devicebound`, {body: {
				data: body.value, messageId: id.input.value.trim(), correlationId: correlation.input.value.trim(),
				contentType: type.input.value, ack: ack.input.value, expiryTimeUtc: Date.now() + seconds * 1000, properties: list,
			}});
			replace(result, alertBox("ok",
				el("p", {}, `The message waits for ${ident.device}, which receives it when it is connected and listens.`)));
		});
	}
	return card("Message to the device", el("form.form", {onsubmit: submit, novalidate: true}, data.row, type.row, props.node,
		el("div.pair", {}, id.row, correlation.row), el("div.pair", {}, ack.row, life.row), result,
		el("div.actions", {}, button, purge)));
}

export async function messagesPart(ident) {
	if (!api.may("serviceConnect"))
		return alertBox("info", el("p", {}, "Your policy may not call devices. Sign in with iothubowner or service."));
	return el("div.columns.even", {}, methodForm(ident), ident.module ? null : c2dForm(ident));
}
