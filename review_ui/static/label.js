/** The label page: a person marks what is on an image and says that it is done, and the next image is there. */
import { call, refused } from "./api.js";
import { $, afterPaint, el, keep, kept, say } from "./dom.js";
import { colour, fill as hatch, line, trace } from "./drawing.js";
import { edit } from "./editor.js";
import { region } from "./frame.js";
import * as gestures from "./gestures.js";
import * as keys from "./keys.js";
import { handOf } from "./label_hand.js";
import * as panel from "./label_panel.js";
import { drawPolygon } from "./label_polygon.js";
import { grown, masked, received } from "./label_shapes.js";
import { workOf } from "./label_work.js";
import { outboxOf } from "./outbox.js";
import { queueOf } from "./queue.js";
import { stageOf } from "./stage.js";
import * as waiting from "./waiting.js";

const DECODED_AHEAD = 3, LEASED = 4; // ahead: others label as well
const STEP_PX = 80, HANDLE = 4;
const LEAST_PX = 3, SLIDER = 20; // of a point; steps of the slider that double it

const { set, reader, task } = document.body.dataset, whole = task === "classes";
const buttons = [...document.querySelectorAll("#classes button")], classes = buttons.map(({ value }) => value);
const number = ({ class_name }) => Math.max(0, classes.indexOf(class_name));
const ofSet = (what = "") => `/v1/label/sets/${encodeURIComponent(set)}${what}`;
const ofImage = (id, candidates) => ofSet(`/images/${encodeURIComponent(id)}?candidates=${candidates}`);
const asked = { candidates: false };
const outbox = outboxOf(reader), stage = stageOf(paint, seen, "label-view", true);
const work = workOf(`segsvc.draft|${encodeURIComponent(reader)}|${encodeURIComponent(set)}|`, changed);
const queue = queueOf("image_id", ofSet("/lease"), asked, outbox, heard);
const hand = handOf(stage, work, { size: () => px, candidates: shownCandidates, taken: (shape) => shape && mark(shape) });
const sizes = kept("label-sizes", {}), skipped = new Map();
let current = null, class_name = classes[0], px, told, since = 0, asking, trail = [], earlier;

const next = () => show(queue.items.shift() || null);
const linked = () => new URL(location).searchParams.get("image");
const pathOf = ({ image_id }) => `/v1/images/${encodeURIComponent(image_id)}/done?set=${encodeURIComponent(set)}`;
const refusedOf = (item) => outbox.entries.find(({ path, problem }) => problem && path === pathOf(item));
const ready = (item) => Object.assign(item, { x0: 0, y0: 0, x1: item.width_px, y1: item.height_px });

function shownCandidates() { return asked.candidates ? work.candidates() : []; }

function paint(pen, at, opacity) {
	if (whole) return;
	for (const each of shownCandidates()) {
		pen.setLineDash([6, 5]);
		line(pen, trace(each, at), each === work.selected ? "#fff" : colour(number(each)));
	}
	pen.setLineDash([]);
	for (const each of opacity ? work.marks : []) {
		const path = trace(each, at);
		if (each.outline.length) hatch(pen, path, number(each), opacity);
		line(pen, path, colour(number(each)));
	}
	if (work.marks.includes(work.selected)) chosen(pen, work.selected, at);
	if (stage.editor) return;
	hand.draw(pen, at);
	hand.follow();
}

/** The selected one; a box has corners to be dragged. */
function chosen(pen, each, at) {
	const path = trace(each, at), { scale, left, top } = at, { x0, y0, x1, y1 } = each;
	line(pen, path, "#fff");
	pen.setLineDash([4, 4]);
	Object.assign(pen, { lineWidth: 2, strokeStyle: "#101010" });
	pen.stroke(path);
	pen.setLineDash([]);
	pen.fillStyle = "#fff";
	for (const x of each.outline.length ? [] : [x0, x1]) {
		for (const y of [y0, y1]) {
			const corner = new Path2D();
			corner.rect((x - left) * scale - HANDLE, (y - top) * scale - HANDLE, 2 * HANDLE, 2 * HANDLE);
			line(pen, corner, "#fff");
			pen.fill(corner);
		}
	}
}

function show(item, push = true) {
	current = item && ready(item);
	const not = item && refusedOf(item);
	if (not) item.marks ??= not.body.objects.map(received); // as they were sent
	work.open(item);
	if (not) say(`Not taken: ${not.problem} Mark it anew, and say done again.`, true);
	stage.show(item);
	$("none").hidden = item;
	if (item) resize(1);
	refresh();
	candidatesOf(item);
	if (!push || !item || linked() === item.image_id) return;
	const url = new URL(location);
	url.searchParams.set("image", item.image_id);
	afterPaint(() => history.pushState(null, "", url));
}

