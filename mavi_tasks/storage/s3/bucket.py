"""One bucket prefix, as little of S3 as datasets need: list, get, put, put only if new, put over what I saw.

Endpoint, region and credentials come from where every AWS tool takes them: AWS_ENDPOINT_URL, AWS_REGION,
AWS_ACCESS_KEY_ID, AWS_PROFILE, ~/.aws, instance roles. A PUT is one request with its length and checksum, so
an object is there whole or not at all; no multipart upload is ever left behind.
"""

import contextlib
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final, TypeVar

from mavi_tasks.errors import InputError, StorageError

CONNECTIONS: Final = 16
CONFLICT_TRIES: Final = 8
_MISSING: Final = frozenset({"NoSuchKey", "404", "NotFound"})
_CONFLICT: Final = frozenset({"ConditionalRequestConflict", "409", "OperationAborted"})
_EXISTS: Final = frozenset({"PreconditionFailed", "412"})

# What the store's codes mean to whoever has to act; {code} and {place} are filled in.
_MESSAGES: Final = {
    "NoSuchBucket": "there is no such bucket",
    "InvalidBucketName": "no bucket can have this name",
    "AccessDenied": "these credentials have no right to it (needed: list, get, put and delete)",
    "403": "these credentials have no right to it (needed: list, get, put and delete)",
    "InvalidAccessKeyId": "the store does not know this access key: look at AWS_ACCESS_KEY_ID or AWS_PROFILE",
    "SignatureDoesNotMatch": "the secret key does not fit the access key: look at AWS_SECRET_ACCESS_KEY",
    "ExpiredToken": "the credentials have expired: get new ones and run again",
    "InvalidToken": "the session token is not valid: look at AWS_SESSION_TOKEN",
    "AuthorizationHeaderMalformed": "the bucket is in another region: set AWS_REGION",
    "PermanentRedirect": "the bucket is in another region: set AWS_REGION",
}
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Found:
    """One object of a listing. `modified` is the store's own clock."""

    key: str
    size: int
    etag: str
    modified: datetime


class Bucket:
    """The objects under `s3://bucket/prefix`; keys are relative to it. Thread-safe.

    Every method raises StorageError with a message for the user when the store refuses or fails.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.name, _, prefix = self.url.removeprefix("s3://").partition("/")
        self._prefix = f"{prefix}/" if prefix else ""

    @cached_property
    def _client(self) -> Any:
        import botocore.session
        from botocore.config import Config

        retries = {"mode": "standard", "total_max_attempts": 4}
        config = Config(retries=retries, max_pool_connections=CONNECTIONS, connect_timeout=5, read_timeout=30)
        with self._translated_errors():
            return botocore.session.get_session().create_client("s3", config=config)

    # -- reading

    def list(self, prefix: str) -> Iterator[Found]:
        """Every object whose key begins with `prefix`, by key; a thousand a request."""
        more: dict[str, str] = {}
        while True:
            with self._translated_errors():
                page = self._client.list_objects_v2(Bucket=self.name, Prefix=self._prefix + prefix, **more)
            for one in page.get("Contents", ()):
                key = one["Key"][len(self._prefix) :]
                yield Found(key, one["Size"], one["ETag"], one["LastModified"])
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def is_empty(self) -> bool:
        """Whether nothing lies under the prefix; one request."""
        with self._translated_errors():
            page = self._client.list_objects_v2(Bucket=self.name, Prefix=self._prefix, MaxKeys=1)
        return not page.get("Contents")

    def get(self, key: str) -> tuple[bytes, str] | None:
        """An object and its ETag; None when there is none."""
        with self._translated_errors():
            reply = _unless(
                _MISSING, lambda: self._client.get_object(Bucket=self.name, Key=self._prefix + key)
            )
            return (reply["Body"].read(), reply["ETag"]) if reply is not None else None

    def presigned(self, key: str, seconds: int = 3600) -> str:
        """A link by which whoever has it can read an object for a while."""
        with self._translated_errors():
            link: str = self._client.generate_presigned_url(
                "get_object", {"Bucket": self.name, "Key": self._prefix + key}, ExpiresIn=seconds
            )
            return link

    # -- writing

    def put(self, key: str, body: bytes | Path) -> str:
        """Write an object over whatever is there; returns its ETag."""
        with self._translated_errors():
            return self._put(key, body)

    def put_new(self, key: str, body: bytes | Path) -> str | None:
        """Write an object if there is none of this name; its ETag, or None when there is one."""
        with self._translated_errors():
            return _unless(_EXISTS, lambda: self._conditional(key, body, IfNoneMatch="*"))

    def put_over(self, key: str, body: bytes, etag: str) -> str | None:
        """Write over the very object that has this ETag; its new one, or None when it changed or went."""
        with self._translated_errors():
            return _unless(_EXISTS | _MISSING, lambda: self._conditional(key, body, IfMatch=etag))

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is removed."""
        with self._translated_errors():
            self._client.delete_object(Bucket=self.name, Key=self._prefix + key)

    def _put(self, key: str, body: bytes | Path, **condition: str) -> str:
        with body.open("rb") if isinstance(body, Path) else contextlib.nullcontext(body) as opened:
            reply = self._client.put_object(
                Bucket=self.name, Key=self._prefix + key, Body=opened, **condition
            )
        return str(reply["ETag"])

    def _conditional(self, key: str, body: bytes | Path, **condition: str) -> str:
        """A conditional PUT; S3 answers 409 when another one is being decided: then it is sent again."""
        for wait_s in (0.05 * 2**n for n in range(CONFLICT_TRIES)):
            made = _unless(_CONFLICT, lambda: self._put(key, body, **condition))
            if made is not None:
                return made
            time.sleep(wait_s * random.uniform(0.5, 1.0))  # noqa: S311
        return self._put(key, body, **condition)

    # -- errors

    @contextlib.contextmanager
    def _translated_errors(self) -> Iterator[None]:
        """Turn whatever the store or the network raises into a StorageError in plain text."""
        try:
            from botocore import exceptions as boto
            from urllib3.exceptions import HTTPError
        except ImportError as error:
            raise InputError(f"{self.url}: s3:// needs more: pip install 'mavi-tasks[s3]'") from error
        try:
            yield
        except boto.ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            message = (
                _MESSAGES.get(code) or f"the store answered {code}: {error.response['Error'].get('Message')}"
            )
            raise (WrongPlaceError if code in _MESSAGES else StorageError)(
                f"s3://{self.name}: {message}"
            ) from error
        except boto.NoCredentialsError as error:
            hint = (
                "no credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
            )
            raise WrongPlaceError(f"{self.url}: {hint}") from error
        except (boto.ConnectionError, boto.HTTPClientError, HTTPError, OSError) as error:
            where = self._client.meta.endpoint_url
            why = f"{type(error).__name__}; endpoint {where}"
            raise StorageError(f"{self.url}: the store cannot be reached ({why})") from error
        except boto.BotoCoreError as error:
            raise WrongPlaceError(f"{self.url}: {error}") from error


class WrongPlaceError(StorageError):
    """The bucket, its name or the credentials are wrong: trying again will not help."""


def _unless(codes: frozenset[str], request: Callable[[], _Result]) -> _Result | None:
    """What the store answers, or None when its error is one of these."""
    from botocore.exceptions import ClientError

    try:
        return request()
    except ClientError as error:
        if str(error.response.get("Error", {}).get("Code", "")) in codes:
            return None
        raise
