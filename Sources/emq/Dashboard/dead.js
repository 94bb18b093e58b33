// Dead tasks, grouped by queue and error, and what can be done with a whole group.

import { ask, target } from "./actions.js";
import { may, named, query } from "./api.js";
import { h } from "./dom.js";
import { ago, bdi, count, many, plain, time } from "./format.js";
import { elements, oneLine, task as parse } from "./json.js";
import { button, card, disclosure, filterField, missing, Page, pattern, queueAddress, queueLink, table, taskLink } from "./page.js";

const shownTasks = 10;

const taskColumns = [
	["Task", (task) => taskLink(task.id)],
	["Died", (task) => time(task.finished ?? task.died)],
	["Attempts", (task) => count(task.attempt)],
	["Worker", (task) => (task.worker ? bdi(task.worker) : "–")],
	["Content", (task) => (task.content_hidden ? h("span.quiet", "hidden")
		: h("code", task.content === undefined ? `${plain(task.content_start ?? "")}…` : oneLine(task.content))), "evident"],
];

export class Dead extends Page {
	title = "Dead";

	columns = [
		["Error", (group) => disclosure(this.isOpen(group), () => this.set({ opened: this.isOpen(group) ? undefined : group }),
			group.error === undefined ? h("i", "without an error") : bdi(group.error)), "text"],
		["Queue", ({ queue }) => queueLink(queue, { class: "cut", href: `${queueAddress(queue)}?state=dead` })],
		["Tasks", (group) => count(group.count), "number dead"],
		["First died", (group) => ago(group.first), "wide"],
		["Last died", (group) => ago(group.last)],
		["Actions", (group) => may("manage", group.queue) && h("div.row-actions",
			button("Retry", () => this.act(group, "kick")),
			button("Move…", () => this.act(group, "move")),
			button("Delete", () => this.act(group, "purge"), { class: "danger" })), "number evident"],
	];

	read({ parameters }) {
		this.match = parameters.get("match") ?? "";
	}

	isOpen(group) {
		return this.opened !== undefined && groupKey(this.opened) === groupKey(group);
	}

	path() {
		return `/errors/${query({ match: pattern(this.match), n: 200 })}`;
	}

	paths() {
		return [this.path(), "/operations/", ...(this.opened ? [peek(this.opened)] : [])];
	}

	view() {
		const answer = this.latest("errors", this.path());
		return [
			h("div.head", { key: "head" }, h("h1", "Dead"), answer?.json && h("span.quiet",
				`${many(answer.json.tasks, "task")} in ${many(answer.json.groups, "group")}`)),
			this.operations(),
			h("div.tools", { key: "tools" }, filterField("Filter by queue", "mail or *.eu", this.match, (match) => {
				this.app.replace(`#/dead${query({ match })}`);
			})),
			missing(answer) ?? this.groups(answer.json),
		];
	}

	groups({ errors, groups }) {
		if (errors.length === 0) return h("p.empty", { key: "none" }, this.match ? "No such queue has dead tasks." : "No task is dead.");
		return [
			h("div.table-box", { key: "groups" }, table(this.columns, errors, {
				class: "groups stack", key: groupKey, more: (group) => this.isOpen(group) && this.tasks(group),
			})),
			groups > errors.length && h("p.quiet", { key: "rest" }, `The ${count(errors.length)} largest of ${count(groups)} groups. Filter by queue.`),
		];
	}

	tasks(group) {
		const answer = this.latest(`tasks ${groupKey(group)}`, peek(group));
		return missing(answer) ?? table(taskColumns, elements(answer.text).map(parse));
	}

	operations() {
		const operations = this.app.data("/operations/")?.json?.operations ?? [];
		if (operations.length === 0) return null;
		const names = { kick: "Retrying", purge: "Deleting", move: "Moving" };
		return card("Under way", { key: "operations" }, h("ul.progress", operations.map((operation) => {
			const part = operation.total ? Math.min(1, operation.examined / operation.total) : 0;
			const name = names[operation.action] ?? operation.action;
			return h("li", { key: operation.id },
				h("span", name, " in ", bdi(operation.queue), operation.error !== undefined && [": ", bdi(operation.error)]),
				h("progress", { max: 1, value: String(part), "aria-label": `${name} in ${plain(operation.queue)}` }),
				h("span.quiet", `${count(operation.changed)} done, ${count(operation.examined)} of ${count(operation.total)} looked at`),
				may("manage", operation.queue) && button("Stop", () => this.app.perform(
					"DELETE", `/operations/${operation.id}`, undefined, () => "Stopped. What was done stays done."), { class: "quiet" }));
		})));
	}

	act(group, verb) {
		const [label, past, effect] = {
			kick: ["Retry", "Retried", "become ready again"], move: ["Move", "Moved", "go to that queue and stay dead there"], purge: ["Delete", "Deleted", "are deleted for good"],
		}[verb];
		return ask(this.app, {
			title: `${label} ${many(group.count, "dead task")}`, action: label, danger: verb === "purge",
			fields: [...(verb === "move" ? [target] : []), { name: "age", label: "Dead for how long", options: [
				["", "All"], ["3600", "For more than an hour"], ["86400", "For more than a day"], ["604800", "For more than a week"],
			] }],
			make: ({ to, age }) => ({
				path: `/${verb}/${named(group.queue)}${query({ state: verb !== "kick" && "dead", to })}${filter(group, age, verb !== "kick")}`, tasks: group.count,
				text: [age ? "At most " : "", h("b", many(group.count, "task")), " of ", bdi(group.queue), ` ${effect}.`, group.error !== undefined && h("pre.below", plain(group.error))],
			}),
			done: (answer) => `${past} ${many(answer.kicked ?? answer.moved ?? answer.purged ?? 0, "task")}${answer.stopped ? ", then stopped" : ""}.`,
		});
	}
}

/// The parameters that select a group; an empty error stands for none.
function filter(group, age, isContinued) {
	return `${isContinued ? "&" : "?"}error=${encodeURIComponent(group.error ?? "")}${age ? `&older_than=${age}` : ""}`;
}

function peek(group) {
	return `/peek/${named(group.queue)}?state=dead&n=${shownTasks}&content_limit=200${filter(group, "", true)}`;
}

function groupKey(group) {
	return JSON.stringify([group.queue, group.error ?? null]);
}
