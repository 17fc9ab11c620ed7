/** The review page: a key decides, and the next candidate is there. */
import { Refusal, call, candidate } from "./api.js";
import { $, SIGNS, afterPaint, say } from "./dom.js";
import { colour } from "./drawing.js";
import { edit } from "./editor.js";
import * as gestures from "./gestures.js";
import { Grid } from "./grid.js";
import * as keys from "./keys.js";
import { Outbox } from "./outbox.js";
import * as panel from "./panel.js";
import { Past } from "./past.js";
import { Queue } from "./queue.js";
import { Stage } from "./stage.js";
import * as waiting from "./waiting.js";

const DECODED_AHEAD = 3;
const IN_A_GRID = 24;
const STEP_PX = 80;

const { run, reader } = document.body.dataset;
const classes = [...$("grid-class").options].map((option) => option.value);
const number = ({ class_name }) => Math.max(0, classes.indexOf(class_name));
const outbox = new Outbox(reader), past = new Past(run, reader, outbox), grid = new Grid(number), stage = new Stage(number, seen);
const queue = new Queue(run, $("order").value, $("class").value || null, outbox, (progress) => {
	told = progress;
	since = outbox.entries.reduce((sum, { body: { verdict } }) => sum + (verdict === "withdrawn" ? -1 : 1), 0);
});
let current = null, note = "", told, since = 0;
const gridded = () => !$("grid").hidden;

function show(item, push = true) {
	current = item;
	note = "";
	stage.show(item);
	panel.ask(item, item && number(item));
	$("none").hidden = item || gridded();
	const url = new URL(location);
	if (!push || !item || url.searchParams.get("candidate") === item.candidate_id) return;
	url.searchParams.set("candidate", item.candidate_id);
	afterPaint(() => history.pushState(null, "", url));
}

const next = () => show(queue.items.shift() || null);

/** What need not be done before a candidate is seen. */
function seen() {
	outbox.send();
	refresh();
	fill();
}

function refresh() {
	panel.tell(current, note);
	panel.latest(past, outbox, open);
	if (told) panel.progress(told, since);
}

async function fill(...how) {
	const ahead = () => queue.items.slice(0, DECODED_AHEAD).forEach((item) => stage.prepare(item));
	ahead();
	try {
		await queue.fill([current, ...grid.items].filter(Boolean).map((item) => item.candidate_id), ...how);
		$("none-words").textContent = queue.ended ? "Nothing is left for you in this run." : "";
	} catch (error) { $("none-words").textContent = refused(error); }
	if (!current && !gridded()) next();
	ahead();
	refresh();
}

function refused(error) {
	if (!(error instanceof Refusal)) throw error;
	return error.message;
}

function take(item, verdict, start, seconds, extra, batch) {
	const { candidate_id, class_name } = item, earlier = past.standing(item);
	if (earlier) past.withdraw({ class_name, ...earlier });
	seconds = Math.round(seconds) / 1000;
	const shown_at = new Date(performance.timeOrigin + start).toISOString();
	past.add(outbox.add({ run, candidate_id, class_name, body: { verdict, shown_at, seconds, ...extra } }), item, batch);
	queue.take(candidate_id, true);
	since += earlier ? 0 : 1;
}

function full(error) { say(`Not taken: this browser has no room for the verdict (${error.name}).`, true); }

function decide(verdict, event, extra) {
	const { painted } = stage, item = current;
	if (!item || stage.editor || !painted || event.timeStamp < painted) return; // not seen yet
	try { take(item, verdict, painted, event.timeStamp - painted, { note, ...extra }); } catch (error) { return full(error); }
	next();
	say(`${SIGNS[verdict]} ${item.class_name} ${verdict}`);
	if (!current) seen();
}

async function fetched(id) {
	const item = (await call("GET", candidate(id, run))).value;
	outbox.saw(item);
	return item;
}

async function undo() {
	try {
		const all = await past.latest(), items = [];
		if (!all.length) return say("Nothing to undo.");
		for (const each of all) items.push(each.item || await fetched(each.candidate_id));
		if (current) queue.back(current);
		for (const each of all) past.withdraw(each);
		since -= all.length;
		for (const item of items.reverse()) queue.back(item);
		outbox.send();
		gridded() ? openGrid(items[0].class_name) : next();
		say(`Undone: ${all.length > 1 ? all.length : all[0].verdict}`);
	} catch (error) { say(`Not undone: ${refused(error)}`); }
}

