"""What a bucket's answers mean: what is wrong with the store as a whole, and what to do about it.

No message holds what the server wrote, which may repeat what it was sent: only its error's code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from xml.etree import ElementTree

from segsvc.errors import StoreError

ACCESS_DENIED = frozenset({"AccessDenied", "AllAccessDisabled", "Forbidden", "AccountProblem", "UnauthorizedAccess",
                           "KMS.AccessDeniedException"})
EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"})
BUSY = frozenset({"SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequests",
                  "TooManyRequestsException", "RequestThrottled", "BandwidthLimitExceeded", "ServiceUnavailable"})
AGAIN = BUSY | {"InternalError", "RequestTimeout", "RequestTimeoutException", "PriorRequestNotComplete", "OperationAborted",
                "ConditionalRequestConflict"}
AGAIN_STATUS = frozenset({408, 429, 500, 502, 503, 504})

_KEYS = "expected an access key that the store knows, got another ({code}). Look at AWS_ACCESS_KEY_ID or AWS_PROFILE."
_FATAL: Mapping[str, str] = {
    "InvalidAccessKeyId": _KEYS,
    "NotSignedUp": _KEYS,
    "InvalidClientTokenId": _KEYS,
    "SignatureDoesNotMatch": "expected a request signed with the key's secret, got another ({code}). Look at "
                             "AWS_SECRET_ACCESS_KEY or AWS_PROFILE.",
    "AuthorizationHeaderMalformed": "expected requests signed for the bucket's region, got {region} ({code}). Set "
                                    "AWS_REGION or the setting s3.region.",
    "PermanentRedirect": "expected the endpoint of the bucket's region, got {endpoint} for {region} ({code}). Set "
                         "AWS_REGION or the setting s3.region.",
    "RequestTimeTooSkewed": "expected this machine's clock to be right, got one minutes off ({code}). Set the clock.",
    "NoSuchBucket": "expected a bucket, there is none of that name at {endpoint}. Look at its name and at the endpoint.",
    "InvalidBucketName": "expected a bucket's name, got one that the store refuses ({code}).",
    "InvalidToken": "expected a session token that the store knows, got another ({code}). Look at AWS_SESSION_TOKEN.",
    "InvalidSecurity": _KEYS,
}
_EXPIRED = "expected credentials that are valid, got expired ones ({code}). Renew them, then give the same command again."


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer, read whole. `code` is S3's name of the error, "" where there is none or no body said so;
    `attempts` says how often it was asked for; `headers` has lower-case names.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    code: str = ""
    attempts: int = 1

    @property
    def etag(self) -> str:
        """The ETag without its quotes; "" where there is none."""
        return self.headers.get("etag", "").strip('"')

    @property
    def names(self) -> str:
        """The error for a message: its code, else the HTTP status."""
        return f"{self.code}, HTTP {self.status}" if self.code else f"HTTP {self.status}"


class AttemptsExhaustedError(Exception):
    """No good answer came, however often it was asked for. `reached`: the store did answer, or took the connection."""

    def __init__(self, reason: str, *, attempts: int, reached: bool) -> None:
        super().__init__(f"{reason}, {attempts} times" if attempts > 1 else reason)
        self.reached = reached


def parsed_error(body: bytes) -> dict[str, str]:
    """The fields of an S3 error's XML (Code, Region, ...); empty where the body is none."""
    try:
        root = ElementTree.fromstring(body)
    except ElementTree.ParseError:
        return {}
    if root.tag.rpartition("}")[2] != "Error":
        return {}
    return {child.tag.rpartition("}")[2]: child.text or "" for child in root}


def fatal(answer: Answer, *, uri: str, endpoint: str, region: str) -> StoreError | None:
    """The error of a store that cannot be used at all; None where the answer does not say so."""
    words = _EXPIRED if answer.code in EXPIRED else _FATAL.get(answer.code)
    if words is None:
        return None
    return StoreError(f"{uri}: " + words.format(code=answer.code, endpoint=endpoint, region=region))


def refused(answer: Answer, *, uri: str, endpoint: str, right: str) -> StoreError:
    """What an answer means that should have been a good one. right: the right that was needed, such as s3:ListBucket."""
    uri = "".join(char if char.isprintable() else repr(char)[1:-1] for char in uri)
    if answer.status in (401, 403) or answer.code in ACCESS_DENIED:
        return StoreError(f"{uri}: expected the right {right}, access is denied ({answer.names}). Give it to these "
                          "credentials, or use others.")
    if answer.code:
        return StoreError(f"{uri}: expected an answer to {right}, got the error {answer.names} from {endpoint}.")
    return StoreError(f"{uri}: expected an S3 store at {endpoint}, got {answer.names} without an S3 error. Look at "
                      "AWS_ENDPOINT_URL or the setting s3.endpoint_url.")


def unreachable(error: AttemptsExhaustedError, *, uri: str, endpoint: str) -> StoreError:
    """The error of a store that gave no good answer."""
    if error.reached:
        return StoreError(f"{uri}: expected an answer from {endpoint}, got: {error}. Try again later.")
    return StoreError(f"{uri}: expected a store at {endpoint}, got: {error}. Look at AWS_ENDPOINT_URL or the setting "
                      "s3.endpoint_url, and at the network.")
