/** The review page: a key decides, and the next candidate is there. */
import { call, candidate, ofRun, refused } from "./api.js";
import { $, SIGNS, afterPaint, say } from "./dom.js";
import { colour, drawMark } from "./drawing.js";
import { edit } from "./editor.js";
import * as gestures from "./gestures.js";
import { gridOf } from "./grid.js";
import * as keys from "./keys.js";
import { outboxOf } from "./outbox.js";
import * as panel from "./panel.js";
import { pastOf } from "./past.js";
import { queueOf } from "./queue.js";
import { stageOf } from "./stage.js";
import * as waiting from "./waiting.js";

const DECODED_AHEAD = 3, IN_A_GRID = 24, STEP_PX = 80;

const { run, reader } = document.body.dataset;
const classes = [...$("grid-class").options].map((option) => option.value);
const number = ({ class_name }) => Math.max(0, classes.indexOf(class_name));
const outbox = outboxOf(reader), past = pastOf(run, reader, outbox), grid = gridOf(number), stage = stageOf(paint, seen);
const queue = queueOf("candidate_id", ofRun(run, "lease"), { order: $("order").value, class_name: $("class").value || null }, outbox, heard);
let current = null, note = "", told, since = 0, asking;
const gridded = () => !$("grid").hidden, next = () => show(queue.items.shift() || null);
const linked = () => new URL(location).searchParams.get("candidate");

function paint(pen, at, opacity) {
	if (!stage.editor) drawMark(pen, current, number(current), at, opacity);
}

function show(item, push = true) {
	current = item;
	note = "";
	stage.show(item);
	panel.ask(item, item && number(item));
	$("none").hidden = item || gridded();
	if (!push || !item || linked() === item.candidate_id) return;
	const url = new URL(location);
	url.searchParams.set("candidate", item.candidate_id);
	afterPaint(() => history.pushState(null, "", url));
}

function seen() {
	stage.element.dataset.candidate = current.candidate_id;
	settle();
}

/** What need not be done before a candidate is seen. */
function settle() {
	outbox.send();
	refresh();
	fill();
}

/** How far the run is; only where nothing waits it is as the server says. */
function heard(progress, items = []) {
	items.forEach(outbox.saw);
	if (told && outbox.entries.length) return;
	told = progress;
	since = 0;
	refresh();
}

function refresh() {
	panel.tell(current, note);
	panel.latest(past, outbox, open);
	if (!told) return;
	panel.progress(told, since);
	$("unsure-again").hidden = !told.unsure;
	$("unsure-again").textContent = `Look again at ${told.unsure} unsure`;
}

async function fill(...how) {
	const ahead = () => queue.items.slice(0, DECODED_AHEAD).forEach((item) => stage.prepare(item));
	ahead();
	try {
		await queue.fill([current, ...grid.items].filter(Boolean).map((item) => item.candidate_id), ...how);
		$("none-words").textContent = queue.ended ? "Nothing is left for you here." : "";
	} catch (error) { $("none-words").textContent = refused(error); }
	if (!current && !gridded()) next();
	ahead();
	refresh();
}

function take(item, verdict, start, seconds, extra, batch) {
	const { candidate_id, class_name } = item, earlier = past.standing(item);
	if (earlier) past.withdraw({ class_name, ...earlier });
	seconds = Math.round(seconds) / 1000;
	const body = { verdict, shown_at: new Date(performance.timeOrigin + start).toISOString(), seconds, ...extra };
	past.add(outbox.add({ run, candidate_id, class_name, body }), item, batch);
	queue.take(candidate_id, true);
	since += earlier || verdict === "unsure" ? 0 : 1;
}

function decide(verdict, event, extra) {
	const { painted } = stage, item = current;
	if (!item || stage.editor || !painted || event.timeStamp < painted) return; // not seen yet
	take(item, verdict, painted, event.timeStamp - painted, { note, ...extra });
	next();
	say(`${SIGNS[verdict]} ${item.class_name} ${verdict}`);
	if (!current) settle();
}

async function fetched(id) {
	const item = (await call("GET", candidate(id, run))).value;
	outbox.saw(item);
	return item;
}

async function undo() {
	try {
		const all = await past.latest();
		if (!all.length) return say("Nothing to undo.");
		const items = await Promise.all(all.map((each) => each.item || fetched(each.candidate_id)));
		if (current) queue.back(current);
		for (const each of all) past.withdraw(each);
		since -= all.length;
		items.reverse().forEach((item) => queue.back(item));
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
		if (gridded()) toggleGrid();
		if (current && !past.standing(current)) queue.back(current);
		queue.take(id);
		show(item, push);
		const decided = past.standing(item);
		if (decided) say(`You decided: ${decided.verdict}. Decide again to change it.`, true);
	} catch (error) { say(refused(error), true); }
}

