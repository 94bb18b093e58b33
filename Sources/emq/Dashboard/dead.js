// Dead tasks, grouped by queue and error, and what can be done with a whole group.

import { ask, target } from "./actions.js";
import { may, named, query } from "./api.js";
import { h } from "./dom.js";
import { ago, bdi, count, many, plain, time } from "./format.js";
import { elements, oneLine, task as parse } from "./json.js";
import { card, columns, filterField, missing, Page, pattern, queueAddress, queueLink, taskLink } from "./page.js";

const shownTasks = 10;

export class Dead extends Page {
	constructor(app, route) {
		super(app, route);
		this.opened = undefined;
		this.read(route);
	}

	follow(route) {
		this.read(route);
	}

	read({ parameters }) {
		this.match = parameters.get("match") ?? "";
	}

	get title() {
		return "Dead";
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
				history.replaceState(null, "", `#/dead${query({ match })}`);
				this.app.follow();
			})),
			missing(answer, "the dead tasks") ?? this.groups(answer.json),
		];
	}

	groups({ errors, groups }) {
		if (errors.length === 0) return h("p.empty", { key: "none" }, this.match ? "No queue with such a name has dead tasks." : "No task is dead.");
		return [
			h("div.table-box", { key: "groups" }, h("table.groups.stack",
				h("thead", h("tr", h("th", { scope: "col" }, "Error"), h("th", { scope: "col" }, "Queue"), h("th", { scope: "col", class: "number" }, "Tasks"),
					h("th", { scope: "col", class: "wide" }, "First died"), h("th", { scope: "col" }, "Last died"), h("th", { scope: "col" }, h("span.offscreen", "Actions")))),
				h("tbody", errors.flatMap((group) => this.group(group))))),
			groups > errors.length && h("p.quiet", { key: "rest" }, `These are the ${count(errors.length)} largest of ${count(groups)} groups. Filter by queue to see others.`),
		];
	}

	group(group) {
		const key = groupKey(group);
		const isOpen = this.opened !== undefined && groupKey(this.opened) === key;
		return [
			h("tr", { key, "data-group": key },
				h("th", { class: "text" }, h("button", {
					class: "quiet disclose", "aria-expanded": isOpen, onclick: () => {
						this.opened = isOpen ? undefined : group;
						this.app.update();
					},
				}, h("span", { "aria-hidden": true }, isOpen ? "▾" : "▸"), group.error === undefined ? h("i", "without an error") : bdi(group.error))),
				h("td", { "data-label": "Queue" }, queueLink(group.queue, { class: "cut", href: `${queueAddress(group.queue)}?state=dead` })),
				h("td.number.dead", { "data-label": "Tasks" }, count(group.count)), h("td.wide", ago(group.first)), h("td", { "data-label": "Last died" }, ago(group.last)),
				h("td.number", may("manage", group.queue) && h("div.row-actions",
					h("button", { onclick: () => this.act(group, "kick") }, "Retry"),
					h("button", { onclick: () => this.act(group, "move") }, "Move…"),
					h("button", { class: "danger", onclick: () => this.act(group, "purge") }, "Delete")))),
			isOpen && h("tr", { key: `${key} tasks`, class: "inside" }, h("td", { colspan: 6 }, this.tasks(group))),
		];
	}

	tasks(group) {
		const answer = this.latest(`tasks ${groupKey(group)}`, peek(group));
		const none = missing(answer, "these tasks");
		if (none) return none;
		const tasks = elements(answer.text).map(parse);
		return h("table.stack", columns(["Task", "Died", "Attempts", "Worker", "Content"]),
			h("tbody", tasks.map((task) => h(
				"tr", { key: task.id }, h("th", taskLink(task.id)),
				h("td", { "data-label": "Died" }, time(task.finished ?? task.died)), h("td", { "data-label": "Attempts" }, count(task.attempt)), h("td", { "data-label": "Worker" }, task.worker ? bdi(task.worker) : "–"),
				h("td", task.content_hidden ? h("span.quiet", "hidden") : h("code", task.content === undefined ? `${plain(task.content_start ?? "")}…` : oneLine(task.content)))))));
	}

	operations() {
		const answer = this.app.data("/operations/");
		const operations = answer?.json?.operations ?? [];
		if (operations.length === 0) return null;
		const names = { kick: "Retrying", purge: "Deleting", move: "Moving" };
		return card("Under way", { key: "operations" }, h("ul.progress", operations.map((operation) => {
			const part = operation.total ? Math.min(1, operation.examined / operation.total) : 0;
			return h("li", { key: operation.id },
				h("span", names[operation.action] ?? operation.action, " in ", bdi(operation.queue), operation.error !== undefined && [": ", bdi(operation.error)]),
				h("progress", { max: 1, value: String(part), "aria-label": `${names[operation.action] ?? operation.action} in ${plain(operation.queue)}` }),
				h("span.quiet", `${count(operation.changed)} done, ${count(operation.examined)} of ${count(operation.total)} looked at`),
				may("manage", operation.queue) && h("button", { class: "quiet", onclick: () => this.app.perform(
					"DELETE", `/operations/${operation.id}`, undefined, () => "Stopped. What was done stays done.") }, "Stop"));
		})));
	}

	// MARK: Acting on a group

	act(group, verb) {
		const [label, past, effect] = {
			kick: ["Retry", "Retried", "become ready again"], move: ["Move", "Moved", "go to that queue and stay dead there"], purge: ["Delete", "Deleted", "are deleted for good"],
		}[verb];
		return ask(this.app, {
			title: `${label} ${many(group.count, "dead task")}`, action: label, danger: verb === "purge",
			fields: [...(verb === "move" ? [target] : []), { name: "age", label: "Which of them", options: [
				["", "All"], ["3600", "Dead for more than an hour"], ["86400", "Dead for more than a day"], ["604800", "Dead for more than a week"],
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
	const parts = [`error=${encodeURIComponent(group.error ?? "")}`, ...(age ? [`older_than=${age}`] : [])];
	return `${isContinued ? "&" : "?"}${parts.join("&")}`;
}

function peek(group) {
	return `/peek/${named(group.queue)}?state=dead&n=${shownTasks}&content_limit=200${filter(group, "", true)}`;
}

function groupKey(group) {
	return JSON.stringify([group.queue, group.error ?? null]);
}
