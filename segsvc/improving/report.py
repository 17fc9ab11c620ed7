"""comparison.html in a new version's folder: what it is compared with, on what, and what came of it."""

from __future__ import annotations

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from segsvc.evaluation.report import page_style
from segsvc.improvement_documents import Improvement

REPORT = "comparison.html"
UNPROMISED_AT = 0.5  # candidates count from here on where these labels cannot show what is to be promised
FIGURES = {
    "object_dice": ("Objects found and candidates right", "objects that are found and candidates that are right, out of all "
                    "objects and candidates of an image"),
    "accuracy": ("Accuracy", "images whose class has the highest score")}


def render(improvement: Improvement) -> str:
    """The page as HTML: one file that needs no network and no script. The same improvement gives the same bytes."""
    style, digest = page_style()
    title, meaning = FIGURES[improvement.figure]
    classes = [(name, at, improvement.new_flag_at[name]) for name, at in improvement.old_flag_at.items()]
    return _environment().get_template("comparison.html").render(
        it=improvement, style=style, style_digest=digest, sentence=sentence(improvement), title=title, meaning=meaning,
        classes=classes, at_flags={*_flags(improvement)} != {UNPROMISED_AT})


def _flags(improvement: Improvement) -> tuple[float, ...]:
    """All scores from which candidates counted."""
    return (*improvement.old_flag_at.values(), *improvement.new_flag_at.values())


def sentence(improvement: Improvement) -> str:
    """What came of the comparison, in words."""
    it = improvement
    bound = (f"by {it.lower:.3f} at the least" if it.lower > 0 else "no worse at the least" if it.lower == 0 else
             f"worse by {-it.lower:.3f} at the most")
    where = "It is in force now" if it.in_force else f"It is kept as a candidate: {it.reason}"
    sure = f"{100 * it.confidence:g} %"
    return (f"On {it.units:,} {it.unit}s that neither has learnt from, the new one's mean is {it.new_mean:.3f}, the old "
            f"one's {it.old_mean:.3f}. With {sure} confidence over the draw of these {it.unit}s the new one is "
            f"{'better ' if it.lower > 0 else ''}{bound}. {where}.")


@cache
def _environment() -> Environment:
    environment = Environment(loader=PackageLoader("segsvc", "report_templates"), autoescape=True, undefined=StrictUndefined,
                              trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(share=lambda value: f"{value:.3f}", score=lambda value: f"{value:.4g}",
                               signed=lambda value: f"{value:+.3f}", number=lambda n: f"{n:,}")
    return environment
