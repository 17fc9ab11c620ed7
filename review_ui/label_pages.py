"""The pages on which people label whole images: the list of label sets, and one of them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Response

from review_ui.pages import render
from review_ui.service import Parts, Who
from segsvc.ledger import label_sets

router = APIRouter(include_in_schema=False)


@router.get("/label")
def show_sets(service: Parts, reader: Who) -> Response:
    """All label sets and how far they are."""
    return render("label_sets.html", reader=reader, loopback=service.needs_no_users(),
                  sets=label_sets.all_sets(service.ledger))


@router.get("/label/{name}")
def show_label(service: Parts, reader: Who, name: Annotated[str, Path(max_length=200)]) -> Response:
    """The labelling of one set; with `image`, which the page's script reads, that one is shown first."""
    return render("label.html", reader=reader, loopback=service.needs_no_users(), set=label_sets.find(service.ledger, name))
