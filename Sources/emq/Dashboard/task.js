// One task: its way through the states, its attempts, what it holds, and what can be done with it.

import { ask, target } from "./actions.js";
import { curl, may, named, query, request } from "./api.js";
import * as dialogs from "./dialogs.js";
import { h } from "./dom.js";
import { enqueue } from "./enqueue.js";
import { ago, bdi, bytes, count, duration, plain, serverNow, time } from "./format.js";
import { isTooLong, layout, task as parse } from "./json.js";
import { badge, card, columns, facts, missing, Page, queueLink, state } from "./page.js";

const contentLimit = 262_144;

export class TaskPage extends Page {
	constructor(app, route) {
		super(app, route);
		this.id = route.name;
		this.asText = new Set();
	}

	get title() {
		return `Task ${this.id}`;
	}

	path() {
		return `/task/${named(this.id)}?content_limit=${contentLimit}`;
	}

	paths() {
		return [this.path()];
	}

	view() {
		const answer = this.app.data(this.path());
		if (answer && !answer.failure && answer !== this.taken) {
			this.taken = answer;
			this.task = parse(answer.text);
		}
		const heading = h("div.head", { key: "head" }, h("h1", "Task ", h("code", plain(this.id))));
		if (!this.task) {
			if (answer?.failure?.status === 404) {
				return [heading, h("p.empty", "There is no such task. emq forgets a task when it has ended, unless its ",
					h("code", "keep"), " says how long to keep the record.")];
			}
			return [heading, missing(answer, "this task")];
		}
		const { task } = this;
		const isGone = answer?.failure?.status === 404;
		return [
			h("div.head", { key: "head" },
				h("h1", "Task ", h("code", plain(task.id))), isGone ? badge("forgotten", "unknown") : state(task.state),
				h("span.quiet", "in ", queueLink(task.queue)),
				dialogs.copyButton(() => curl("GET", `/task/${named(task.id)}`))),
			isGone && h("p.empty", { key: "gone" }, "emq has forgotten this task since it was shown. This is what it was."),
			!isGone && h("div.actions", { key: "actions", role: "group", "aria-label": "Actions" }, this.actions(task)),
			card(undefined, { key: "steps", "aria-label": "Its way" }, h("ol.steps", steps(task).map(
				([label, moment, kind, isFuture]) => h("li", { class: `${kind}${isFuture ? " future" : ""}` }, h("b", label), time(moment), h("div", h("small", ago(moment))))))),
			this.attempts(task),
			h("div.columns.two", { key: "texts" },
				task.content_hidden ? card("Content", { class: "wide" }, h("p.quiet", "The queue's configuration hides contents from tokens without the permission admin."))
					: this.text("Content", "content", task),
				this.text("Result", "result", task), this.text("Progress", "progress", task), this.text("Metadata", "metadata", task)),
			card("Details", { key: "details" }, facts([
				task.key !== undefined && ["Key", bdi(task.key)],
				task.unique_until && ["Key taken until", time(task.unique_until)],
				["Attempt", count(task.attempt)],
				task.retries !== undefined && ["Retries", `${count(task.retries)}${task.max_retries === undefined ? "" : ` of ${count(task.max_retries)}`}`],
				task.priority !== undefined && ["Priority", String(task.priority)],
				task.retry !== undefined && ["Lease", duration(task.retry)],
				task.keep !== undefined && ["Record kept for", duration(task.keep)],
				task.backoff !== undefined && ["Backoff", h("code", JSON.stringify(task.backoff))],
				task.worker && ["Worker", bdi(task.worker)],
				task.origin && ["Died in", queueLink(task.origin)],
				task.request_id && ["Request id", bdi(task.request_id)],
				task.traceparent && ["Trace", h("code", plain(task.traceparent))],
				task.request && ["Sent to", h("code", plain(JSON.stringify(task.request)))],
			])),
		];
	}