function seen() {
	stage.element.dataset.image = current.image_id;
	if (asked.candidates) work.sawCandidates();
	settle();
}

/** What need not be done before an image is seen. */
function settle() {
	outbox.send();
	panel.tell(current);
	if (told) panel.progress(told, since);
	$("skipped").hidden = !skipped.size;
	$("skipped").textContent = `Look again at ${skipped.size} skipped`;
	panel.latest(trail, outbox, open);
	fill();
}

/** How far the set is; only where nothing waits it is as the server says. */
function heard(progress) {
	if (told && outbox.entries.length) return;
	told = progress;
	since = 0;
	panel.progress(told, since);
}

function changed() {
	current && stage.draw(true);
	refresh();
}

function refresh() {
	const { marks, selected } = work, mine = marks.includes(selected);
	panel.pressed(buttons, whole ? marks.map((each) => each.class_name) : [mine ? selected.class_name : class_name]);
	panel.list(work, number, work.select);
	stage.element.setAttribute("aria-label", current ? `Image: ${current.image_name}, ${panel.many(marks.length)} marked` : "No image");
	$("nothing-button").disabled = marks.length > 0;
	$("done-button").disabled = !marks.length;
	if (!whole) {
		$("point").hidden = !!selected;
		$("of-object").hidden = !mine;
		$("of-candidate").hidden = !selected || mine;
	}
	if ($("candidates-count")) $("candidates-count").textContent = shownCandidates().length || "";
}

async function fill() {
	const ahead = () => queue.items.slice(0, DECODED_AHEAD).forEach((item) => stage.prepare(ready(item)));
	ahead();
	try {
		await queue.fill([current?.image_id, ...skipped.keys()].filter(Boolean), LEASED, LEASED);
		$("none-words").textContent = queue.ended ? "Nothing is left for you in this set." : "";
	} catch (error) { $("none-words").textContent = refused(error); }
	if (!current) next();
	ahead();
}

/** One more object, of the class that is chosen. */
function mark(shape, more) { work.add({ class_name, ...shape, ...more }); }

function choose(name) {
	const { selected, marks } = work;
	if (!current) return;
	if (whole) {
		const has = marks.find((each) => each.class_name === name);
		has ? work.replace(has) : work.change([...marks, { class_name: name, whole: true }]);
	} else if (marks.includes(selected)) work.replace(selected, { ...selected, class_name: name });
	else {
		class_name = name;
		selected ? takeCandidate(name) : refresh();
	}
}

function done(nothing, event) {
	const { painted } = stage, item = current, { marks, candidates_shown } = work;
	if (!item || stage.editor || !painted || event.timeStamp < painted) return; // not seen yet
	if (!$("gone").hidden) return say("What is not seen cannot be labelled: skip it.");
	if (nothing && marks.length) return say("There are objects: take them back, or say that it is done.");
	if (!nothing && !marks.length) return say("Nothing is marked. If there is nothing, say so by the other button.");
	const { image_id, image_name: title } = item, words = panel.many(marks.length);
	const body = { nothing, objects: work.said(), candidates_shown, shown_at: new Date(performance.timeOrigin + painted).toISOString(),
		seconds: Math.round(event.timeStamp - painted) / 1000 };
	const before = refusedOf(item);
	({ request_id: item.request_id } = outbox.add({ path: pathOf(item), image_id, title, words, body }));
	if (before) outbox.remove(before);
	work.forget();
	since += item.labelled ? 0 : 1;
	item.labelled = true;
	queue.take(image_id, true);
	pass(item);
	say(`✓ ${title}: ${words}`);
}

/** Goes on from an image to the next one. */
function pass(item) {
	trail = [...trail.filter((other) => other.image_id !== item.image_id), item];
	next();
	if (!current) settle();
}

/** Leaves an image for later, or as it was labelled before. */
function skip() {
	const item = current;
	if (!item || stage.editor) return;
	if (item.labelled) return pass(item);
	skipped.set(item.image_id, item);
	queue.take(item.image_id, true);
	next();
	if (!current) settle();
	say(`Skipped: ${item.image_name}`);
}

function skippedAgain() {
	[...skipped.values()].reverse().forEach((item) => queue.back(item));
	skipped.clear();
	next();
}

