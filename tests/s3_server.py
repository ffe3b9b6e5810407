"""A local S3 server on this machine's loopback, and an empty bucket in it."""

from collections.abc import Iterator
from typing import Any

import pytest

BUCKET = "bucket"


@pytest.fixture(scope="module")
def server() -> Iterator[None]:
    """An S3 server on this machine's loopback, found through the usual variables."""
    from moto.server import ThreadedMotoServer
    from s3fs import S3FileSystem

    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        S3FileSystem.clear_instance_cache()
        yield
    S3FileSystem.clear_instance_cache()
    moto.stop()


@pytest.fixture
def s3(server: None) -> Iterator[Any]:
    """Another client than ours, and an empty bucket."""
    import boto3

    client = boto3.client("s3")
    client.create_bucket(Bucket=BUCKET)
    yield client
    resource: Any = boto3.resource("s3")
    bucket = resource.Bucket(BUCKET)
    bucket.object_versions.delete()
    bucket.delete()
