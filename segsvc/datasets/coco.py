"""COCO instances (https://cocodataset.org/#format-data): annotations.json beside the images, or one in each split's folder.

A .json of another name may be named as the data set; `file_name` is relative to its folder, or a whole URI (file:///...,
s3://...); `coco_url` is asked where the folder has no such file. Beside what COCO describes, an image may have `group` and
`split`, and its further fields go into its `meta`. An annotation is ignored where `iscrowd` or `ignore` is 1; `has_mask`
false says, as in our own exports, that its segmentation is only its box. `info` may say where the labels come from
(`segsvc.datasets.Origin`).
"""

from __future__ import annotations

import json
import math
import posixpath
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from segsvc.card import Task
from segsvc.datasets import (
    Dataset,
    DatasetFiles,
    LabelledImage,
    ObjectTruth,
    Problem,
    ProblemKind,
    Severity,
    Split,
    TrueObject,
)
from segsvc.datasets.coco_shapes import BadShape, Shape, read_shape
from segsvc.datasets.files import (
    ANNOTATIONS,
    EXAMPLE_HEIGHT_PX,
    EXAMPLE_WIDTH_PX,
    annotated_folders,
    image_named,
    is_uri,
    json_of,
    printable,
    shown_path,
    split_of,
    write_example_image,
)
from segsvc.datasets.origin import Origin, joined, of_info
from segsvc.errors import ConfigError
from segsvc.types import ImageRef

_SECTIONS = ("images", "annotations", "categories")
_MOST_SIDE_PX = 1 << 20
_NOT_META = frozenset({"id", "file_name", "width", "height", "license", "flickr_url", "coco_url", "group", "split", "meta",
                       "image_uri", "image_version", "image_id", "frame"})


@dataclass(slots=True)
class _Reading:
    """What was read so far: class names by their smallest id, images and their objects by file, and what was wrong."""

    names: dict[int, str] = field(default_factory=dict)
    images: dict[str, LabelledImage] = field(default_factory=dict)  # by URI
    objects: dict[str, list[TrueObject]] = field(default_factory=dict)
    named: set[str] = field(default_factory=set)  # URIs of the images that a file names, rightly or not
    problems: list[Problem] = field(default_factory=list)
    origins: list[Origin] = field(default_factory=list)
    has_looked: bool = False  # at what lies in the folder

    def wrong(self, kind: ProblemKind, message: str, where: str, severity: Severity = Severity.ERROR) -> None:
        self.problems.append(Problem(severity, kind, printable(message), printable(where)))


class CocoLayout:
    """Objects with polygons, run-length encodings or boxes alone."""

    name = "coco"
    task = Task.INSTANCE

    def recognises(self, files: DatasetFiles) -> bool:
        """Whether the place is a .json, or holds annotations.json at its root or in a split's folder."""
        return files.place.lower().endswith(".json") if files.is_table else bool(annotated_folders(files))

    def open(self, files: DatasetFiles) -> Dataset:
        """The set; what cannot be read of its tables is among its problems."""
        reading = _Reading()
        tables = [("", "")] if files.is_table else [(folder, posixpath.join(folder, ANNOTATIONS))
                                                    for folder in annotated_folders(files)]
        for folder, path in tables:
            what = path or shown_path(files.place, files.place)
            try:
                document = _document(files.table(path) or b"", what)
            except ConfigError as error:
                reading.wrong(ProblemKind.UNREADABLE, str(error).removeprefix(f"{what}: "), what)
                continue
            _Table(files, folder, what, reading).read(document)
        if not files.is_table and (reading.has_looked or not reading.images):
            _say_unnamed(files, [folder for folder, _ in tables], reading)
        images = [replace(image, truth=replace(image.truth, objects=tuple(reading.objects[uri])))
                  for uri, image in reading.images.items() if isinstance(image.truth, ObjectTruth)]
        images.sort(key=lambda image: image.ref.uri.encode("utf-8", "surrogateescape"))
        classes = dict.fromkeys(name for _, name in sorted(reading.names.items()))
        return Dataset(place=files.place, layout=self.name, task=self.task, classes=tuple(classes), images=tuple(images),
                       problems=tuple(reading.problems), skipped=files.skipped if reading.has_looked else {},
                       origin=joined(reading.origins))

    def example(self, folder: Path) -> None:
        """Two images each in train/ and val/, with polygons, both encodings, a crowd, a box alone, and nothing."""
        import numpy as np

        from segsvc.imaging.masks import encode

        disc = np.hypot(*(np.mgrid[:EXAMPLE_HEIGHT_PX, :EXAMPLE_WIDTH_PX] - 10)) < 6
        size = [EXAMPLE_HEIGHT_PX, EXAMPLE_WIDTH_PX]
        polygon = {"category_id": 7, "segmentation": [[14, 2, 30, 2, 30, 6.5, 14, 6.5]], "bbox": [14, 2, 16, 4.5]}
        packed = {"category_id": 3, "segmentation": {"size": size, "counts": encode(disc).decode("ascii")}}
        crowd = {"category_id": 3, "segmentation": {"size": size, "counts": [700, 60, 8]}, "iscrowd": 1}
        alone = {"category_id": 7, "bbox": [20.5, 9.0, 6.0, 10.0]}
        for split, of_images in {"train": [[polygon, packed, crowd], [alone]], "val": [[packed, polygon], []]}.items():
            images, annotations = [], []
            for number, shapes in enumerate(of_images):
                name = f"{split} {number}.png"
                write_example_image(folder / split / name, seed=len(split) + number)
                images.append({"id": number, "file_name": name, "width": size[1], "height": size[0],
                               "group": f"{split}-{number}"})
                annotations += [{"id": 10 * number + at, "image_id": number, **shape} for at, shape in enumerate(shapes)]
            document = {"images": images, "annotations": annotations,
                        "categories": [{"id": 3, "name": "disc"}, {"id": 7, "name": "bar"}]}
            (folder / split / ANNOTATIONS).write_text(json.dumps(document), encoding="utf-8")