/** The last step; with none, the image before. */
async function undo() {
	if (stage.editor) return;
	if (current && work.undo()) return say("Taken back.");
	try {
		earlier ??= trail.length ? null : (await call("GET", ofSet("/mine?limit=500"))).value.items
			.map(({ image_id }) => image_id).filter((id) => !queue.ids().includes(id) && id !== current?.image_id);
		const item = trail.at(-1) || (earlier?.length && await fetched(earlier[0]));
		if (!item) return say("There is no image before.");
		trail.length ? trail.pop() : earlier.shift();
		if (current) queue.back(current);
		show(item);
		say(`Labelled before: ${panel.many(work.marks.length)}. Say done again to change it.`, true);
	} catch (error) { say(refused(error)); }
}

const fetched = async (id) => (await call("GET", ofImage(id, asked.candidates))).value;

/** Shows an image again: a deep link, the browser's back button, one of the latest. */
async function open(id, push = true) {
	if (current?.image_id === id) return;
	try {
		const item = queue.items.find((each) => each.image_id === id) || trail.find((each) => each.image_id === id) || skipped.get(id) || await fetched(id);
		if (stage.editor) return;
		if (current) current.labelled ? trail.push(current) : queue.back(current);
		trail = trail.filter((each) => each !== item);
		skipped.delete(id);
		queue.take(id);
		show(item, push);
		if (item.labelled && !refusedOf(item)) say(`You labelled this: ${panel.many(work.marks.length)}. Say done again to change it.`, true);
	} catch (error) { say(refused(error), true); }
}

/** Asks for an image's candidates, if they are to be seen and were not asked for. */
async function candidatesOf(item) {
	if (!asked.candidates || !item || item.candidates) return;
	try {
		item.candidates = (await call("GET", ofImage(item.image_id, true))).value.candidates || [];
		if (item === current && stage.painted) {
			work.sawCandidates();
			work.select(work.selected);
		}
	} catch (error) { say(refused(error)); }
}

function showCandidates() {
	const box = $("candidates-on");
	if (!box) return say("No model has looked at this set.");
	asked.candidates = box.checked = !asked.candidates;
	if (asked.candidates && current?.candidates && stage.painted) work.sawCandidates();
	work.select(work.marks.includes(work.selected) ? work.selected : null);
	candidatesOf(current);
	say(asked.candidates ? "The model’s candidates are shown" : "The model’s candidates are hidden");
}

const candidate = () => work.selected && !work.marks.includes(work.selected) && work.selected;

function takeCandidate(name) {
	const each = candidate();
	if (!each) return;
	const { candidate_id, outline, x0, y0, x1, y1, mask_rle } = each;
	mark({ outline, x0, y0, x1, y1, candidate_id, ...(mask_rle && { mask_rle }) }, { class_name: name || (classes.includes(each.class_name) ? each.class_name : class_name) });
}

function remove() {
	const { selected, marks } = work;
	if (marks.includes(selected)) work.replace(selected);
}

/** Another size of the next points, or of the one that is selected. */
function resize(factor) {
	const { selected, marks } = work;
	if (!current) return;
	if (factor !== 1 && marks.includes(selected) && selected.polygon) return work.replace(selected, grown(current, selected, factor));
	const most = Math.max(current.width_px, current.height_px), step = factor > 1 ? Math.ceil : factor < 1 ? Math.floor : Math.round;
	px = Math.min(Math.max(step(((factor === 1 ? sizes[set] : px) || most / 25) * factor), LEAST_PX), most);
	if (factor !== 1) keep("label-sizes", Object.assign(sizes, { [set]: px }));
	if (whole) return;
	$("point-size").max = SLIDER * Math.log2(most);
	$("point-size").value = SLIDER * Math.log2(px);
	$("point-words").textContent = `${px} px`;
	hand.follow();
}

function polygon() {
	if (!current || stage.editor || whole) return;
	hand.hover(null);
	drawPolygon(stage, (shape) => (shape ? mark(shape) : stage.draw(true)));
}

/** A mask by the brush: a new one within what is seen, or the selected mask or box. */
function brush() {
	if (!current || stage.editor || whole) return;
	const { selected, marks } = work, chosen = marks.includes(selected) && !selected.polygon && selected;
	const { clientWidth: width, clientHeight: height } = stage.element, { width_px, height_px } = current;
	hand.hover(null);
	const part = chosen || region(current, { width, height }, stage.frame);
	try {
		edit(stage, { ...part, width_px, height_px }, colour(number(chosen || { class_name })), (made) => {
			if (!made) return made === null && say("Nothing was painted.");
			const shape = masked(made.box, made.mask_rle);
			chosen ? work.replace(chosen, { class_name: chosen.class_name, ...shape }) : mark(shape);
		}, !chosen);
	} catch (error) { say("Too large to be painted at once: move closer first."); }
}