	attempts(task) {
		const attempts = task.attempts ?? [];
		if (attempts.length === 0) return task.error ? card("Error", { key: "attempts" }, h("pre", plain(task.error))) : null;
		const isWhole = attempts.at(-1)?.error === task.error;
		return card("Attempts", { key: "attempts" }, h("div.scroll", h(
			"table",
			columns(["Attempt", "Worker", "Dispatched", "Length", "Outcome", "Error"]),
			h("tbody", attempts.toReversed().map((attempt) => h(
				"tr", { key: `${attempt.attempt} ${attempt.dispatched}` }, h("th", count(attempt.attempt)), h("td", attempt.worker ? bdi(attempt.worker) : "–"),
				h("td", time(attempt.dispatched)),
				h("td", attempt.ended ? duration(attempt.ended - attempt.dispatched) : `${duration(Math.max(0, Math.floor(serverNow() - attempt.dispatched)))} so far`),
				h("td", badge(attempt.outcome?.replace("_", " ") ?? "running", attempt.outcome ?? "dispatched")),
				h("td.text", attempt.error ? bdi(attempt.error) : "")))))),
		task.error && !isWhole && h("pre.below", plain(task.error)));
	}

	/// A JSON value that a client sent: laid out, as text if it is a string, or its beginning if it is large.
	text(title, name, task) {
		const isContent = name === "content";
		const text = task[name];
		const size = task[`${name}_bytes`];
		if (text === undefined && size === undefined) return null;
		if (size !== undefined) {
			return card(title, { key: name, class: "wide", actions: h("span.quiet", `${bytes(size)}, of which this is the beginning. `,
				h("button", { class: "quiet", onclick: () => this.download(task) }, "Download the task")) },
			h("pre", { tabindex: "0", "aria-label": title }, plain(task[`${name}_start`] ?? "")));
		}
		const isString = text.startsWith('"');
		const isText = isString !== this.asText.has(name);
		return card(title, { key: name, class: isContent ? "wide" : "", actions: h("span.quiet", bytes(new Blob([text]).size),
			isString && h("button", { class: "quiet", onclick: () => {
				if (!this.asText.delete(name)) this.asText.add(name);
				this.app.update();
			} }, isText ? "As JSON" : "As text"),
			dialogs.copyButton(() => text, "Copy")) },
		h("pre", { tabindex: "0", "aria-label": title }, isString && isText ? lines(JSON.parse(text)) : layout(text)));
	}

	async download(task) {
		try {
			const text = await request("GET", `/task/${named(task.id)}`);
			const link = document.createElement("a");
			link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
			link.download = `${task.id}.json`;
			link.click();
			setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
		} catch (error) {
			dialogs.say(error.message, "bad");
		}
	}

	// MARK: Actions

	actions(task) {
		const { id, queue } = task;
		const isUnfinished = ["ready", "delayed", "dispatched"].includes(task.state);
		const kick = ["POST", "/kick/", { ids: [id] }];
		const kicked = (answer) => (answer.kicked ? "The task is ready." : undefined);
		const actions = [];
		if (may("manage", queue)) {
			if (task.state === "delayed") actions.push(this.action("Run now", kick, kicked, "primary"));
			if (task.state === "dead") actions.push(this.action("Retry", kick, kicked, "primary"));
			if (task.origin && ["dead", "ready"].includes(task.state)) {
				actions.push(this.action(`Retry in ${plain(task.origin)}`, ["POST", "/kick/?to=origin", { ids: [id] }], kicked));
			}
			if (["ready", "delayed", "dead"].includes(task.state)) {
				actions.push(h("button", { onclick: () => this.move(task) }, "Move…"));
			}
		}
		if (task.state === "dispatched" && may("work", queue)) {
			actions.push(this.action("Give back", ["POST", "/nak/", { ids: [id], release: true }], () => "The task is ready again.", "", {
				title: "Give the task back", action: "Give back",
				text: "The task becomes ready for another worker, and the attempt does not count. The worker that holds it now may still be working on it.",
			}));
		}
		if (may("enqueue", queue)) {
			actions.push(h("button", { onclick: () => this.again(task), disabled: task.content_hidden || task.content_bytes !== undefined }, "Enqueue again…"));
		}
		if (may("manage", queue)) {
			actions.push(this.action(isUnfinished ? "Cancel" : "Delete", ["DELETE", `/task/${named(id)}`],
				() => (isUnfinished ? "Cancelled the task." : "Deleted the record."), "danger", {
					title: isUnfinished ? "Cancel the task" : "Delete the record", action: isUnfinished ? "Cancel the task" : "Delete", danger: true,
					text: isUnfinished ? "No worker gets the task any more. If one holds it now, its acknowledgement will be refused." : "emq forgets the task and its result.",
				}));
		}
		return actions.length ? actions : h("p.quiet", "Your token may only look.");
	}

