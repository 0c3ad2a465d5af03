"""An S3-compatible server (moto) in a process of its own, on loopback."""

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import botocore.session
from botocore.config import Config

KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
# Ignore the settings of the machine: no profile, no instance role.
ALONE = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": os.devnull,
         "AWS_SHARED_CREDENTIALS_FILE": os.devnull}  # fmt: skip


@dataclass(frozen=True)
class S3:
    """A running server; `env` is what a process needs to use it."""

    url: str
    pid: int

    @property
    def env(self) -> dict[str, str]:
        return {"AWS_ENDPOINT_URL": self.url, **KEYS, **ALONE}

    def client(self):
        """A plain botocore client, independent of the code under test."""
        return botocore.session.get_session().create_client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id="test",
            aws_secret_access_key="test",
            region_name="us-east-1",
            config=Config(retries={"total_max_attempts": 1}),
        )

    def bucket(self, name: str) -> str:
        """Create a bucket; its URL."""
        client = self.client()
        client.create_bucket(Bucket=name)
        client.close()
        return f"s3://{name}"

    def keys(self, url: str, suffix: str = "") -> list[str]:
        """Every key under a URL."""
        bucket, _, prefix = url.removeprefix("s3://").partition("/")
        client = self.client()
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        keys = [one["Key"] for page in pages for one in page.get("Contents", ())]
        client.close()
        return [key for key in keys if key.endswith(suffix)]


@contextlib.contextmanager
def s3_server(port: str = "0", **env: str) -> Iterator[S3]:
    """Serve until the block ends; objects are in memory only."""
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", port]
    env = {**os.environ, **KEYS, **env}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env) as process:
        try:
            url = next(line.split()[-1] for line in process.stderr if "Running on" in line)
            threading.Thread(target=process.stderr.read, daemon=True).start()
            yield S3(url, process.pid)
        finally:
            process.kill()
