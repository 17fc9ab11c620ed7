/** HTTP to our own origin, in JSON. */

/** What the server refused. Status 0: no answer; 401 also where a page came instead of JSON. */
export class Refusal extends Error {
	constructor(status, problem = {}, wait_s = 0) {
		super(problem.detail || problem.title || (status ? `The server answered ${status}.` : "No connection."));
		Object.assign(this, { status, problem, wait_s });
	}
}

/** {value, etag} of the answer. */
export async function call(method, path, body, headers) {
	let answer, text, value;
	try {
		const sent = body && JSON.stringify(body);
		answer = await fetch(path, {
			method, body: sent, signal: AbortSignal.timeout(20000),
			keepalive: sent?.length < 30000, // goes out even if the page is closed now
			headers: { Accept: "application/json", "Content-Type": "application/json", ...headers },
		});
		text = await answer.text();
	} catch { throw new Refusal(0); }
	try { value = JSON.parse(text || "{}"); } catch { if (answer.ok) throw new Refusal(401); }
	if (!answer.ok) throw new Refusal(answer.status, value, +answer.headers.get("Retry-After"));
	return { value, etag: answer.headers.get("ETag") };
}

export const candidate = (id, run, what = "") => `/v1/candidates/${encodeURIComponent(id)}${what}?run=${encodeURIComponent(run)}`;
export const ofRun = (id, what) => `/v1/review/runs/${encodeURIComponent(id)}/${what}`;
