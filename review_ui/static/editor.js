/** Corrects a mask by brush and polygon, in px of the image. */
import { $ } from "./dom.js";
import { line } from "./drawing.js";
import { decode, encode } from "./rle.js";

/**
 * Shows the tools; calls saved({box, mask_rle}), saved(null) where nothing is painted, or saved() where it was given up.
 * empty: begins with nothing in the box, and stays in it.
 */
export function edit(stage, { x0, y0, x1, y1, width_px, height_px, mask_rle }, colour, saved, empty) {
	const w = x1 - x0, h = y1 - y0, room = empty ? 0 : Math.max(32, w >> 1, h >> 1), x = Math.max(0, x0 - room), y = Math.max(0, y0 - room);
	const width = Math.min(width_px, x1 + room) - x, height = Math.min(height_px, y1 + room) - y, tools = $("editor");
	if (width * height > 2 ** 24) throw new RangeError("Too large to be corrected here.");
	const canvas = new OffscreenCanvas(width, height), pen = canvas.getContext("2d", { willReadFrequently: true });
	const whole = () => pen.getImageData(0, 0, width, height), tool = () => tools.elements.tool.value, size = () => +tools.elements.size.value;
	const brushes = () => ["brush", "erase"].includes(tool());
	const steps = [], corners = [];
	let last, pointer;

	Object.assign(pen, { fillStyle: colour, strokeStyle: colour, lineCap: "round" });
	if (!empty) pen.fillRect(x0 - x, y0 - y, w, h);
	if (mask_rle) {
		const picture = pen.getImageData(x0 - x, y0 - y, w, h);
		decode(mask_rle, w * h).forEach((flag, n) => { picture.data[(n % h * w + Math.floor(n / h)) * 4 + 3] = flag * 255; });
		pen.putImageData(picture, x0 - x, y0 - y);
	}
	pen.translate(-x, -y);

	function begin() {
		steps.push(whole());
		if (steps.length > Math.min(12, 2 ** 26 / (width * height))) steps.shift(); // of large ones fewer are kept
		pen.globalCompositeOperation = ["erase", "cut"].includes(tool()) ? "destination-out" : "source-over";
		pen.beginPath();
	}

	/** Fills the polygon that was begun. */
	function close() {
		begin();
		for (const corner of corners.splice(0)) pen.lineTo(...corner);
		pen.fill();
	}

	function back() {
		if (!corners.pop() && steps.length) pen.putImageData(steps.pop(), 0, 0);
		stage.draw();
	}

	function result() {
		if (corners.length > 2) close();
		const { data } = whole(), on = (u, v) => data[(v * width + u) * 4 + 3] > 127, us = [], vs = [];
		for (let u = 0; u < width; u++) for (let v = 0; v < height; v++) if (on(u, v)) us[u] = vs[v] = 1;
		const u0 = us.indexOf(1), v0 = vs.indexOf(1), across = us.length - u0, down = vs.length - v0;
		return u0 < 0 ? null : { box: { x0: x + u0, y0: y + v0, x1: x + us.length, y1: y + vs.length },
			mask_rle: encode(Uint8Array.from({ length: across * down }, (_, n) => on(u0 + Math.floor(n / down), v0 + n % down))) };
	}

	function end(save) {
		const made = save ? result() : undefined;
		stage.editor = null;
		tools.hidden = true;
		removeEventListener("keydown", keys, true);
		stage.draw();
		saved(made);
	}

	function keys(event) {
		const { key, target } = event;
		if (key === "Tab" || (key === "Enter" && target.matches("button")) || (target.matches("#editor *") && /^(Arrow| )/.test(key))) return;
		if (/^([-+=0[\]c]|Arrow.*)$/.test(key)) return; // the view may still be changed
		event.stopPropagation();
		if (!["Enter", "Escape", "Backspace"].includes(key)) return;
		event.preventDefault();
		key === "Backspace" ? back() : end(key === "Enter");
	}

	stage.editor = {
		draw(over, { scale, left, top }) {
			const at = ([u, v]) => [(u - left) * scale, (v - top) * scale], place = [...at([x, y]), width * scale, height * scale], path = new Path2D();
			over.imageSmoothingEnabled = false;
			over.globalAlpha = 0.5;
			over.drawImage(canvas, ...place);
			over.globalAlpha = 1;
			path.rect(...place);
			corners.forEach((corner, n) => path[n ? "lineTo" : "moveTo"](...at(corner)));
			if (pointer) {
				const [u, v] = at(pointer), radius = brushes() ? size() / 2 : 2;
				path.moveTo(u + radius, v);
				path.arc(u, v, radius, 0, 7);
			}
			line(over, path, "#fff");
		},
		down(event) {
			const at = stage.under(event), [first] = corners;
			if (brushes()) { begin(); last = at; }
			else if (corners.length > 2 && Math.hypot(at[0] - first[0], at[1] - first[1]) * stage.frame.scale < 10) close();
			else corners.push(at);
			this.move(event);
		},
		move(event) {
			pointer = stage.under(event);
			if (last) {
				pen.lineWidth = size() / stage.frame.scale;
				pen.beginPath();
				pen.moveTo(...last);
				pen.lineTo(...last = pointer);
				pen.stroke();
			}
			stage.draw();
		},
		up() { last = null; },
	};
	tools.onsubmit = (event) => { event.preventDefault(); end(event.submitter.value === "save"); };
	$("editor-back").onclick = back;
	tools.reset();
	tools.hidden = false;
	addEventListener("keydown", keys, true);
	stage.draw();
}
