"""A queue of SQS: messages are taken by long polling, and deleted once the ledger holds what they tell.

boto3 is at home here. The endpoint is that of the queue's own URL, which whoever runs this has configured.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from segsvc.errors import ConfigError, StoreError
from segsvc.settings import settings
from segsvc.stores.s3.endpoint import DEFAULT_REGION

MOST_AT_ONCE = 10  # SQS gives no more
LONGEST_WAIT_S = 20
_VISIBILITY_S = 60  # taking them in is one transaction, which takes no such time
_REGION = re.compile(r"(?:^|[.-])([a-z]{2}(?:-[a-z]+)+-\d)\.")
_NO_SUCH_QUEUE = ("NonExistentQueue", "QueueDoesNotExist", "InvalidAddress")
_NOT_OURS = ("AccessDenied", "InvalidClientTokenId", "SignatureDoesNotMatch", "UnrecognizedClient", "ExpiredToken",
             "InvalidAccessKeyId", "InvalidSecurity")


class QueueAway(StoreError):  # noqa: N818 - it reads as what it says
    """The queue cannot be reached just now, or fails; it may be there a moment later."""


@dataclass(frozen=True, slots=True)
class Received:
    """A message: its body, and what it is deleted by."""

    body: str
    receipt: str


class Queue:
    """One queue. Its methods raise ConfigError where there is no such queue or it is not ours, QueueAway where it fails."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or len(parts.path) < 2:
            raise ConfigError("--queue: expected the URL of an SQS queue, such as https://sqs.eu-central-1.amazonaws.com/"
                              f"123456789012/images, got {re.sub('[^/]*@', '...@', url)!r:.200}")
        self.url = url
        self._client: Any = None
        self._origin = f"{parts.scheme}://{parts.netloc}"
        named = _REGION.search(parts.hostname)
        self._region = named.group(1) if named is not None else settings().s3.region or DEFAULT_REGION

    def receive(self, wait_s: float, *, visible_s: int = _VISIBILITY_S) -> list[Received]:
        """Up to ten messages, as soon as there is one; none after `wait_s` seconds without."""
        answer = self._asked(lambda client: client.receive_message(
            QueueUrl=self.url, MaxNumberOfMessages=MOST_AT_ONCE, WaitTimeSeconds=min(LONGEST_WAIT_S, round(wait_s)),
            VisibilityTimeout=visible_s))
        return [Received(each.get("Body", ""), each["ReceiptHandle"]) for each in answer.get("Messages", [])]

    def delete(self, messages: Sequence[Received]) -> int:
        """Takes them off the queue; how many stayed, which come again."""
        if not messages:
            return 0
        answer = self._asked(lambda client: client.delete_message_batch(QueueUrl=self.url, Entries=[
            {"Id": str(place), "ReceiptHandle": each.receipt} for place, each in enumerate(messages)]))
        return len(answer.get("Failed", []))

    def give_back(self, messages: Sequence[Received]) -> None:
        """Lets others have them at once."""
        if messages:
            self._asked(lambda client: client.change_message_visibility_batch(QueueUrl=self.url, Entries=[
                {"Id": str(place), "ReceiptHandle": each.receipt, "VisibilityTimeout": 0}
                for place, each in enumerate(messages)]))

    def _asked(self, ask: Callable[[Any], Any]) -> Any:
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

        try:
            return ask(self._connected())
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            if any(name in code for name in _NO_SUCH_QUEUE):
                raise ConfigError(f"queue: expected one at {self.url}, there is none ({code})") from error
            if any(name in code for name in _NOT_OURS):
                raise ConfigError(f"queue {self.url}: expected the rights sqs:ReceiveMessage, sqs:DeleteMessage and "
                                  f"sqs:ChangeMessageVisibility, got {code}") from error
            raise QueueAway(f"queue {self.url}: expected messages, got {code}") from error
        except NoCredentialsError as error:
            raise ConfigError(f"queue {self.url}: expected AWS credentials, found none. Set AWS_ACCESS_KEY_ID and "
                              "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE.") from error
        except BotoCoreError as error:
            raise QueueAway(f"queue {self.url}: expected an answer, got {type(error).__name__}") from error

    def _connected(self) -> Any:
        if self._client is None:
            import boto3
            from botocore.config import Config

            self._client = boto3.session.Session().client(
                "sqs", endpoint_url=self._origin, region_name=self._region, config=Config(
                    connect_timeout=5, read_timeout=LONGEST_WAIT_S + 10, retries={"total_max_attempts": 1}))
        return self._client
