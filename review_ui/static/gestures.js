/** Pointers on the stage: a mouse pans, its wheel zooms, two fingers do both; one pointer alone may be for something else. */

/**
 * alone: has(event), whether a pointer that came down alone is its; then move(event, x, y), CSS px from there, and end(event),
 * or end() where it was given up. most: the highest button of a mouse that is heard.
 */
export function listen(stage, alone, most = 0) {
	const { element } = stage, down = new Map();
	let start;
	const middle = () => {
		const [a, b = a] = [...down.values()];
		return [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2, Math.hypot(a[0] - b[0], a[1] - b[1])];
	};
	element.onwheel = (event) => {
		event.preventDefault();
		stage.item && stage.zoom(2 ** (-event.deltaY / 400), event.clientX, event.clientY);
	};
	element.onpointerdown = (event) => {
		if (event.button > most || !stage.item) return;
		element.setPointerCapture(event.pointerId);
		if (stage.editor) return stage.editor.down(event);
		down.set(event.pointerId, [event.clientX, event.clientY]);
		start = down.size < 2 && alone.has(event) && middle();
		start || alone.end();
	};
	element.onpointermove = (event) => {
		if (stage.editor) return stage.editor.move(event);
		if (!down.has(event.pointerId) || !stage.item) return;
		const [x, y, apart] = middle();
		down.set(event.pointerId, [event.clientX, event.clientY]);
		const now = middle();
		if (down.size < 2 && (start || event.pointerType === "touch")) return start && alone.move(event, now[0] - start[0], now[1] - start[1]);
		stage.pan(x - now[0], y - now[1]);
		apart && stage.zoom(now[2] / apart, ...now);
	};
	element.onpointerup = element.onpointercancel = (event) => {
		if (stage.editor) return stage.editor.up();
		down.delete(event.pointerId);
		const ended = event.type === "pointerup" && start && event;
		start = null;
		alone.end(ended);
	};
}

/** A finger alone: calls swiped("accept") to the right, "reject" to the left, "unsure" up. */
export function swipes({ element }, swiped) {
	const move = (_, x, y) => {
		y = Math.min(0, y);
		element.style.setProperty("--x", `${x}px`);
		element.style.setProperty("--y", `${y}px`);
		element.dataset.swipe = Math.max(Math.abs(x), -y) < 70 ? "" : Math.abs(x) < -y ? "unsure" : x > 0 ? "accept" : "reject";
	};
	return {
		has: ({ pointerType }) => pointerType === "touch",
		move,
		end(event) {
			const action = event && element.dataset.swipe;
			move(0, 0, 0);
			action && swiped(action);
		},
	};
}
