"""Pushes a folder to the Hub with the Hub's own client; resumable.

The client skips files that the repository holds already and data that its storage has: after an end
of any kind the same command sends what is missing. The card is checked by the Hub first. Nothing is
sent to a repository that is public where a private one was asked for.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from persyn_ray.errors import ConfigError, PersynError, StepError
from persyn_ray.hub.contents import OLD_FILES, Pushed

TOKEN = "set HF_TOKEN, or log in with `hf auth login`"


def push(pushed: Pushed, folder: Path, is_private: bool) -> str:
    """Make the repository if it is not there, and send the files of a folder; returns its address.

    Raises:
        ConfigError: there is no token, or it may not write there; or the repository is public.
        StepError: the Hub cannot be reached, or stopped the upload.
    """
    from huggingface_hub import HfApi, get_token

    if get_token() is None:
        raise ConfigError(f"No token for the Hub: {TOKEN}. It needs the right to write.")
    api = HfApi()
    with _told(pushed, api.endpoint):
        api.whoami()
        made = api.create_repo(
            pushed.address,
            repo_type=pushed.repo_type,
            private=True if is_private else None,
            exist_ok=True,
        )
        if is_private:
            _require_private(api, pushed)
        api.upload_folder(
            repo_id=pushed.address,
            repo_type=pushed.repo_type,
            folder_path=folder,
            commit_message=f"{pushed.what.capitalize()} by persyn push",
            delete_patterns=OLD_FILES[pushed.what],
        )
    return str(made)


def _require_private(api: Any, pushed: Pushed) -> None:
    info = api.repo_info(pushed.address, repo_type=pushed.repo_type)
    if not info.private:
        raise ConfigError(
            f"{pushed.address} is there and public; --private changes no repository that is "
            "there. Nothing was sent: make it private on its page, or give another name."
        )


@contextmanager
def _told(pushed: Pushed, endpoint: str) -> Iterator[None]:
    """What the Hub and the network say, as one message that says what helps."""
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        yield
    except PersynError:
        raise
    except HfHubHTTPError as error:
        raise _refused(pushed, error) from error
    except OfflineModeIsEnabled as error:
        raise ConfigError("HF_HUB_OFFLINE is set: unset it to push.") from error
    except Exception as error:  # the network's, the disk's, the client's own
        if isinstance(error.__cause__, HfHubHTTPError):
            raise _refused(pushed, error.__cause__) from error
        why = f" ({error.__cause__})" if error.__cause__ is not None else ""
        raise StepError(
            f"The upload to {pushed.address} at {endpoint} stopped: {error}{why} The same command "
            "goes on."
        ) from error


def _refused(pushed: Pushed, error: Any) -> Exception:
    status = error.response.status_code if error.response is not None else 0
    said = (error.server_message or str(error).splitlines()[0]).strip().rstrip(".")
    if status == 401:
        return ConfigError(f"The Hub does not know the token (401, {said}): {TOKEN}.")
    if status in (403, 404):
        return ConfigError(
            f"The token may not write to {pushed.address} ({status}, {said}): take one with the "
            "right to write there, or another ORG/NAME."
        )
    if 400 <= status < 500 and status not in (408, 429):
        return ConfigError(f"The Hub refuses {pushed.address} ({status}): {said}.")
    return StepError(f"The Hub failed ({status}, {said}): the same command goes on.")