def _say_unnamed(files: DatasetFiles, folders: list[str], reading: _Reading) -> None:
    """Images that lie in the folders of annotations.json and that none of these names."""
    for path, ref in files.files.items():
        if ref.uri not in reading.named and any(path.startswith(posixpath.join(folder, "")) for folder in folders):
            reading.wrong(ProblemKind.NO_LABELS, f"it is in no {ANNOTATIONS}, and so not used: one without objects belongs "
                          "into `images` too", shown_path(ref.uri, files.place), Severity.WARNING)


def _document(data: bytes, what: str) -> Mapping[str, list[Any]]:
    """The three lists of a COCO file. Raises ConfigError."""
    document = json_of(data, what)
    if not isinstance(document, dict):
        raise ConfigError(f"{what}: expected a COCO file, a JSON object with {', '.join(_SECTIONS)}; got "
                          f"{type(document).__name__}")
    for section in _SECTIONS:
        if not isinstance(document.get(section), list):
            came = type(document[section]).__name__ if section in document else f"only {', '.join(list(document)[:6])}"
            raise ConfigError(f"{what}: expected a COCO file with a list {section!r}, got {came or 'nothing'}")
    return document


class _Table:
    """One COCO file, read into a reading that others may share."""

    def __init__(self, files: DatasetFiles, folder: str, what: str, reading: _Reading) -> None:
        self._files, self._folder, self._what, self._reading = files, folder, what, reading
        self._names: dict[int, str] = {}
        self._uris: dict[int | str, str] = {}
        self._faulty: set[int | str] = set()  # ids of images whose own fault was told
        self._elsewhere: dict[str, ImageRef] = {}  # by the URI that an entry names

    def read(self, document: Mapping[str, list[Any]]) -> None:
        if (origin := of_info(document.get("info"))) is not None:
            self._reading.origins.append(origin)
        for category in document["categories"]:
            self._category(category)
        uris = [uri for image in document["images"] if isinstance(image, dict) for uri in _uris(image)]
        self._elsewhere = {uri: ref for uri, (ref, is_there) in zip(uris, self._files.refer(uris), strict=True) if is_there}
        for image in document["images"]:
            self._image(image)
        boxes_alone = Counter(self._annotation(annotation) for annotation in document["annotations"])[True]
        if boxes_alone:
            self._reading.wrong(ProblemKind.NO_LABELS, f"objects with a box and no mask: {boxes_alone}. They say where "
                                "something is, not which px it covers", self._what, Severity.WARNING)

    def _category(self, category: Any) -> None:
        number, name = (_whole(category.get("id")), category.get("name")) if isinstance(category, dict) else (None, None)
        if number is None or not isinstance(name, str) or not name.strip():
            self._reading.wrong(ProblemKind.UNREADABLE, f"expected a category with a whole number 'id' and a 'name', got "
                                f"{_short(category)}", self._what)
            return
        name = printable(name.strip())
        if self._names.get(number, name) != name:
            self._reading.wrong(ProblemKind.UNKNOWN_CLASS, f"expected one name for category {number}, got "
                                f"{self._names[number]!r} and {name!r}", self._what)
            return
        self._names[number] = name
        if self._reading.names.setdefault(number, name) != name:
            self._reading.wrong(ProblemKind.UNKNOWN_CLASS, f"expected the same numbers of categories in each split, got "
                                f"{number} = {name!r} where another split has {self._reading.names[number]!r}: classes "
                                "are told apart by their names", self._what, Severity.WARNING)

    def _image(self, image: Any) -> None:
        if not isinstance(image, dict) or not isinstance(image.get("file_name"), str) or not _is_key(image.get("id")):
            self._reading.wrong(ProblemKind.UNREADABLE, f"expected an image with 'id' and 'file_name', got {_short(image)}",
                                self._what)
            return
        number, name = image["id"], image["file_name"]
        if number in self._uris or number in self._faulty:
            self._reading.wrong(ProblemKind.DUPLICATE, f"expected one image with the id {number!r}, got another: {name!r}",
                                self._what)
            return
        self._faulty.add(number)
        ref = self._found(image, name)
        if ref is None:
            place = "there" if is_uri(name) else f"beside {self._what}"
            self._reading.wrong(ProblemKind.NO_IMAGE, f"expected the image {place}, there is none", name)
            return
        self._reading.named.add(ref.uri)
        width, height = (_whole(image.get(side)) for side in ("width", "height"))
        if width is None or height is None or not (0 < width <= _MOST_SIDE_PX and 0 < height <= _MOST_SIDE_PX):
            self._reading.wrong(ProblemKind.OTHER_SIZE, "expected the image's width and height in px, got "
                                f"{_short(image.get('width'))} and {_short(image.get('height'))}", name)
            return
        if ref.uri in self._reading.images:
            self._reading.wrong(ProblemKind.DUPLICATE, "expected one entry for each image, got another: put the annotations "
                                "of both on one id", name)
            return
        self._faulty.discard(number)
        self._uris[number] = ref.uri
        group = image.get("group")
        ref = replace(ref, group=printable(str(group)) if group not in (None, "") else None, meta=_meta(image))
        self._reading.images[ref.uri] = LabelledImage(ref, ObjectTruth((), width, height), self._split(image, name))
        self._reading.objects[ref.uri] = []

    def _found(self, image: Mapping[str, Any], name: str) -> ImageRef | None:
        """The image of an entry: by its whole URI, else in the folder, else by its `coco_url`."""
        if not is_uri(name):
            self._reading.has_looked = True
            if (found := image_named(self._files, self._folder, name)) is not None:
                return found
        return next((self._elsewhere[uri] for uri in _uris(image) if uri in self._elsewhere), None)

    def _split(self, image: Mapping[str, Any], name: str) -> Split | None:
        if (of_folder := split_of(self._folder)) is not None or (said := image.get("split")) in (None, ""):
            return of_folder
        if (split := split_of(str(said).strip().lower())) is None:
            self._reading.wrong(ProblemKind.UNKNOWN_SPLIT, f"expected a split of {', '.join(Split)}; got {_short(said)}",
                                name)
        return split

    def _annotation(self, annotation: Any) -> bool:
        """Whether it is an object that counts and has a box alone."""
        wrong = self._reading.wrong
        if not isinstance(annotation, dict) or not _is_key(annotation.get("image_id")):
            wrong(ProblemKind.UNREADABLE, f"expected an annotation with 'image_id', got {_short(annotation)}", self._what)
            return False
        number, category = annotation["image_id"], annotation.get("category_id")
        uri = self._uris.get(number)
        image = self._reading.images[uri].truth if uri is not None else None
        if uri is None or not isinstance(image, ObjectTruth):
            if number not in self._faulty:
                wrong(ProblemKind.NO_IMAGE, f"{_label(annotation)}: expected the id of an image, got {_short(number)}",
                      self._what)
            return False
        if not _is_integer(category) or category not in self._names:
            known = ", ".join(map(str, sorted(self._names)[:20]))
            wrong(ProblemKind.UNKNOWN_CLASS, f"{_label(annotation)}: expected the id of a category ({known}), got "
                  f"{_short(category)}", shown_path(uri, self._files.place))
            return False
        try:
            shape = read_shape(annotation, width_px=image.width_px, height_px=image.height_px)
        except BadShape as error:
            wrong(error.kind, f"{_label(annotation)}: {error}", shown_path(uri, self._files.place))
            return False
        for kind, message in shape.warnings:
            wrong(kind, f"{_label(annotation)}: {message}", shown_path(uri, self._files.place), Severity.WARNING)
        return self._add(uri, self._names[category], shape)

    def _add(self, uri: str, name: str, shape: Shape) -> bool:
        if shape.box is not None:
            self._reading.objects[uri].append(TrueObject(name, shape.box, shape.mask_rle, shape.ignored))
        return shape.box is not None and shape.mask_rle is None and not shape.ignored


def _uris(image: Mapping[str, Any]) -> list[str]:
    """The whole URIs by which an entry names its image."""
    return [uri for key in ("file_name", "coco_url") if isinstance(uri := image.get(key), str) and is_uri(uri)]


def _label(annotation: Mapping[str, Any]) -> str:
    return f"annotation {_short(annotation.get('id', '?'))}"


def _meta(image: Mapping[str, Any]) -> dict[str, str]:
    further = {key: value for key, value in image.items() if key not in _NOT_META}
    if isinstance(image.get("meta"), dict):
        further |= image["meta"]
    return {printable(str(key)): printable(value if isinstance(value, str) else json.dumps(value))
            for key, value in further.items() if isinstance(value, (str, int, float))}


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_key(value: Any) -> bool:
    return _is_integer(value) or isinstance(value, str)


def _whole(value: Any) -> int | None:
    if isinstance(value, float) and math.isfinite(value) and value == int(value):
        return int(value)
    return value if _is_integer(value) else None


def _short(value: Any) -> str:
    return f"{value!r:.80}"


PLUGIN = CocoLayout()