/** What changes the view; may be held down. */
const views = {
	closer: () => stage.zoom(1.25), farther: () => stage.zoom(0.8), reset: () => stage.zoom(0),
	left: () => stage.pan(-STEP_PX, 0), right: () => stage.pan(STEP_PX, 0), up: () => stage.pan(0, -STEP_PX), down: () => stage.pan(0, STEP_PX),
	fainter: () => stage.opacity(-0.1), stronger: () => stage.opacity(0.1), contrast: () => stage.contrast(),
	smaller: () => resize(1 / 1.12), larger: () => resize(1.12),
};
const actions = {
	done: (event) => done(false, event), nothing: (event) => done(true, event), undo, skip, polygon, brush, remove,
	candidates: showCandidates, take: () => takeCandidate(), away: () => candidate() && work.putAway(candidate()), help: () => $("help").showModal(),
};

function act(action, event) {
	if (views[action]) {
		const said = current && views[action]();
		if (said) say(said);
		return;
	}
	const nth = /^class(\d+)$/.exec(action);
	if (event.repeat || !(nth || actions[action])) return;
	try { nth ? buttons[nth[1] - 1] && choose(classes[nth[1] - 1]) : actions[action](event); } catch (error) {
		say(`Not taken: ${error.message}`, true); // the browser has no room left
		throw error;
	}
}

/** The tab key goes through what is marked, and then on to what comes next on the page. */
function selectNext(event) {
	const { key, shiftKey, ctrlKey, metaKey, altKey } = event, { activeElement } = document;
	if (key === "Escape" && !stage.editor) work.select(null);
	if (key !== "Tab" || ctrlKey || metaKey || altKey || whole || activeElement !== document.body || stage.editor || document.querySelector("dialog[open]")) return;
	const all = [...work.marks, ...shownCandidates()], at = all.indexOf(work.selected);
	const then = at < 0 && shiftKey ? undefined : all[at + (shiftKey ? -1 : 1)];
	work.select(then || null);
	if (then) event.preventDefault();
}

addEventListener("keydown", selectNext);
keys.listen(act);
gestures.listen(stage, whole ? { has: () => false, move() {}, end() {} } : hand, 1);
if (!whole) {
	stage.element.addEventListener("pointermove", (event) => current && !stage.editor && !event.buttons && hand.hover(event));
	stage.element.addEventListener("pointerleave", () => current && !stage.editor && hand.hover(null));
	$("point-size").oninput = ({ target }) => {
		px = Math.max(LEAST_PX, Math.round(2 ** (target.value / SLIDER)));
		keep("label-sizes", Object.assign(sizes, { [set]: px }));
		$("point-words").textContent = `${px} px`;
	};
	stage.element.onmousedown = (event) => event.button === 1 && event.preventDefault(); // which would scroll
	$("point-size").onpointerup = ({ target }) => target.blur();
}
for (const button of document.querySelectorAll("[data-action]")) {
	button.onclick = (event) => {
		act(button.dataset.action, event);
		event.detail && button.blur(); // a key pressed after a click is a key, not a second click
	};
}
if ($("candidates-on")) $("candidates-on").onchange = showCandidates;
$("skipped").onclick = skippedAgain;
addEventListener("popstate", () => linked() && open(linked(), false));
outbox.addEventListener("change", () => panel.latest(trail, outbox, open));
outbox.addEventListener("elsewhere", ({ detail }) => detail.image_id === current?.image_id && !work.touched && next()); // another tab labelled it
outbox.addEventListener("confirmed", () => {
	clearTimeout(asking);
	asking = setTimeout(() => call("GET", ofSet()).then(({ value }) => heard(value), () => {}), 600);
});
setInterval(() => document.hidden || queue.fill([current?.image_id, ...skipped.keys()].filter(Boolean), queue.items.length, Infinity).catch(() => {}), 60000); // renews the leases
waiting.listen(outbox, ({ path, image_id }) => path && el("a", { class: "button", href: `/label/${encodeURIComponent(new URLSearchParams(path.split("?")[1]).get("set"))}?image=${encodeURIComponent(image_id)}` }, "Open it"));
outbox.send();
if (linked()) await open(linked(), false);
fill();
