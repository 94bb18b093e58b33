// Dialogs for what can be done to tasks. They say how many it concerns, and stay open, with what was typed, until the
// server has accepted it.

import { curl, named, query, send } from "./api.js";
import { copyButton, open, say } from "./dialogs.js";
import { h } from "./dom.js";
import { count, many, plain } from "./format.js";
import { button } from "./page.js";

const settleMilliseconds = 250;
const typedAbove = 100;

/// Asks before something is done, for some values if it needs them. If it concerns more than 100 tasks, their number has
/// to be typed. Returns the server's answer, or undefined.
///
/// - `fields`: `{ name, label, value, hint, options, rows }`; with `options`, pairs of values and texts, it is a choice, and
///   with `rows` a long text. A field named `to` is for a queue, and has to be filled in.
/// - `make(values)`: `{ method, path, body, text, tasks, flaws }` for what was typed: a request, POST by default; what it
///   does; how many tasks it concerns; and what is wrong, by field.
/// - `done(answer)`: the message when it has succeeded, if any.
/// - `perform()`: does it instead if it is not one request; returns the answer.
export function ask(app, { title, action = title, danger, fields = [], make, done, perform }) {
	const values = Object.fromEntries(fields.map(({ name, value }) => [name, value ?? ""]));
	let failure, timer, isSending;
	let typed = "";
	let queues = [];
	return open(title, (close, update) => {
		const { method = "POST", path, body, text, tasks = 0, flaws = {} } = make(values);
		const request = [method, path, body];
		const word = tasks > typedAbove ? String(tasks) : undefined;
		const act = async (event) => {
			if (Object.keys(flaws).length) return event.target.form.querySelector("[aria-invalid]").focus();
			isSending = true;
			update();
			try {
				const answer = await (perform ? perform() : send(...request));
				close(answer);
				const message = done(answer);
				if (message) say(message, "good");
				app.refresh();
			} catch (error) {
				if (error.status === undefined) throw error;
				if (error.status === 401) app.refuse(error);
				failure = error;
				isSending = false;
				update();
			}
		};
		const suggest = async (part, input) => {
			if (!input.isConnected) return;
			try {
				queues = await send("GET", `/queues/${query({ match: `*${part}*`, n: 20 })}`);
				update();
			} catch {
				// Then there are no suggestions.
			}
		};
		const control = ({ name, label, hint, options, rows }, index) => {
			const flaw = failure?.field === name ? failure.message : flaws[name];
			const properties = {
				id: `ask-${name}`, name, rows, value: values[name], autofocus: index === 0, list: name === "to" && "queues",
				"aria-invalid": flaw && "true", "aria-describedby": `hint-${name}`, oninput: ({ target }) => {
					values[name] = target.value;
					failure = undefined;
					clearTimeout(timer);
					if (name === "to") timer = setTimeout(suggest, settleMilliseconds, target.value.trim(), target);
					update();
				},
			};
			return h("div", { class: fields.length > 4 && !rows ? "field" : "field whole" }, h("label", { for: `ask-${name}` }, label),
				options ? h("select", properties, options.map(([value, text]) => h("option", { value }, text))) : h(rows ? "textarea" : "input", properties),
				h("small", { id: `hint-${name}`, class: flaw && "bad", role: flaw && "alert" }, flaw ?? hint));
		};
		return [
			h("div.dialog-body",
				h("div.form", fields.map(control)), h("datalist", { id: "queues" }, queues.map((value) => h("option", { value, label: plain(value) }))),
				h("div", text),
				word && h("label.field", h("span", "To confirm, type ", h("b", word)), h("input", {
					inputmode: "numeric", "aria-label": `Type ${word} to confirm`, autofocus: !fields.length, oninput: ({ target }) => {
						typed = target.value.replace(/[\s,.]/g, "");
						update();
					},
				})),
				failure && !(failure.field in values) && h("p.bad", { role: "alert" }, failure.message)),
			h("footer", path && copyButton(() => curl(...request)), h("span.space"),
				button(isSending ? "Hide" : "Keep as it is", () => close()),
				button(isSending ? "Working…" : action, act, {
					type: "submit", class: danger ? "danger" : "primary", autofocus: !fields.length,
					disabled: isSending || word !== undefined && typed !== word || values.to === "",
				})),
		];
	});
}

