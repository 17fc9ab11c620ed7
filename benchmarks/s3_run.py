"""A whole run from bucket to bucket, 50 ms away, against the same run from folder to folder: JPEGs of 1024 px, nuclei.

Prints a JSON list of one row; `ours` and `peer` are images a second from the start of the program to its end, start-up
included on both sides: medians of interleaved repeats. The bucket is on a SeaweedFS that this starts, behind a forwarder
that holds back each request for 50 ms. The candidates of both must be the same but for where their images are.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from _common import Row, interleaved, medians, say, scratch, segsvc, show, write_pictures

sys.path.insert(0, str(Path(__file__).parent.parent))

from s3_small_objects import behind

import segsvc as library
from segsvc.models.library import PACKAGED
from segsvc.settings import settings
from tests.s3_servers import S3Server, seaweedfs

SIDE_PX = 1024
DELAY_S = 0.05
DEMANDED = 0.95
BUCKET = "open"
NAMED_BY_PLACE = ("candidate_id", "image_id", "image_uri", "image_version")


def fill(server: S3Server, paths: Sequence[Path]) -> None:
    client = server.client()
    for path in paths:
        client.upload_file(str(path), BUCKET, f"in/{path.name}")


def run(source: str | Path, out: str | Path) -> None:
    segsvc("run", source, "--model", PACKAGED / "nuclei", "--out", out)


def found(out: str) -> list[dict[str, object]]:
    """The candidates without what names their place."""
    table = library.open_run(out).candidates()
    return list(table.select([name for name in table.schema.names if name not in NAMED_BY_PLACE]).to_pylist())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    with scratch() as folder, seaweedfs(folder / "server") as server, behind(server, DELAY_S) as far:
        paths = write_pictures(folder / "in", given.images, side_px=SIDE_PX, ending="jpg")
        fill(server, paths)
        os.environ |= far.environment
        settings.cache_clear()
        run(paths[0], folder / "warm")  # converts the model, if need be
        counts = {"disk": 0, "bucket": 0}

        def once(name: str) -> None:
            counts[name] += 1
            if name == "disk":
                run(folder / "in", folder / f"out-{counts[name]}")
            else:
                run(f"s3://{BUCKET}/in", f"s3://{BUCKET}/out-{counts[name]}")
            say(f"{name}: run {counts[name]} of {given.repeats}")

        seconds = interleaved({"disk": lambda: once("disk"), "bucket": lambda: once("bucket")}, repeats=given.repeats,
                              warm_ups=0)
        rate = {name: given.images / value for name, value in medians(seconds).items()}
        equal = found(str(folder / "out-1")) == found(f"s3://{BUCKET}/out-1") != []
        show([Row(f"whole run of {given.images} JPEGs of {SIDE_PX} px, nuclei, bucket to bucket at {DELAY_S * 1000:g} ms",
                  rate["bucket"], "images/s", rate["disk"], "folder to folder", rate["bucket"] / rate["disk"], equal,
                  DEMANDED, details={name: [round(value, 2) for value in values] for name, values in seconds.items()})])


if __name__ == "__main__":
    main()
