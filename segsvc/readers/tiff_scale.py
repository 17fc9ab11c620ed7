"""How large a pixel of a TIFF is: only where the file says that it comes from a microscope."""

from __future__ import annotations

import math
import re

from segsvc.readers.tiff_directory import Directory
from segsvc.readers.tiff_page import Tag

_NUMBER = r"([0-9][0-9.eE+-]*)"
_OME_PIXELS = re.compile(r"<(?:\w+:)?Pixels\b([^>]*)>")
_OME_SIZE = re.compile(rf'\bPhysicalSizeX\s*=\s*"{_NUMBER}"')
_OME_UNIT = re.compile(r'\bPhysicalSizeXUnit\s*=\s*"([^"]*)"')
_APERIO_SIZE = re.compile(rf"\bMPP\s*=\s*{_NUMBER}")
_IMAGEJ_UNIT = re.compile(r"^unit=(.*)$", re.MULTILINE)
_IMAGEJ_IMAGES = re.compile(r"^images=([0-9]{1,9})\s*$", re.MULTILINE)
UNITS_UM = {"nm": 1e-3, "um": 1.0, "\u00b5m": 1.0, "\u03bcm": 1.0, "\\u00b5m": 1.0, "micron": 1.0, "microns": 1.0,
            "micrometer": 1.0, "mm": 1e3, "cm": 1e4, "m": 1e6}


def is_aperio(description: str) -> bool:
    """Whether a page's description is that of an Aperio slide (SVS)."""
    return description.startswith("Aperio")


def pixel_size_um(directory: Directory, description: str) -> float | None:
    """The width of a px in micrometres by OME-XML, Aperio's or ImageJ's description; None where there is none.

    The resolution tags alone do not count: scanners and cameras write a resolution for print there.
    """
    if "<OME" in description or ":OME" in description:
        return _ome(description)
    if is_aperio(description):
        found = _APERIO_SIZE.search(description)
        return _positive(found[1], 1.0) if found else None
    if description.startswith("ImageJ="):
        found = _IMAGEJ_UNIT.search(description)
        resolution = directory.rational(Tag.X_RESOLUTION)
        scale = UNITS_UM.get(found[1].strip()) if found else None
        return _positive(str(1 / resolution), scale) if scale and resolution else None
    return None


def imagej_images(description: str) -> int:
    """How many pictures ImageJ says there are in the stack, 1 where it says nothing."""
    found = _IMAGEJ_IMAGES.search(description) if description.startswith("ImageJ=") else None
    return int(found[1]) if found else 1


def _ome(description: str) -> float | None:
    pixels = _OME_PIXELS.search(description)
    size = _OME_SIZE.search(pixels[1]) if pixels else None
    if pixels is None or size is None:
        return None
    unit = _OME_UNIT.search(pixels[1])
    scale = UNITS_UM.get(unit[1]) if unit else 1.0
    return _positive(size[1], scale) if scale else None


def _positive(number: str, scale_um: float | None) -> float | None:
    """`number` times the unit if that is a size that a pixel can have."""
    try:
        size_um = float(number) * (scale_um or math.nan)
    except ValueError:
        return None
    return size_um if math.isfinite(size_um) and size_um > 0 else None