/** Shows a candidate again: a deep link, the browser's back button, one of the latest. */
async function open(id, push = true) {
	if (current?.candidate_id === id) return;
	try {
		const item = queue.items.find((each) => each.candidate_id === id) || past.of(id)?.item || await fetched(id);
		if (gridded()) closeGrid();
		if (current && !past.standing(current)) queue.back(current);
		queue.take(id);
		show(item, push);
		const decided = past.standing(item);
		if (decided) say(`You decided: ${decided.verdict}. Decide again to change it.`, true);
	} catch (error) { say(refused(error), true); }
}

async function openGrid(class_name) {
	$("grid-class").value = class_name;
	grid.show([]);
	const of = () => queue.items.filter((item) => item.class_name === class_name).slice(0, IN_A_GRID);
	if (of().length < IN_A_GRID) await fill(queue.items.length + IN_A_GRID, Infinity, class_name);
	const items = of();
	for (const item of items) queue.take(item.candidate_id);
	grid.show(items);
}

function closeGrid() {
	for (const item of grid.items.reverse()) queue.back(item);
	grid.show([]);
	$("grid").hidden = true;
	$("single").hidden = false;
}

function toggleGrid() {
	$("grid-button").setAttribute("aria-pressed", !gridded());
	if (gridded()) { closeGrid(); return fill(); }
	const class_name = current?.class_name || classes[0];
	if (current) queue.back(current);
	$("grid").hidden = false;
	$("single").hidden = true;
	show(null);
	openGrid(class_name);
}

function decideGrid({ timeStamp }) {
	const { items, wrong, shown } = grid, each = (timeStamp - shown) / items.length;
	try {
		items.forEach((item, n) => take(item, wrong.has(item) ? "rejected" : "accepted", shown + n * each, each, {}, timeStamp));
	} catch (error) { return full(error); }
	say($("grid-words").textContent);
	outbox.send();
	openGrid($("grid-class").value);
}

/** Asks for words in a dialog. */
function words(id, before, then) {
	const dialog = $(id), field = dialog.querySelector("textarea");
	field.value = before;
	dialog.returnValue = "";
	dialog.showModal();
	dialog.onclose = () => dialog.returnValue && then(field.value.trim());
}

function correct(event) {
	const item = current;
	if (!item || stage.editor) return;
	if (item.kind === "image") say("A whole image has no mask.");
	else if (item.kind === "text") words("text", item.text || "", (text) => decide("edited", event, { text }));
	else {
		try {
			edit(stage, item, colour(number(item)), (result) => {
				if (result) decide("edited", { timeStamp: performance.now() }, result);
				else if (result === null) say("The mask is empty: reject the candidate instead.");
			});
		} catch (error) { say(error.message); }
	}
}

/** Changes the view; may be held down. */
const view = (change) => () => current && say(change() || "");
const held = {
	closer: view(() => stage.zoom(1.25)), farther: view(() => stage.zoom(0.8)),
	left: view(() => stage.pan(-STEP_PX, 0)), right: view(() => stage.pan(STEP_PX, 0)),
	up: view(() => stage.pan(0, -STEP_PX)), down: view(() => stage.pan(0, STEP_PX)),
	fainter: view(() => stage.opacity(-0.1)), stronger: view(() => stage.opacity(0.1)),
};
const actions = {
	...held, reset: view(() => stage.zoom(0)), wider: view(() => stage.wider()), contrast: view(() => stage.contrast()),
	accept: (event) => (gridded() ? decideGrid(event) : decide("accepted", event)),
	reject: (event) => decide("rejected", event), unsure: (event) => decide("unsure", event), undo, mask: correct, grid: toggleGrid,
	note: () => current && words("note", note, (text) => { note = text; refresh(); }), help: () => $("help").showModal(),
};

keys.listen((action, event) => (!event.repeat || held[action]) && actions[action](event));
gestures.listen(stage, (verdict) => decide(verdict, { timeStamp: performance.now() }));
for (const button of document.querySelectorAll("[data-action]")) {
	button.onclick = (event) => {
		actions[button.dataset.action](event);
		if (event.detail) button.blur(); // a key pressed after a click is a key, not a second click
	};
}
$("order").onchange = $("class").onchange = async ({ target }) => {
	const url = new URL(location);
	url.searchParams.delete("candidate");
	url.searchParams.set(target.name, target.value);
	if (current) queue.back(current);
	await queue.release().catch(() => {}); // leases end by themselves
	location = url;
};
$("grid-class").onchange = ({ target }) => {
	for (const item of grid.items) queue.back(item);
	openGrid(target.value);
};
const linked = () => new URL(location).searchParams.get("candidate");
addEventListener("popstate", () => linked() && open(linked(), false));
outbox.addEventListener("change", () => panel.latest(past, outbox, open));
setInterval(() => document.hidden || fill(queue.items.length, Infinity), 60000); // renews the leases
waiting.listen(outbox);
outbox.send();
if (linked()) await open(linked(), false);
fill();