	/// A button for a request, and one that copies the request.
	action(label, request, done, kind = "", question = undefined) {
		return h("span", { key: label, class: "pair" }, h("button", {
			class: kind, onclick: async () => {
				if (question && !await dialogs.confirm({ ...question, request })) return;
				const answer = await this.app.perform(...request, (json) => done(json));
				if (answer?.missing?.length || answer?.kicked === 0) dialogs.say("The task is no longer in the state that is shown.", "bad");
			},
		}, label), dialogs.copyButton(() => curl(...request), `Copy as curl: ${label}`, "⧉"));
	}

	async move(task) {
		const answer = await ask(this.app, {
			title: "Move the task", action: "Move", fields: [target],
			make: ({ to }) => ({ path: `/move/${query({ to })}`, body: { ids: [task.id] }, text: "The task goes to the back of that queue." }),
			done: ({ moved }) => moved && "Moved the task.",
		});
		if (answer?.moved === 0) dialogs.say("The task was not moved: it is in another state now, or its key is taken there.", "bad");
	}

	async again(task) {
		const answer = await enqueue(this.app, "Enqueue again", {
			queue: task.origin ?? task.queue, content: task.content ?? "null", metadata: task.metadata ?? "",
			priority: task.priority ? String(task.priority) : "",
		});
		if (answer) this.app.go(`task/${answer.id}`);
	}
}

/// The text of a string, with its line breaks.
function lines(text) {
	return isTooLong(text) ? `${plain(text.slice(0, 200_000))}…` : plain(text);
}

/// The moments of a task's way: label, time, state, and whether it is still to come.
function steps(task) {
	const now = serverNow();
	const moments = [["Enqueued", task.enqueued, "enqueued"]];
	for (const attempt of task.attempts ?? []) {
		moments.push([`Attempt ${attempt.attempt}`, attempt.dispatched, "dispatched"]);
		if (attempt.ended && attempt.outcome !== "done") moments.push([{ failed: "Failed", timed_out: "Lease ran out", released: "Given back" }[attempt.outcome] ?? "Ended", attempt.ended, attempt.outcome]);
	}
	if (!task.attempts && task.dispatched) moments.push([`Attempt ${task.attempt}`, task.dispatched, "dispatched"]);
	if (task.died) moments.push([task.origin ? "Died in its origin" : "Died", task.died, "dead"]);
	if (task.finished && task.finished !== task.died) moments.push([{ done: "Done", cancelled: "Cancelled", expired: "Expired", dead: "Dead" }[task.state] ?? "Ended", task.finished, task.state]);
	if (task.state === "delayed" && task.due) moments.push(["Due", task.due, "delayed"]);
	if (task.state === "dispatched" && task.lease_end) moments.push(["Lease ends", task.lease_end, "dispatched"]);
	if (task.expires && !task.finished && task.state !== "dead") moments.push(["Expires", task.expires, "expired"]);
	const most = 9;
	const shown = moments.length > most ? [...moments.slice(0, 2), ...moments.slice(2 - most)] : moments;
	return shown.map(([label, moment, kind]) => [label, moment, kind, moment > now]);
}
