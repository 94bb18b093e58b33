// Dialogs, and messages that pass.

import { curl } from "./api.js";
import { h, render } from "./dom.js";
import { plain } from "./format.js";

let number = 0;

/// Opens a dialog and returns a promise of what `close` was called with, or undefined if it was dismissed.
///
/// `view(close, update)` describes its contents. The element with `autofocus` gets the focus.
export function open(title, view) {
	return new Promise((resolve) => {
		const element = document.createElement("dialog");
		const label = `dialog-${number += 1}`;
		element.setAttribute("aria-labelledby", label);
		const opener = document.activeElement;
		let result;
		const close = (value) => {
			result = value;
			element.close();
		};
		const update = () => render(
			element, h(
				"form", { method: "dialog", onsubmit: (event) => event.preventDefault() },
				h("header", h("h2", { id: label }, title), h(
					"button.quiet.icon", { "aria-label": "Close", onclick: () => close() }, "✕")),
				view(close, update)));
		element.addEventListener("close", () => {
			element.remove();
			if (opener?.isConnected) opener.focus({ preventScroll: true });
			resolve(result);
		});
		element.addEventListener("pointerdown", (event) => {
			if (event.target === element && !element.querySelector("input, textarea")) close();
		});
		update();
		document.body.append(element);
		element.showModal();
		element.querySelector("[autofocus]")?.focus();
	});
}

export function isOpen() {
	return document.querySelector("dialog[open]") !== null;
}

/// A button that copies what `text()` returns; `face` is what the button shows.
export function copyButton(text, label = "Copy as curl", face = label) {
	return h("button.quiet.copy", {
		title: label, "aria-label": label, onclick: async (event) => {
			const button = event.currentTarget;
			const isCopied = await copy(text());
			say(isCopied ? "Copied." : "The browser does not let this page copy.", isCopied ? "good" : "bad");
			button.focus({ preventScroll: true });
		},
	}, face);
}

/// A button that sends a request, and one that copies the request.
export function requestButton(label, request, onclick, properties) {
	return h("span.pair", { key: label }, h("button", { onclick, ...properties }, label),
		copyButton(() => curl(...request), `Copy as curl: ${label}`, "⧉"));
}

async function copy(text) {
	try {
		await navigator.clipboard.writeText(text);
		return true;
	} catch {
		// Over plain HTTP, browsers have no clipboard for pages.
		const area = h("textarea.offscreen", { "aria-hidden": true, dom: (element) => (element.value = text) });
		const holder = document.createElement("div");
		(document.querySelector("dialog[open]") ?? document.body).append(holder);
		render(holder, area);
		holder.firstChild.select();
		const isCopied = document.execCommand("copy");
		holder.remove();
		return isCopied;
	}
}

let messages = [];
const shownMilliseconds = 6000;

/// Shows a message for a while. `kind` is "good", "bad" or "plain".
export function say(text, kind = "plain") {
	const message = { text, kind, key: number += 1 };
	messages = [...messages.slice(-3), message];
	showMessages();
	setTimeout(() => {
		messages = messages.filter((other) => other !== message);
		showMessages();
	}, kind === "bad" ? 2 * shownMilliseconds : shownMilliseconds);
}

function showMessages() {
	render(document.getElementById("messages"), messages.map(({ text, kind, key }) => h("p", { key, class: kind }, plain(text))));
}
