// What can be done to a queue as a whole: dialogs that say how many tasks something concerns, and keep what was typed
// until the server has accepted it.

import { curl, named, query, request } from "./api.js";
import { copyButton, open, say } from "./dialogs.js";
import { h } from "./dom.js";
import { count, many, plain } from "./format.js";

const settleMilliseconds = 250;
const typedAbove = 100;

/// Asks for some values and sends a request made of them.
///
/// - `fields`: `{ name, label, kind, value, hint, options }`; `kind` is "text" (default), "choice" or "queue".
/// - `make(values)`: `{ path, body, text, tasks, flaws }` for what was typed: `tasks` is how many it concerns, `flaws`
///   says by field what is wrong.
/// - `done(answer)`: the message when it has succeeded.
function ask(app, { title, action, danger, fields, make, done }) {
    const values = Object.fromEntries(fields.map(({ name, value }) => [name, value ?? ""]));
    let failure, timer;
    let typed = "";
    let suggestions = [];
    let isSending = false;
    let isTried = false;
    return open(title, (close, update) => {
        const { path, body, text, tasks = 0, flaws = {} } = make(values);
        const word = tasks > typedAbove ? String(tasks) : undefined;
        const send = async () => {
            isTried = true;
            failure = undefined;
            if (Object.keys(flaws).length) return update();
            isSending = true;
            update();
            try {
                const answer = JSON.parse(await request("POST", path, body));
                close(true);
                say(done(answer), "good");
                app.refresh();
            } catch (error) {
                if (error.status === undefined) throw error;
                isSending = false;
                failure = error;
                update();
                if (error.status === 401) app.refuse(error);
            }
        };
        const change = (name, value) => {
            values[name] = value;
            failure = undefined;
            update();
        };
        const suggest = (part) => {
            clearTimeout(timer);
            timer = setTimeout(async () => {
                try {
                    suggestions = JSON.parse(await request("GET", `/queues/${query({ match: `*${part}*`, n: 20 })}`));
                    update();
                } catch {
                    // Then there are no suggestions.
                }
            }, settleMilliseconds);
        };
        const control = ({ name, label, kind, hint, options }, index) => {
            const flaw = failure?.field === name ? failure.message : isTried || values[name] !== "" ? flaws[name] : undefined;
            const common = {
                autofocus: index === 0, name, "aria-invalid": flaw ? "true" : undefined, "aria-describedby": `${name}-hint`,
                value: values[name], oninput: (event) => {
                    change(name, event.target.value);
                    if (kind === "queue") suggest(event.target.value.trim());
                },
            };
            return h("label", { class: kind === "queue" || kind === "choice" ? "field whole" : "field" }, h("span", null, label),
                kind === "choice" ? h("select", common, options.map(([value, text]) => h("option", { value }, text)))
                    : h("input", { ...common, autocomplete: "off", spellcheck: "false", list: kind === "queue" ? "suggestions" : undefined }),
                kind === "queue" && h("datalist", { id: "suggestions" }, suggestions.map(
                    (queue) => h("option", { value: queue, label: plain(queue) }))),
                h("small", { id: `${name}-hint`, class: flaw ? "bad" : "hint", role: flaw ? "alert" : undefined }, flaw ?? hint));
        };
        const isElsewhere = failure && !fields.some(({ name }) => name === failure.field);
        return [
            h("div", { class: "dialog-body" },
                h("div", { class: "form" }, fields.map(control)),
                text && h("p", null, text),
                word && h("label", { class: "field" }, h("span", null, "To confirm, type ", h("b", null, word)), h("input", {
                    autocomplete: "off", inputmode: "numeric", "aria-label": `Type ${word} to confirm`, oninput: (event) => {
                        typed = event.target.value.trim();
                        update();
                    },
                })),
                h("p", { class: "bad", role: "alert" }, isElsewhere && failure.message)),
            h("footer", null, copyButton(() => curl("POST", path, body)), h("span", { class: "space" }),
                h("button", { type: "button", onclick: () => close() }, isSending ? "Close" : "Keep as it is"),
                h("button", {
                    type: "submit", class: danger ? "danger" : "primary", onclick: send,
                    disabled: isSending || word !== undefined && typed !== word,
                }, isSending ? "Working…" : action)),
        ];
    });
}

