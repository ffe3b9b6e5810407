"""SECURITY.md says what is so: settings, limits and names that it mentions exist."""

import re
import subprocess
from pathlib import Path

from persyn_ray.recipe.serving import ServingConfig
from persyn_ray.runtime.serve_command import INGRESS
from persyn_ray.serving.middleware.body_size import MOST_VALUES

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "SECURITY.md").read_text(encoding="utf-8")


def test_the_settings_of_the_endpoint_that_it_names_exist() -> None:
    named = set(re.findall(r"`serving\.(\w+)`", TEXT))
    assert len(named) >= 4
    assert named <= ServingConfig.model_fields.keys()


def test_its_numbers_are_those_of_the_code() -> None:
    assert MOST_VALUES == 2**16
    assert "2^16" in TEXT
    assert INGRESS["RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S"] == "30"
    assert "timeout http-request 10s" in INGRESS["RAY_SERVE_HAPROXY_RETRY_ON"]
    assert "silent for 30 s" in TEXT
    assert "headers after 10 s" in TEXT


def test_files_with_keys_are_ignored() -> None:
    for name in (".env", "teachers.env", "jobs/mine.env"):
        done = subprocess.run(["git", "check-ignore", "-q", name], cwd=ROOT, check=False)
        assert done.returncode == 0, name
