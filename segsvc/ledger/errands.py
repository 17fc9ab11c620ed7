"""What a command has a ledger do that somebody else may have open: an errand is JSON, and so is the document it gives.

A folder has one process that writes. Where that is a server, it does the errand for the command (`segsvc.cli.errand`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Annotated, Literal

from pydantic import Field

from segsvc.card import Document
from segsvc.datasets import LABEL_SET
from segsvc.documents import printable_path
from segsvc.errors import ConfigError
from segsvc.labels.sampling import SampleRequest, sample
from segsvc.ledger import gold, intake, runs, users
from segsvc.ledger.event_errands import EndListing, HearObjects
from segsvc.ledger.label_records import LabelTask, WhereDiffer
from segsvc.ledger.opening import Ledger
from segsvc.ledger.records import Role, User, Verdict
from segsvc.ledger_documents import (
    GoldDocument,
    PolicyDocument,
    ReviewImportDocument,
    SampleDocument,
    TokenDocument,
    UserDocument,
)
from segsvc.results import RunFolder
from segsvc.stores import store_of
from segsvc.summary import left_document

Say = Callable[[str], None]


class AddUser(Document):
    """Make a user."""

    does: Literal["add-user"] = "add-user"
    name: str
    role: Role
    password: str = Field(repr=False)

    def run(self, ledger: Ledger, say: Say) -> UserDocument:
        return user_document(users.add(ledger, self.name, self.role, self.password))


class DisableUser(Document):
    """Keep a user out from now on."""

    does: Literal["disable-user"] = "disable-user"
    name: str

    def run(self, ledger: Ledger, say: Say) -> UserDocument:
        return user_document(users.disable(ledger, self.name))


class SetPassword(Document):
    """Give a user another password."""

    does: Literal["set-password"] = "set-password"
    name: str
    password: str = Field(repr=False)

    def run(self, ledger: Ledger, say: Say) -> UserDocument:
        return user_document(users.set_password(ledger, self.name, self.password))


class NewToken(Document):
    """Make a token for a program of a user."""

    does: Literal["new-token"] = "new-token"
    name: str
    label: str
    hours: float | None

    def run(self, ledger: Ledger, say: Say) -> TokenDocument:
        return TokenDocument(name=self.name, token=users.new_token(ledger, self.name, label=self.label, hours=self.hours))


class ImportRun(Document):
    """Take a run into the ledger. What is None of the policy stays as it was, or is as the settings say."""

    does: Literal["import-run"] = "import-run"
    out: str
    readers: int | None
    blind: bool | None
    audit_share: float | None
    gold_share: float | None
    seed: int | None
    lease_s: int | None

    def run(self, ledger: Ledger, say: Say) -> ReviewImportDocument:
        said = {name: value for name, value in self if name not in ("does", "out") and value is not None}
        policy = None
        if said:
            run_id = _run_id(self.out)
            before = next((run.policy for run in runs.all_runs(ledger) if run.run_id == run_id), None)
            policy = replace(before or runs.chosen_policy(), **said)
        run = intake.import_run(ledger, self.out, policy, say)
        return ReviewImportDocument(
            run_id=run.run_id, out=run.out, ledger=printable_path(ledger.shown), review=run.review, audit=run.audit,
            accepted=run.accepted, rejected=run.rejected, policy=PolicyDocument(**asdict(run.policy)))


class PutGold(Document):
    """Note known answers of a run's candidates, by their ids."""

    does: Literal["put-gold"] = "put-gold"
    out: str
    answers: dict[str, Verdict]
    by: str

    def run(self, ledger: Ledger, say: Say) -> GoldDocument:
        run_id = _run_id(self.out)
        count = gold.put(ledger, run_id, self.answers, self.by)
        return GoldDocument(run_id=run_id, ledger=printable_path(ledger.shown), answers=count)


class DrawSample(Document):
    """Draw images for people to label, into a new label set or into one that there is."""

    does: Literal["draw-sample"] = "draw-sample"
    source: str
    n: int
    name: str
    seed: int
    grouped_by: str | None
    class_names: list[str]
    task: LabelTask | None
    model: str | None
    readers: int
    where_differ: WhereDiffer
    more: bool

    def run(self, ledger: Ledger, say: Say) -> SampleDocument:
        asked = SampleRequest(
            self.source, self.n, self.name, seed=self.seed, grouped_by=self.grouped_by, class_names=tuple(self.class_names),
            task=self.task, model=self.model, readers=self.readers, where_differ=self.where_differ, more=self.more)
        done = sample(ledger, asked, say)
        record, frame = done.record, done.record.frame
        return SampleDocument(
            name=record.name, dataset=f"{LABEL_SET}{record.name}", ledger=printable_path(ledger.shown),
            task=record.task.value,
            classes=list(record.class_names), input=record.input, grouped_by=record.grouped_by, seed=record.seed,
            frame=printable_path(frame.place), frame_sha256=frame.sha256, frame_images=frame.images,
            frame_units=frame.units, framed_at=frame.listed_at, drawn_units=record.drawn_units, drawn=record.drawn,
            new_images=done.new_images, labelled=record.labelled, left=record.left, unreadable=record.unreadable,
            skipped=done.skipped)


AnyErrand = Annotated[AddUser | DisableUser | SetPassword | NewToken | ImportRun | PutGold | DrawSample | HearObjects
                      | EndListing, Field(discriminator="does")]


def user_document(user: User) -> UserDocument:
    """The user, without what is secret of it."""
    return UserDocument(name=user.name, role=user.role.value, created_at=user.created_at, disabled_at=user.disabled_at)


def _run_id(out: str) -> str:
    document = left_document(RunFolder(store_of(out).folder(out)))
    if document is None:
        raise ConfigError(f"OUT: expected a run's folder, got {out!r} without a run.json of this version")
    return document.id