/** What this person was unsure of, once more. */
async function unsureAgain() {
	try {
		const { items } = (await call("GET", ofRun(run, "mine?limit=500"))).value;
		const left = await Promise.all(items.filter((each) => each.verdict === "unsure" && !outbox.of(each.candidate_id)).map((each) => fetched(each.candidate_id)));
		left.forEach((item) => queue.back(item));
		left.length ? next() : say("Another person was unsure of them.");
	} catch (error) { say(refused(error), true); }
}

async function openGrid(class_name) {
	$("grid-class").value = class_name;
	grid.show([]);
	await fill(queue.items.length + IN_A_GRID, Infinity, { class_name });
	const items = queue.items.filter((item) => item.class_name === class_name).slice(0, IN_A_GRID);
	items.forEach((item) => queue.take(item.candidate_id));
	grid.show(items);
}

function toggleGrid() {
	const opens = !gridded(), { class_name } = current || { class_name: classes[0] };
	[current, ...grid.items].reverse().forEach((item) => item && queue.back(item));
	grid.show([]);
	$("grid").hidden = !opens;
	$("single").hidden = opens;
	$("grid-button").setAttribute("aria-pressed", opens);
	show(null);
	opens ? openGrid(class_name) : fill();
}

function decideGrid({ timeStamp }) {
	const { items, wrong, shown } = grid, each = (timeStamp - shown) / items.length;
	items.forEach((item, n) => take(item, wrong.has(item) ? "rejected" : "accepted", shown + n * each, each, {}, timeStamp));
	say($("grid-words").textContent);
	outbox.send();
	openGrid($("grid-class").value);
}

/** Asks for words in a dialog. */
function words(id, before, then) {
	const dialog = $(id), field = dialog.querySelector("textarea");
	field.value = before;
	dialog.returnValue = "";
	field.onkeydown = ({ key, ctrlKey, metaKey }) => { if (key === "Enter" && (ctrlKey || metaKey)) dialog.close("keep"); };
	dialog.showModal();
	dialog.onclose = () => dialog.returnValue && then(field.value.trim());
}

const now = () => ({ timeStamp: performance.now() });

function correct() {
	const item = current;
	if (!item || stage.editor) return;
	if (item.kind === "image") say("A whole image has no mask.");
	else if (item.kind === "text") words("text", item.text || "", (text) => decide("edited", now(), { text }));
	else {
		try {
			edit(stage, item, colour(number(item)), (result) => {
				if (result) decide("edited", now(), result);
				else if (result === null) say("The mask is empty: reject it instead.");
			});
		} catch (error) { say(error.message); }
	}
}

/** What changes the view; may be held down. */
const views = {
	closer: () => stage.zoom(1.25), farther: () => stage.zoom(0.8), reset: () => stage.zoom(0),
	left: () => stage.pan(-STEP_PX, 0), right: () => stage.pan(STEP_PX, 0), up: () => stage.pan(0, -STEP_PX), down: () => stage.pan(0, STEP_PX),
	fainter: () => stage.opacity(-0.1), stronger: () => stage.opacity(0.1), wider: () => stage.wider(), contrast: () => stage.contrast(),
};
const actions = {
	accept: (event) => (gridded() ? decideGrid(event) : decide("accepted", event)),
	reject: (event) => decide("rejected", event), unsure: (event) => decide("unsure", event), undo, mask: correct, grid: toggleGrid,
	note: () => current && words("note", note, (text) => { note = text; refresh(); }), help: () => $("help").showModal(),
};

function act(action, event) {
	if (views[action]) return current && say(views[action]() || "");
	try { event.repeat || actions[action](event); } catch (error) {
		say(`Not taken: ${error.message}`, true); // the browser has no room left
		throw error;
	}
}

keys.listen(act);
gestures.listen(stage, gestures.swipes(stage, (action) => act(action, now())));
for (const button of document.querySelectorAll("[data-action]")) {
	button.onclick = (event) => {
		act(button.dataset.action, event);
		event.detail && button.blur(); // a key pressed after a click is a key, not a second click
	};
}
$("choices").onchange = async () => {
	if (current) queue.back(current);
	await call("POST", ofRun(run, "release"), { candidate_ids: queue.ids() }).catch(() => {}); // leases end by themselves
	$("choices").submit();
};
$("grid-class").onchange = ({ target }) => {
	grid.items.forEach((item) => queue.back(item));
	openGrid(target.value);
};
$("unsure-again").onclick = unsureAgain;
addEventListener("popstate", () => linked() && open(linked(), false));
outbox.addEventListener("change", () => panel.latest(past, outbox, open));
outbox.addEventListener("elsewhere", ({ detail }) => detail.candidate_id === current?.candidate_id && next());
outbox.addEventListener("confirmed", () => {
	clearTimeout(asking);
	asking = setTimeout(() => call("GET", ofRun(run, "progress")).then(({ value }) => heard(value), () => {}), 600);
});
setInterval(() => document.hidden || fill(queue.items.length, Infinity), 60000); // renews the leases
waiting.listen(outbox);
outbox.send();
if (linked()) await open(linked(), false);
fill();
