/** The slider over recall: what each recall costs, as the server counted or expects it. */
import { call, ofRun, refused } from "./api.js";
import { $, count, el } from "./dom.js";

const WIDTH = 640, HEIGHT = 200, LEFT = 62, RIGHT = 24, TOP = 12, BOTTOM = 32, LABEL_GAP = 62, MOST_TRIES = 15;
const { run } = document.body.dataset;
const whole = (number) => count(Math.round(number));
const many = (number, what) => `${count(number)} ${what}${number === 1 ? "" : "s"}`;
const percent = (share) => `${+(100 * share).toFixed(1)} %`;
let told, steps, asked = 0;

function time(hours) {
	if (hours >= 1) return `${hours < 10 ? hours.toFixed(1) : whole(hours)} h`;
	return hours * 60 < 1 ? "under 1 min" : `${Math.round(hours * 60)} min`;
}

function needed({ more_units, more_images }) {
	if (more_units == null) return `no number of ${told.unit}s would do`;
	return many(more_units, told.unit) + (told.unit === "image" ? "" : `, about ${many(more_images, "image")}`);
}

const drawn = (name, attributes, words) => {
	const made = document.createElementNS("http://www.w3.org/2000/svg", name);
	for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
	if (words !== undefined) made.textContent = words;
	return made;
};

/** Recalls stand by the logarithm of what may be missed: 0.9 is as far from 0.99 as that from 0.999. */
const across = (recall) => {
	const first = 1 - steps[0].recall, last = 1 - steps[steps.length - 1].recall;
	return LEFT + (WIDTH - LEFT - RIGHT) * (first === last ? 0 : Math.log(first / (1 - recall)) / Math.log(first / last));
};

function plot() {
	const top = Math.max(1, ...told.rows.map(({ review }) => review)), bottom = HEIGHT - BOTTOM;
	const high = (review) => TOP + (bottom - TOP) * (1 - review / top);
	const end = across(told.rows[told.rows.length - 1].recall);
	const parts = told.beyond.length ? [drawn("rect", { class: "zone", x: end, y: TOP, width: WIDTH - RIGHT - end, height: bottom - TOP })] : [];
	for (const share of [0, 0.5, 1])
		parts.push(drawn("line", { class: "axis", x1: LEFT, x2: WIDTH - RIGHT, y1: high(top * share), y2: high(top * share) }),
			drawn("text", { x: LEFT - 8, y: high(top * share) + 4, "text-anchor": "end" }, whole(top * share)));
	if (told.in_force) parts.push(drawn("line", { class: "force", x1: across(told.in_force), x2: across(told.in_force), y1: TOP, y2: bottom }));
	parts.push(drawn("path", { class: "line", d: `M${told.rows.map(({ recall, review }) => `${across(recall)} ${high(review)}`).join("L")}` }));
	for (const { recall, review } of told.rows) parts.push(drawn("circle", { class: "dot", cx: across(recall), cy: high(review), r: 3.5 }));
	for (const { recall } of told.beyond) parts.push(drawn("circle", { class: "open", cx: across(recall), cy: bottom, r: 3.5 }));
	let last = Infinity;
	for (const { recall } of [...steps].reverse()) {
		if (last - across(recall) < LABEL_GAP) continue;
		last = across(recall);
		parts.push(drawn("text", { x: last, y: HEIGHT - 9, "text-anchor": "middle" }, recall));
	}
	$("plot").replaceChildren(...parts, drawn("line", { id: "cut", class: "cut", x1: 0, x2: 0, y1: TOP, y2: bottom }));
}

