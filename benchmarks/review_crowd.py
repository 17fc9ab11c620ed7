"""Ten reviewers at once over real HTTP, fifty verdicts a second for a minute, and the server killed (-9) amid the same.

SQLite, a million candidates. Each reviewer does what the page does: asks for five candidates, decides one after another at
the pace, and sends a verdict again, with the same id, until an answer has come. Prints a JSON list of rows: the time until a
verdict is confirmed and until the next candidates are there (p95, from the request to the last byte); how many confirmed
verdicts are lost, doubled, or were answered with an error; and the same after the server was killed again and again.
"""

from __future__ import annotations

import argparse
import random
import signal
import statistics
import subprocess
import sys
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import httpx2 as httpx
from _common import Bound, Row, say, scratch, show
from _ledger_runs import write_run
from ledger_verdicts import MOST_P95_MS, REVIEWERS, VERDICTS_A_SECOND, p95_ms, stored

from segsvc.ledger import users
from segsvc.ledger.intake import import_run
from segsvc.ledger.opening import open_ledger
from segsvc.ledger.records import Role
from segsvc.ledger.verifying import verify

EVERY_S = REVIEWERS / VERDICTS_A_SECOND
AGAIN_S = 0.2  # a verdict that had no answer is sent again after so long


class Server:
    """`segsvc serve` on a port of its own, to be killed and begun again there."""

    def __init__(self, place: Path) -> None:
        self._place, self.port = place, 0
        self.url = ""
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "segsvc", "serve", "--port", str(self.port), "--ledger", self._place],
            stdout=subprocess.PIPE, text=True)
        self.url = self._process.stdout.readline().strip().removesuffix("/review") if self._process.stdout else ""
        self.port = int(self.url.rsplit(":", 1)[1])

    def kill(self, number: signal.Signals) -> None:
        self._process.send_signal(number)
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


@dataclass
class Heard:
    """What reviewers were answered."""

    next_s: list[float] = field(default_factory=list)
    decide_s: list[float] = field(default_factory=list)
    confirmed: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    unanswered: int = 0  # requests; each was sent again


def review(server: Server, run_id: str, token: str, stop: threading.Event, heard: Heard) -> None:
    """One reviewer, until it is over; a verdict that is under way is then still brought to its answer."""
    draw = random.Random()  # of verdicts and of when it begins
    at = time.monotonic() + draw.random() * EVERY_S
    with httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {token}"}, timeout=10) as client:
        def sent(path: str, times: list[float], **arguments: object) -> httpx.Response | None:
            while True:
                begun = time.perf_counter()
                try:
                    answer = client.post(path, **arguments)  # type: ignore[arg-type]
                except httpx.HTTPError:
                    heard.unanswered += 1
                    time.sleep(AGAIN_S)
                    continue
                times.append(time.perf_counter() - begun)
                if answer.is_success:
                    return answer
                heard.errors.append(f"{answer.status_code} {answer.text[:200]}")
                return None

        while not stop.is_set():
            given = sent(f"/v1/review/runs/{run_id}/lease", heard.next_s, json={"order": "uncertain", "n": 5, "holding": []})
            for item in given.json()["items"] if given is not None else []:
                time.sleep(max(0.0, at - time.monotonic()))
                at = max(at + EVERY_S, time.monotonic() - 1.0)
                verdict = {"verdict": draw.choice(["accepted", "rejected"]), "seconds": EVERY_S,
                           "request_id": str(uuid.uuid4())}
                answer = sent(f"/v1/candidates/{item['candidate_id']}/decisions", heard.decide_s, params={"run": run_id},
                              headers={"If-Match": f'"{item["tag"]}"'}, json=verdict)
                if answer is not None:
                    heard.confirmed.append(answer.json()["decision_id"])
                if stop.is_set():
                    return


def crowd(server: Server, run_id: str, tokens: list[str], seconds: float, kills: int) -> Heard:
    """What all were answered; the server is killed so many times in it, and begun again."""
    heard, stop, draw = Heard(), threading.Event(), random.Random(0)
    threads = [threading.Thread(target=review, args=(server, run_id, token, stop, heard)) for token in tokens]
    for thread in threads:
        thread.start()
    for number in range(kills):
        time.sleep(1.0 + 2.0 * draw.random())
        server.kill(signal.SIGKILL)
        server.start()
        say(f"killed {number + 1} times; {len(heard.confirmed)} confirmed, {heard.unanswered} requests without an answer")
    time.sleep(seconds)
    stop.set()
    for thread in threads:
        thread.join()
    return heard


def main() -> None:
    """The command; see the module's docstring."""
    parser = argparse.ArgumentParser(description="Ten reviewers over HTTP.")
    parser.add_argument("--candidates", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--kills", type=int, default=20)
    asked = parser.parse_args()
    rows = []
    with scratch() as folder:
        place = folder / "ledger"
        say(f"writing and importing {asked.candidates:,} candidates")
        run_id = write_run(folder / "OUT", asked.candidates).id
        with open_ledger(str(place)) as ledger:
            import_run(ledger, str(folder / "OUT"))
            names = [f"reviewer-{number}" for number in range(REVIEWERS)]
            made = [users.add(ledger, name, Role.REVIEWER, uuid.uuid4().hex) for name in names]
            tokens = [users.new_token(ledger, each.name) for each in made]
        server = Server(place)
        try:
            crowd(server, run_id, tokens, 5.0, 0)  # what is loaded at first is loaded
            calm = crowd(server, run_id, tokens, asked.seconds, 0)
            killed = crowd(server, run_id, tokens, 2.0, asked.kills)
        finally:
            server.kill(signal.SIGTERM)
        there = stored(str(place))
        with open_ledger(str(place)) as ledger:
            faults = len(verify(ledger).faults)
    details = {"verdicts": len(calm.confirmed), "a second": round(len(calm.confirmed) / asked.seconds, 1),
               "errors": "; ".join(sorted(set(calm.errors)))[:300]}
    for figure, times in (("verdict confirmed", calm.decide_s), ("next candidates given", calm.next_s)):
        rows.append(Row(f"ten reviewers over HTTP: {figure}, p95", p95_ms(times), "ms", None, None, None, None, MOST_P95_MS,
                        Bound.OURS_AT_MOST, {**details, "median_ms": round(statistics.median(times) * 1000, 2)}))
    doubled = sum(count > 1 for name, count in there.items() if ":" in name)
    for figure, count in (
            ("confirmed verdicts lost", sum(each not in there for each in calm.confirmed)),
            ("verdicts doubled, kills included", doubled),
            ("verdicts answered with an error", len(calm.errors)),
            (f"confirmed verdicts gone after {asked.kills} kills", sum(each not in there for each in killed.confirmed))):
        rows.append(Row(f"ten reviewers over HTTP: {figure}", count, "verdicts", None, None, None, None, 0,
                        Bound.OURS_AT_MOST, {"confirmed": len(calm.confirmed), "confirmed amid kills": len(killed.confirmed),
                                             "unanswered requests": killed.unanswered, "faults of the chain": faults}))
    show(rows)


if __name__ == "__main__":
    main()
