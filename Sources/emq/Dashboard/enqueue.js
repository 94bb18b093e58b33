// The dialog that adds a task.

import { curl, named } from "./api.js";
import * as dialogs from "./dialogs.js";
import { h } from "./dom.js";

/// Asks for a task and adds it. `first` has what the fields show at first: `queue`, `content` (as JSON text), `key`,
/// `priority`, `delay`, `metadata` (as JSON text). Returns the id of the new task, or undefined.
export function enqueue(app, title, first) {
	const values = { content: "null", key: "", priority: "", delay: "", max_retries: "", metadata: "", ...first };
	let flaws = {};
	const number = (name) => (values[name].trim() === "" ? undefined : `"${name}":${values[name].trim()}`);
	// The content goes into the body as it is, so that no number in it is rounded.
	const body = () => `{${[
		`"content":${values.content.trim() || "null"}`, values.key && `"key":${JSON.stringify(values.key)}`, number("priority"), number("delay"),
		number("max_retries"), values.metadata.trim() && `"metadata":${values.metadata.trim()}`,
	].filter(Boolean).join(",")}}`;
	const check = () => {
		flaws = {};
		for (const name of ["content", "metadata"]) {
			try {
				if (values[name].trim()) JSON.parse(values[name]);
			} catch (error) {
				flaws[name] = `This is no JSON: ${error.message}`;
			}
		}
		for (const name of ["priority", "delay", "max_retries"]) {
			if (values[name].trim() && !Number.isFinite(Number(values[name]))) flaws[name] = "This is no number.";
		}
		if (values.queue.trim() === "") flaws.queue = "Name a queue.";
		return Object.keys(flaws).length === 0;
	};
	return dialogs.open(title, (close, update) => {
		const field = (name, label, hint, properties) => h(
			"label", { class: `field ${properties?.class ?? ""}` }, h("span", null, label),
			h(properties?.rows ? "textarea" : "input", {
				name, value: values[name], rows: properties?.rows, spellcheck: "false", autocomplete: "off", autofocus: properties?.autofocus,
				"aria-invalid": flaws[name] ? "true" : undefined, "aria-describedby": `hint-${name}`,
				oninput: (event) => {
					values[name] = event.target.value;
					if (flaws[name]) {
						check();
						update();
					}
				},
			}),
			h("span", { id: `hint-${name}`, class: flaws[name] ? "hint bad" : "hint", role: flaws[name] ? "alert" : undefined }, flaws[name] ?? hint));
		const add = async () => {
			if (!check()) return update();
			const text = body();
			const answer = await app.perform("POST", `/enqueue/${named(values.queue)}`, text, (json) => (
				json.existing ? "A task with this key is there already; nothing was added." : "Added the task."), (failure) => {
				if (!failure.field) return false;
				flaws = { [failure.field.split(/[.[]/)[0]]: failure.message };
				update();
				return failure.field.split(/[.[]/)[0] in values;
			});
			if (answer) close(answer.id);
		};
		return [
			h("div", { class: "dialog-body" },
				field("queue", "Queue"),
				field("content", "Content", "Any JSON value.", { rows: 8, autofocus: true }),
				h("div", { class: "form" },
					field("key", "Key", "At most one unfinished task has it."), field("priority", "Priority", "−128 to 127; default 0."),
					field("delay", "Delay in seconds", "Default: none."), field("max_retries", "Retries", "Default: the queue's."),
					field("metadata", "Metadata", "A JSON object of strings.", { class: "whole", rows: 2 }))),
			h("footer", null, dialogs.copyButton(() => curl("POST", `/enqueue/${named(values.queue)}`, body())), h("span", { class: "space" }),
				h("button", { type: "button", onclick: () => close() }, "Do not add"),
				h("button", { type: "submit", class: "primary", onclick: add }, "Enqueue")),
		];
	}, { class: "large" });
}