function show() {
	const at = steps[+$("recall").value], shown = at.review !== undefined;
	for (const name of ["x1", "x2"]) $("cut").setAttribute(name, across(at.recall));
	$("recall-words").textContent = at.recall;
	const words = shown ? `${at.recall}: ${many(Math.round(at.review), "candidate")}, ${time(at.hours)}` : `${at.recall}: not shown yet`;
	$("recall").setAttribute("aria-valuetext", words);
	$("shown").hidden = $("command-line").hidden = !shown;
	$("short").hidden = shown;
	[...$("rows").children].forEach((row, place) => row.classList.toggle("chosen", steps[place] === at));
	if (!shown) {
		$("short").textContent = at.more_units == null ? `The calibration does not show this recall, and ${needed(at)}.` : `The calibration does not show this recall yet. To promise it, label about ${needed(at)} more.`;
		return;
	}
	$("cost-review").textContent = whole(at.review);
	$("cost-hours").textContent = time(at.hours);
	$("cost-bound").textContent = percent(at.recall);
	$("cost-measured").textContent = percent(at.recall_measured);
	$("cost-audit").textContent = whole(at.audit);
	$("cost-accepted").textContent = whole(at.accepted);
	$("command").textContent = at.command;
}

function table() {
	$("rows").replaceChildren(...steps.map((at) => {
		const shown = at.review !== undefined;
		const row = el("tr", {}, el("th", { scope: "row" }, at.recall), el("td", {}, shown ? whole(at.review) : "–"),
			el("td", {}, shown ? time(at.hours) : "–"), el("td", {}, shown ? "none" : needed(at)));
		row.classList.toggle("force", at.recall === told.in_force);
		return row;
	}));
}

function take(value) {
	const kept = steps && steps[+$("recall").value].recall;
	told = value;
	steps = [...told.rows, ...told.beyond];
	$("cost-says").textContent = `${told.says[0].toUpperCase()}${told.says.slice(1)}.`;
	$("curve").hidden = !steps.length;
	if (!steps.length) return;
	const wanted = kept ?? told.in_force ?? told.rows[told.rows.length - 1].recall;
	const place = steps.findIndex(({ recall }) => recall >= wanted - 1e-9);
	Object.assign($("recall"), { max: steps.length - 1, value: place < 0 ? told.rows.length - 1 : place });
	$("pace").textContent = `${told.pace.says}. ${told.readers > 1 ? `Each candidate is read by ${told.readers} people. ` : ""}${told.counted ? "Candidates are those that the run stored, counted." : "Candidates are expected, as many as the calibration counted."}`;
	const rest = told.without_promise;
	$("wording").textContent = [told.wording && `The calibration is ${told.wording}.`, rest.length && `Nothing is promised for ${rest.join(", ")}: all that is stored there is for review.`].filter(Boolean).join(" ");
	$("confidence").textContent = `What is promised holds with ${percent(told.confidence)} confidence over the draw of the calibration, for all classes together.`;
	plot();
	table();
	show();
}

/** Asks the server; an answer that comes after a later question is not shown. A large run takes a while to count, once. */
async function load(again = 0) {
	const own = ++asked, model = $("model")?.value;
	if (!run && (!model || !$("images").checkValidity())) return;
	try {
		const { value } = await call("GET", run ? ofRun(run, "cost") : `/v1/models/${encodeURIComponent(model)}/cost?images=${+$("images").value}`);
		if (own === asked) take(value);
	} catch (error) {
		if (error.status === undefined) throw error;
		if (own !== asked) return;
		if (!error.status && again < MOST_TRIES) return setTimeout(load, 1000, again + 1);
		$("cost-says").textContent = error.message;
		$("curve").hidden = true;
	}
}

function changed() {
	history.replaceState(null, "", `?${new URLSearchParams(new FormData($("asked")))}`);
	load();
}

/** Has the server list what was typed; the costs are then of as many images. */
async function countInput(event) {
	event.preventDefault();
	const input = $("input").value.trim(), button = $("count-button"), words = $("counted-says");
	if (!input || button.disabled) return;
	button.disabled = true;
	words.textContent = "Counting …";
	try {
		const { value: { images, says } } = await call("POST", "/v1/inputs/count", { input });
		words.textContent = `${says[0].toUpperCase()}${says.slice(1)}.`;
		if (images) {
			$("images").value = images;
			changed();
		}
	} catch (error) { words.textContent = refused(error); }
	button.disabled = false;
}

$("recall").oninput = show;
$("counted")?.addEventListener("submit", countInput);
$("asked")?.addEventListener("input", changed);
$("asked")?.addEventListener("submit", (event) => { event.preventDefault(); changed(); });
load();
