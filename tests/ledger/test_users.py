"""Who may come in, and who may not."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from segsvc.errors import ConfigError, UnknownName
from segsvc.ledger import users
from segsvc.ledger.errors import Throttled
from segsvc.ledger.opening import Ledger
from segsvc.ledger.records import Role
from segsvc.ledger.tables import TOKENS, USERS


def test_the_right_password_is_let_in_and_nothing_else(ledger: Ledger) -> None:
    assert not users.any_users(ledger)
    made = users.add(ledger, "Jürgen", Role.REVIEWER, "correct horse")
    assert users.any_users(ledger)
    assert users.authenticate(ledger, "Jürgen", "correct horse") == made.reader  # the same name, composed otherwise
    for name, password in (("Jürgen", "correct horse "), ("jürgen", "correct horse"), ("no\0body", "x"),
                           ("\ud800", "\ud800")):
        assert users.authenticate(ledger, name, password) is None


def test_names_and_passwords_are_checked_when_a_user_is_made(ledger: Ledger) -> None:
    users.add(ledger, "ann", Role.ADMIN, "long enough")
    for name, password, says in (("ann", "long enough", "which is taken"), ("", "long enough", "expected a name"),
                                 ("a\nb", "long enough", "expected a name"), (" ann", "long enough", "expected a name"),
                                 ("local", "long enough", "another name than 'local'"),
                                 ("bob", "short", "8 to 1000 characters, got one of 5")):
        with pytest.raises(ConfigError, match=says):
            users.add(ledger, name, Role.REVIEWER, password)
    assert [user.name for user in users.list_users(ledger)] == ["ann"]


def test_a_session_ends_when_told_and_neither_password_nor_token_is_stored(ledger: Ledger) -> None:
    ann = users.add(ledger, "ann", Role.REVIEWER, "long enough").reader
    token = users.open_session(ledger, ann)
    assert users.reader_of(ledger, token) == ann
    with ledger.read() as conn:
        stored = str([*conn.execute(select(TOKENS)), *conn.execute(select(USERS))])
    assert token not in stored
    assert "long enough" not in stored
    assert "$argon2id$" in stored
    users.close_session(ledger, token)
    assert users.reader_of(ledger, token) is None
    assert users.reader_of(ledger, users.open_session(ledger, ann, hours=-1)) is None
    assert users.reader_of(ledger, "\ud800") is None


def test_who_is_disabled_is_out_at_once_with_every_session_and_token(ledger: Ledger) -> None:
    ann = users.add(ledger, "ann", Role.REVIEWER, "long enough").reader
    tokens = [users.open_session(ledger, ann), users.new_token(ledger, "ann", label="a program")]
    assert users.disable(ledger, "ann").disabled_at is not None
    assert [users.reader_of(ledger, token) for token in tokens] == [None, None]
    assert users.authenticate(ledger, "ann", "long enough") is None
    with pytest.raises(ConfigError, match="who is disabled"):
        users.new_token(ledger, "ann")
    with pytest.raises(UnknownName, match="Known: ann"):
        users.disable(ledger, "anna")


def test_another_password_ends_sessions_and_leaves_tokens(ledger: Ledger) -> None:
    ann = users.add(ledger, "ann", Role.REVIEWER, "long enough").reader
    session, token = users.open_session(ledger, ann), users.new_token(ledger, "ann")
    users.set_password(ledger, "ann", "another one")
    assert (users.reader_of(ledger, session), users.reader_of(ledger, token)) == (None, ann)
    assert users.authenticate(ledger, "ann", "another one") == ann


def test_failed_logins_have_to_wait_by_name(ledger: Ledger) -> None:
    users.add(ledger, "guessed", Role.REVIEWER, "long enough")
    for _ in range(5):
        assert users.authenticate(ledger, "guessed", "wrong one") is None
    with pytest.raises(Throttled, match="too many failed attempts") as waits:
        users.authenticate(ledger, "guessed", "long enough")
    assert waits.value.retry_after_s >= 1
    assert users.authenticate(ledger, "another", "wrong one") is None
