"""Signatures are those of botocore's own signer, whatever is signed."""

from __future__ import annotations

import calendar
import time

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as TheirCredentials
from hypothesis import given
from hypothesis import strategies as st

from segsvc.stores.s3.signing import Credentials, Signer, canonical_query, quoted_path

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
WORD = st.text("abcdefghij-0123456789", min_size=1, max_size=12)


@given(key=TEXT, query=st.dictionaries(WORD, TEXT, max_size=4), tag=WORD, body=st.binary(max_size=50),
       token=st.none() | WORD, secret=WORD, method=st.sampled_from(["GET", "PUT", "HEAD", "DELETE"]))
def test_a_signature_is_botocores(key: str, query: dict[str, str], tag: str, body: bytes, token: str | None, secret: str,
                                  method: str) -> None:
    path, asked = "/bucket/" + quoted_path(key), canonical_query(list(query.items()))
    headers = {"if-match": f'"{tag}"', "x-amz-request-payer": "requester"}
    theirs = AWSRequest(method, f"https://host:9000{path}" + (f"?{asked}" if asked else ""), headers=headers, data=body)
    S3SigV4Auth(TheirCredentials("AKIA", secret, token).get_frozen_credentials(), "s3", "eu-west-1").add_auth(theirs)
    now_s = calendar.timegm(time.strptime(theirs.headers["X-Amz-Date"], "%Y%m%dT%H%M%SZ"))
    ours = Signer(host="host:9000", region="eu-west-1").signed(
        method, path, asked, headers, body, Credentials("AKIA", secret, token), now_s=now_s)
    assert ours == {name.lower(): value for name, value in theirs.headers.items()}


def test_the_derived_key_follows_the_day_and_the_credentials() -> None:
    kept = Signer(host="host", region="us-east-1")

    def signature(signer: Signer, secret: str, now_s: float) -> str:
        return signer.signed("GET", "/", "", {}, b"", Credentials("AKIA", secret, None), now_s=now_s)["authorization"]

    for secret, now_s in (("a", 0.0), ("a", 86400.0), ("b", 86400.0), ("a", 0.0)):
        assert signature(kept, secret, now_s) == signature(Signer(host="host", region="us-east-1"), secret, now_s)


@pytest.mark.parametrize("show", [str, repr])
def test_credentials_show_no_secret(show: type[str]) -> None:
    assert "hidden" not in show(Credentials("hidden", "hidden", "hidden"))
