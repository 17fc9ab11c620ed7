/** Keys: what each does stands in the help's table; remapped and switched off by the person, kept in this browser. Without a key: none at first. */
import { $, keep, kept } from "./dom.js";

const NAMES = { " ": "space", Backspace: "⌫", ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓", Enter: "↵", Delete: "del", "": "–" };
const buttons = [...document.querySelectorAll("#keys button")];
const first = Object.fromEntries(buttons.map(({ name, value }) => [name, value]));
const on = $("keys-on");
const { keys: named = "keys" } = document.body.dataset; // keys are kept by this name
let keys = kept(named, first);

const plain = ({ key }) => (key.length === 1 ? key.toLowerCase() : key);
const of = (key) => Object.keys(keys).find((action) => keys[action] === key);

/** Whether what has the focus takes the key itself: a text field any, a button those that press it; nothing of a closed dialog, where it may rest a moment. */
const taken = ({ target, key }) => !target.closest("dialog:not([open])") && (target.matches("input:not([type=checkbox]), textarea, select")
	|| ([" ", "Enter"].includes(key) && target.matches("button, a, input")));

/** Calls act(action, event). */
export function listen(act) {
	addEventListener("keydown", (event) => {
		if (!on.checked || event.ctrlKey || event.metaKey || event.altKey || taken(event) || document.querySelector("dialog[open]")) return;
		const key = plain(event), action = of(key) || of({ "=": "+", _: "-" }[key]);
		if (!action) return;
		event.preventDefault();
		act(action, event);
	});
	on.checked = kept("keys-on", { on: true }).on;
	on.onchange = () => { keep("keys-on", { on: on.checked }); write(); };
	$("keys-reset").onclick = () => change(first);
	for (const button of buttons) button.onclick = () => ask(button);
	write();
}

function change(to) {
	keys = to;
	keep(named, keys);
	write();
}

function write() {
	for (const place of document.querySelectorAll("[data-key]")) {
		const key = keys[place.dataset.key];
		place.textContent = NAMES[key] || key;
		if (place.matches("kbd")) place.hidden = !on.checked || !key;
	}
}

function ask(button) {
	button.textContent = "press a key";
	button.onblur = write;
	button.onkeydown = (event) => {
		const key = plain(event), other = of(key);
		if (/^(Shift|Control|Alt|Meta)$/.test(key)) return;
		event.preventDefault();
		button.onkeydown = null;
		if (/^(Escape|Tab|Enter)$/.test(key)) write();
		else change({ ...keys, ...(other && { [other]: keys[button.name] }), [button.name]: key }); // two of the same change places
	};
}