/// How many tasks at most: all, or the number that was typed.
function atMost(all, text) {
    const number = Number(text);
    return text.trim() === "" || !Number.isFinite(number) ? all : Math.min(all, number);
}

const limit = { name: "n", label: "At most", hint: "The oldest first. Empty: all of them." };

/// Makes dead or delayed tasks ready. `figures` are the queue's statistics.
export function kick(app, name, figures) {
    const options = [["dead", `Dead tasks (${count(figures.dead)})`], ["delayed", `Delayed tasks (${count(figures.delayed)}), as if their delay were over`]];
    if (figures.totals.received > 0) options.push(["origin", "Dead letters, back to the queues where they died"]);
    return ask(app, {
        title: "Kick", action: "Kick",
        fields: [
            { name: "state", label: "Which", kind: "choice", options, value: figures.dead || !figures.delayed ? "dead" : "delayed" }, limit,
        ],
        make: ({ state, n }) => {
            const isHome = state === "origin";
            const tasks = atMost(isHome ? figures.ready + figures.dead : figures[state], n);
            return {
                path: `/kick/${named(name)}${query({ state: state === "delayed" ? state : "", to: isHome ? "origin" : "", n: n.trim() })}`,
                text: isHome ? "Dead letters return to the queues where they died." : `${many(tasks, "task")} will be ready at once.${
                    state === "dead" ? " Their retries and their expiry start again." : ""}`,
                tasks,
            };
        },
        done: ({ kicked }) => `Kicked ${many(kicked, "task")}.`,
    });
}

/// Deletes tasks for good.
export function purge(app, name, figures, state = "") {
    const all = ["ready", "delayed", "dispatched", "dead", "done", "cancelled", "expired"];
    const sum = (...states) => states.reduce((total, name) => total + figures[name], 0);
    const sizes = { "": sum("ready", "delayed"), all: sum(...all), ...Object.fromEntries(all.map((name) => [name, figures[name]])) };
    return ask(app, {
        title: "Purge", action: "Purge", danger: true,
        fields: [{
            name: "state", label: "Which", kind: "choice", value: state, options: [
                ["", `Ready and delayed tasks (${count(sizes[""])})`], ["dead", `Dead tasks (${count(sizes.dead)})`],
                ...["ready", "delayed", "done", "cancelled", "expired"].filter((name) => sizes[name]).map((name) => [name, `Only ${name} tasks (${count(sizes[name])})`]),
                ["all", `Everything, also running tasks and records (${count(sizes.all)})`],
            ],
        }],
        make: ({ state }) => ({
            path: `/purge/${named(name)}${query({ state })}`, tasks: sizes[state],
            text: `${many(sizes[state], "task")} will be deleted for good. No record stays.`,
        }),
        done: ({ purged }) => `Purged ${many(purged, "task")}.`,
    });
}

/// Moves tasks to another queue.
export function move(app, name, figures, state = "ready") {
    const states = ["ready", "delayed", "dead"];
    return ask(app, {
        title: "Move tasks", action: "Move",
        fields: [
            { name: "to", label: "To the queue", kind: "queue", hint: "It need not exist yet." },
            { name: "state", label: "Which", kind: "choice", value: states.includes(state) ? state : "ready",
                options: states.map((state) => [state, `${state[0].toUpperCase()}${state.slice(1)} tasks (${count(figures[state])})`]) },
            limit,
        ],
        make: ({ to, state, n }) => {
            const tasks = atMost(figures[state], n);
            return {
                path: `/move/${named(name)}${query({ to: to || undefined, state, n: n.trim() })}`, tasks,
                text: `${many(tasks, "task")} will go to the back of that queue. Tasks whose key exists there stay.`,
                flaws: to === "" ? { to: "Name a queue." } : {},
            };
        },
        done: ({ moved }) => `Moved ${many(moved, "task")}.`,
    });
}