/// How many tasks at most: all, or the number that was typed.
function atMost(all, text) {
	return text.trim() === "" || !(Number(text) >= 0) ? all : Math.min(all, Number(text));
}

const limit = { name: "n", label: "At most", hint: "The oldest first. Empty: all of them." };

/// The field for the queue that tasks move to.
export const target = { name: "to", label: "To queue", hint: "It need not exist yet." };

/// Makes dead or delayed tasks ready. `figures` are the queue's statistics.
export function kick(app, name, figures) {
	return ask(app, {
		title: "Kick",
		fields: [{ name: "state", label: "Which", value: figures.dead || !figures.delayed ? "dead" : "delayed", options: [
			["dead", `Dead tasks (${count(figures.dead)})`], ["delayed", `Delayed tasks (${count(figures.delayed)}), as if their delay were over`],
			...(figures.totals.received ? [["origin", "Dead letters, back to the queues where they died"]] : []),
		] }, limit],
		make: ({ state, n }) => {
			const isHome = state === "origin";
			const tasks = atMost(isHome ? figures.ready + figures.dead : figures[state], n);
			return {
				path: `/kick/${named(name)}${query({ state: state === "delayed" && state, to: isHome && state, n: n.trim() })}`, tasks,
				text: isHome ? "Dead letters return to the queues where they died."
					: `${many(tasks, "task")} will be ready at once.${state === "dead" ? " Their retries and their expiry start again." : ""}`,
			};
		},
		done: ({ kicked }) => `Kicked ${many(kicked, "task")}.`,
	});
}

/// Deletes tasks for good; at first those of `state` if they have ended, otherwise the ready and delayed ones.
export function purge(app, name, figures, state) {
	const all = ["ready", "delayed", "dispatched", "dead", "done", "cancelled", "expired"];
	const sizes = { "": figures.ready + figures.delayed, all: all.reduce((sum, state) => sum + figures[state], 0), ...figures };
	const labels = { "": "Ready and delayed tasks", dead: "Dead tasks", all: "Everything, also running tasks and records" };
	return ask(app, {
		title: "Purge", danger: true,
		fields: [{
			name: "state", label: "Which", value: ["dead", "done", "cancelled", "expired"].includes(state) && figures[state] ? state : "",
			options: ["", "dead", "ready", "delayed", "done", "cancelled", "expired", "all"].filter((state) => state in labels || sizes[state])
				.map((state) => [state, `${labels[state] ?? `Only ${state} tasks`} (${count(sizes[state])})`]),
		}],
		make: ({ state }) => ({
			path: `/purge/${named(name)}${query({ state })}`, tasks: sizes[state],
			text: `${many(sizes[state], "task")} will be deleted for good. No record stays.`,
		}),
		done: ({ purged }) => `Purged ${many(purged, "task")}.`,
	});
}

/// Moves tasks to another queue; at first those of `state`.
export function move(app, name, figures, state) {
	const options = [["ready", "Ready"], ["delayed", "Delayed"], ["dead", "Dead"]].map(([state, label]) => [state, `${label} tasks (${count(figures[state])})`]);
	return ask(app, {
		title: "Move tasks", action: "Move",
		fields: [{ ...target, label: "To the queue" }, { name: "state", label: "Which", options, value: options.some(([value]) => value === state) ? state : "ready" }, limit],
		make: ({ to, state, n }) => {
			const tasks = atMost(figures[state], n);
			return {
				path: `/move/${named(name)}${query({ to, state, n: n.trim() })}`, tasks,
				text: `${many(tasks, "task")} will go to the back of that queue${{ delayed: " and keep their delay", dead: ", where they stay dead" }[state] ?? ""}. Tasks whose key exists there stay here.`,
			};
		},
		done: ({ moved }) => `Moved ${many(moved, "task")}.`,
	});
}
