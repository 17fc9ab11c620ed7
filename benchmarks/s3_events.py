"""10,000 events of a real bucket, 30 % of them doubled, shuffled, puts and deletes, 5 % lost; then reconciled by listing.

What the ledger knows is held against the bucket's own listing, and what would be run against both: every version that is
there once, and nothing twice. Messages are S3's, as its notifications have them.

    python benchmarks/s3_events.py [--events 10000] [--seed 0]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote_plus

sys.path.insert(0, str(Path(__file__).parent.parent))

from jobs.reconciling import reconcile
from jobs.rules import Rule, Rules
from jobs.triggers import heard
from segsvc.ledger import event_batches, events
from segsvc.ledger.opening import open_ledger
from segsvc.settings import settings
from tests.s3_servers import S3Server, seaweedfs

_THREADS = 8


def told(number: int, key: str, etag: str | None) -> str:
    """S3's message of a put, or without an ETag of a deletion."""
    thing = {"key": quote_plus(key), "sequencer": f"{number + 0x0055AED6DCD90281:X}",
             **({"eTag": etag, "size": 5} if etag is not None else {})}
    return json.dumps({"Records": [{
        "eventVersion": "2.1", "eventTime": "2026-11-02T09:30:12.250Z", "s3": {"bucket": {"name": "open"}, "object": thing},
        "eventName": "ObjectCreated:Put" if etag is not None else "ObjectRemoved:Delete"}]})


def happenings(count: int, chance: random.Random) -> list[tuple[int, str, bytes | None]]:
    """Puts and deletes in their order: number, key, and the bytes or None."""
    there: set[str] = set()
    found: list[tuple[int, str, bytes | None]] = []
    for number in range(count):
        key = f"street/a b+ü/{chance.randrange(count // 3)}.png"
        gone = key in there and chance.random() < 0.5
        (there.discard if gone else there.add)(key)
        found.append((number, key, None if gone else chance.randbytes(5)))
    return found


def happen(store: S3Server, all_of_it: list[tuple[int, str, bytes | None]]) -> list[str]:
    """Does all of it in the bucket, each key's in its order; the messages of it."""
    client = store.client(max_pool_connections=_THREADS)
    by_key: dict[str, list[tuple[int, bytes | None]]] = {}
    for number, key, data in all_of_it:
        by_key.setdefault(key, []).append((number, data))

    def of_key(key: str) -> list[str]:
        said = []
        for number, data in by_key[key]:
            if data is None:
                client.delete_object(Bucket="open", Key=key)
                said.append(told(number, key, None))
            else:
                said.append(told(number, key, client.put_object(Bucket="open", Key=key, Body=data)["ETag"]))
        return said

    with ThreadPoolExecutor(_THREADS) as pool:
        return [message for messages in pool.map(of_key, by_key) for message in messages]


def listed(store: S3Server) -> dict[str, str]:
    """The bucket's own listing, by boto3: ETags by URI."""
    pages = store.client().get_paginator("list_objects_v2").paginate(Bucket="open", Prefix="street/")
    return {f"s3://open/{each['Key']}": each["ETag"].strip('"') for page in pages for each in page.get("Contents", [])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder, seaweedfs(Path(folder) / "weed") as store:
        os.environ.update(store.environment)
        settings.cache_clear()
        messages = happen(store, happenings(options.events, chance))
        kept = [each for each in messages if chance.random() >= 0.05]
        sent = [*kept, *chance.sample(kept, len(kept) * 3 // 10)]
        chance.shuffle(sent)
        rules = Rules((Rule(name="street", prefix="s3://open/street/", model="nuclei", out=f"{folder}/out",
                            gather={"seconds": 0, "images": 1000}),))
        with open_ledger(f"{folder}/ledger") as ledger:
            began = time.perf_counter()
            for first in range(0, len(sent), 10):
                heard(sent[first : first + 10], rules).run(ledger, print)
                if first % 1000 == 0:
                    event_batches.cut_due(ledger)
            taking_s = time.perf_counter() - began
            there = listed(store)
            known = events.there(ledger, "s3://open/")
            unlike = sum(known.get(uri) != there.get(uri) for uri in known.keys() | there.keys())
            began = time.perf_counter()
            counts = reconcile("s3://open/street", rules, lambda errand: errand.run(ledger, print),
                               lambda errand: errand.run(ledger, print).gone)
            listing_s = time.perf_counter() - began
            event_batches.cut_due(ledger)
            put = [(image.uri, image.etag) for batch in event_batches.since(ledger, 0)
                   for image in event_batches.images_of(ledger, batch)]
            known = events.there(ledger, "s3://open/")
        print(f"{options.events} happenings, {len(sent)} messages, {len(messages) - len(kept)} lost, in {taking_s:.1f} s "
              f"({len(sent) / taking_s:.0f} a second)")
        print(f"before: {unlike} objects unlike the listing of {len(there)}; reconcile queued {counts.queued}, "
              f"gone {counts.gone}, in {listing_s:.1f} s")
        print(f"after: equal to the listing: {known == there}; versions in runs: {len(put)}, doubled "
              f"{len(put) - len(set(put))}, "
              f"of those there missing {len(set(there.items()) - set(put))}")
        if known != there or len(put) != len(set(put)) or set(there.items()) - set(put):
            sys.exit(1)


if __name__ == "__main__":
    main()
