/** Keys: what each does; remapped and switched off by the person, kept in this browser. */
import { $, el, keep, kept } from "./dom.js";

const ACTIONS = [
	["accept", "a", "Accept"], ["reject", "x", "Reject"], ["unsure", " ", "Unsure"], ["undo", "Backspace", "Undo, again and again"],
	["note", "n", "Note"], ["mask", "m", "Correct mask or text"], ["grid", "g", "Grid: many at once"], ["help", "?", "Help"],
	["closer", "+", "Closer"], ["farther", "-", "Farther"], ["reset", "0", "Zoom as at first"], ["wider", "o", "Wider surroundings"],
	["left", "ArrowLeft", "Left"], ["right", "ArrowRight", "Right"], ["up", "ArrowUp", "Up"], ["down", "ArrowDown", "Down"],
	["fainter", "[", "Fainter mark"], ["stronger", "]", "Stronger mark"], ["contrast", "c", "Contrast"],
];
const NAMES = { " ": "space", Backspace: "⌫", ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓" };
const FIRST = Object.fromEntries(ACTIONS);
const { on } = kept("keys-on", { on: true });
let keys = kept("keys", FIRST);

const plain = ({ key }) => (key.length === 1 ? key.toLowerCase() : key);
const name = (action) => NAMES[keys[action]] || keys[action];
const of = (key) => Object.keys(keys).find((action) => keys[action] === key);

/** Whether what has the focus takes the key itself: a text field any, a button those that press it. */
const taken = ({ target, key }) => target.matches("input:not([type=checkbox]), textarea, select")
	|| ([" ", "Enter"].includes(key) && target.matches("button, a, input"));

/** Calls act(action, event). */
export function listen(act) {
	addEventListener("keydown", (event) => {
		if (!$("keys-on").checked || event.ctrlKey || event.metaKey || event.altKey || taken(event)
			|| document.querySelector("dialog[open]")) return;
		const key = plain(event), action = of(key) || of({ "=": "+", _: "-" }[key]);
		if (!action) return;
		event.preventDefault();
		act(action, event);
	});
	$("keys-on").checked = on;
	$("keys-on").onchange = ({ target }) => { keep("keys-on", { on: target.checked }); write(); };
	$("keys-reset").onclick = () => change(FIRST);
	write();
}

function change(to) {
	keys = to;
	keep("keys", keys);
	write();
}

function write() {
	for (const place of document.querySelectorAll("[data-key]")) {
		place.textContent = name(place.dataset.key);
		place.hidden = !$("keys-on").checked;
	}
	$("keys").replaceChildren(...ACTIONS.map(([action, , does]) => el("tr", {}, el("th", { scope: "row" }, does), el("td", {}, el("button", {
		id: `key-${action}`, type: "button", class: "key", "aria-label": `${does}: ${name(action)}. Change the key`, onclick: () => ask(action),
	}, name(action))))));
}

function ask(action) {
	const button = $(`key-${action}`);
	button.textContent = "press a key";
	button.onblur = write;
	button.onkeydown = (event) => {
		if (["Shift", "Control", "Alt", "Meta"].includes(event.key)) return;
		event.preventDefault();
		const key = plain(event), other = of(key);
		button.onblur = null;
		if (["Escape", "Tab", "Enter"].includes(key)) write();
		else change({ ...keys, ...(other && { [other]: keys[action] }), [action]: key }); // two of the same change places
		$(button.id).focus();
	};
}
