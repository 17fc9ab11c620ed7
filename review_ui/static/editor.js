/** Corrects a mask by brush and polygon, in px of the image. */
import { $ } from "./dom.js";
import { line } from "./drawing.js";
import { decode, encode } from "./rle.js";

class Editor {
	brush = 16; // CSS px across
	tool = "brush"; // or erase, polygon, cut
	#steps = []; #corners = []; #last; #pointer;

	constructor(stage, { x0, y0, x1, y1, width_px, height_px, mask_rle }, colour) {
		const w = x1 - x0, h = y1 - y0, room = Math.max(32, w >> 1, h >> 1), x = Math.max(0, x0 - room), y = Math.max(0, y0 - room);
		const width = Math.min(width_px, x1 + room) - x, height = Math.min(height_px, y1 + room) - y;
		if (width * height > 2 ** 24) throw new RangeError("This candidate is too large to be corrected here.");
		this.canvas = new OffscreenCanvas(width, height);
		const pen = this.canvas.getContext("2d", { willReadFrequently: true });
		Object.assign(pen, { fillStyle: colour, strokeStyle: colour, lineCap: "round" });
		Object.assign(this, { stage, pen, x, y, width, height });
		pen.fillRect(x0 - x, y0 - y, w, h);
		const flags = mask_rle && decode(mask_rle, w * h), picture = pen.getImageData(x0 - x, y0 - y, w, h);
		flags?.forEach((flag, n) => { picture.data[(n % h * w + Math.floor(n / h)) * 4 + 3] = flag * 255; });
		pen.putImageData(picture, x0 - x, y0 - y);
		pen.translate(-x, -y);
	}

	draw(pen, { scale, left, top }) {
		const at = ([u, v]) => [(u - left) * scale, (v - top) * scale], place = [...at([this.x, this.y]), this.width * scale, this.height * scale];
		pen.imageSmoothingEnabled = false;
		pen.globalAlpha = 0.5;
		pen.drawImage(this.canvas, ...place);
		pen.globalAlpha = 1;
		const path = new Path2D();
		path.rect(...place);
		this.#corners.forEach((corner, n) => path[n ? "lineTo" : "moveTo"](...at(corner)));
		if (this.#pointer) {
			const [u, v] = at(this.#pointer), round = this.#brushes ? this.brush / 2 : 2;
			path.moveTo(u + round, v);
			path.arc(u, v, round, 0, 7);
		}
		line(pen, path, "#fff");
	}

	get #brushes() { return ["brush", "erase"].includes(this.tool); }

	#begin() {
		this.#steps.push(this.pen.getImageData(0, 0, this.width, this.height));
		if (this.#steps.length > 12) this.#steps.shift();
		this.pen.globalCompositeOperation = ["erase", "cut"].includes(this.tool) ? "destination-out" : "source-over";
		this.pen.beginPath();
	}

	down(event) {
		const at = this.stage.under(event), [first] = this.#corners;
		if (this.#brushes) {
			this.#begin();
			this.#stroke(this.#last = at);
		} else if (this.#corners.length > 2 && Math.hypot(at[0] - first[0], at[1] - first[1]) * this.stage.frame.scale < 10) this.#close();
		else this.#corners.push(at);
		this.stage.draw();
	}

	move(event) {
		this.#pointer = this.stage.under(event);
		if (this.#last) this.#stroke(this.#pointer);
		this.stage.draw();
	}

	up() { this.#last = null; }

	#stroke(to) {
		this.pen.lineWidth = this.brush / this.stage.frame.scale;
		this.pen.beginPath();
		this.pen.moveTo(...this.#last);
		this.pen.lineTo(...this.#last = to);
		this.pen.stroke();
	}

	/** Fills the polygon that was begun. */
	#close() {
		this.#begin();
		for (const corner of this.#corners.splice(0)) this.pen.lineTo(...corner);
		this.pen.fill();
	}

	back() {
		if (!this.#corners.pop() && this.#steps.length) this.pen.putImageData(this.#steps.pop(), 0, 0);
		this.stage.draw();
	}

	/** {box, mask_rle} of what is painted, null if nothing is. */
	result() {
		if (this.#corners.length > 2) this.#close();
		const { x, y, width, height } = this, { data } = this.pen.getImageData(0, 0, width, height), xs = [], ys = [];
		const on = (u, v) => data[(v * width + u) * 4 + 3] > 127;
		for (let u = 0; u < width; u++) for (let v = 0; v < height; v++) if (on(u, v)) { xs[u] = 1; ys[v] = 1; }
		const u0 = xs.indexOf(1), v0 = ys.indexOf(1), w = xs.length - u0, h = ys.length - v0;
		if (u0 < 0) return null;
		const flags = Uint8Array.from({ length: w * h }, (_, n) => on(u0 + Math.floor(n / h), v0 + n % h));
		return { box: { x0: x + u0, y0: y + v0, x1: x + u0 + w, y1: y + v0 + h }, mask_rle: encode(flags) };
	}
}

/** Shows the tools; calls `saved(result)`, or `saved()` where it was given up. */
export function edit(stage, item, colour, saved) {
	const editor = stage.editor = new Editor(stage, item, colour), tools = $("editor");
	const end = (save) => {
		const result = save ? editor.result() : undefined;
		stage.editor = null;
		tools.hidden = true;
		removeEventListener("keydown", keys, true);
		stage.draw();
		saved(result);
	};
	const keys = (event) => {
		const { key, target } = event;
		if (key === "Tab" || (key !== "Escape" && target.matches("#editor :is(button, input)") && key !== "Backspace")) return;
		if (key === "Enter" || key === "Escape") end(key === "Enter");
		else if (key === "Backspace") editor.back();
		else if (!/^([-+=0[\]c]|Arrow.*)$/.test(key)) return event.stopPropagation(); // the view may still be changed
		else return;
		event.preventDefault();
		event.stopPropagation();
	};
	tools.oninput = ({ target: { name, value } }) => { editor[name] = value; };
	tools.onsubmit = (event) => { event.preventDefault(); end(event.submitter.value === "save"); };
	$("editor-back").onclick = () => editor.back();
	tools.reset();
	tools.hidden = false;
	addEventListener("keydown", keys, true);
	stage.draw();
}
