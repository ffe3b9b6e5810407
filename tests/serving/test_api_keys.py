"""API keys: where they come from, and that nothing but the digest is kept or shown."""

import hashlib
import hmac
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persyn_ray.errors import ConfigError
from persyn_ray.recipe.serving import ServingConfig
from persyn_ray.serving.middleware.api_keys import Keys, new_key


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def keys_of(environ: dict[str, str] | None = None, **settings: object) -> Keys:
    return Keys.of(ServingConfig.model_validate(settings), environ or {})


def test_a_new_key_is_long_random_and_known_by_its_digest() -> None:
    made = [new_key() for _ in range(100)]
    assert len({key for key, _ in made}) == 100
    for key, known in made:
        assert key.startswith("pk-")
        assert len(key) == 3 + 43
        assert key.isascii()
        assert known == digest(key)
    assert keys_of(keys={"ann": made[0][1]}).owner(made[0][0]) == "ann"


def test_keys_of_settings_environment_and_file_come_together(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"\ufeff# the team's\n\n  cyd:{digest('c')}  \r\ndan:{digest('d')}\n")
    environ = {"OTHER": f" bob:{digest('b')} , eve@home:{digest('e')},", "PERSYN_API_KEYS": "x"}
    keys = keys_of(environ, keys={"ann": digest("a")}, keys_env="OTHER", keys_file=str(file))
    assert [keys.owner(key) for key in "abcde"] == ["ann", "bob", "cyd", "dan", "eve@home"]
    assert keys.owner("f") is None
    assert pickle.loads(pickle.dumps(keys)) == keys


@pytest.mark.parametrize(
    "entry",
    [
        "pk-secret",
        "secret:",
        f":{'0' * 64}",
        f"secret:{'0' * 63}",
        f"secret:{'G' * 64}",
        f"se cret:{'0' * 64}",
        f"sécret:{'0' * 64}",
        f"secret\n:{'0' * 64}",
        f"secret:{'A' * 64}",
    ],
)
def test_an_unreadable_entry_is_named_by_its_place_and_never_repeated(entry: str) -> None:
    good = f"ann:{digest('a')}"
    with pytest.raises(ConfigError) as caught:
        keys_of({"PERSYN_API_KEYS": f"{good},{entry}"})
    assert "PERSYN_API_KEYS (serving.keys_env), entry 2" in str(caught.value)
    assert "NAME:SHA256" in str(caught.value)
    assert "cret" not in str(caught.value)


def test_an_owner_or_a_key_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="'ann' has a key already"):
        keys_of({"PERSYN_API_KEYS": f"ann:{digest('b')}"}, keys={"ann": digest("a")})
    with pytest.raises(ConfigError, match="'bob' has the same key as 'ann'"):
        keys_of({"PERSYN_API_KEYS": f"bob:{digest('a')}"}, keys={"ann": digest("a")})


@pytest.mark.parametrize("nothing", ["", "\n"])
def test_the_digest_of_nothing_is_no_key(nothing: str) -> None:
    with pytest.raises(ConfigError, match="empty key"):
        keys_of(keys={"ann": digest(nothing)})


def test_the_name_of_an_owner_may_not_forge_a_log_line() -> None:
    with pytest.raises(ValueError, match="keys"):
        keys_of(keys={"ann\nrequest": digest("a")})
    with pytest.raises(ConfigError, match="an entry has to be"):
        keys_of({"PERSYN_API_KEYS": "ann\nrequest:" + digest("a")})


def test_without_any_key_the_error_names_all_places() -> None:
    with pytest.raises(ConfigError, match=r"serving\.keys.*PERSYN_API_KEYS.*serving\.keys_file"):
        keys_of()


def test_a_file_that_cannot_be_read_is_named_and_not_shown(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none \(serving\.keys_file\) cannot be read: No such"):
        keys_of(keys_file=str(tmp_path / "none"))
    (tmp_path / "binary").write_bytes(b"secret\xff")
    with pytest.raises(ConfigError, match=r"serving\.keys_file") as caught:
        keys_of(keys_file=str(tmp_path / "binary"))
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_all_digests_are_compared_whichever_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []

    def compare(given: str, known: str) -> bool:
        compared.append(known)
        return given == known

    keys = Keys({name: digest(name) for name in "abcdef"})
    monkeypatch.setattr(hmac, "compare_digest", compare)
    for key, owner in (("a", "a"), ("f", "f"), ("x", None), ("", None)):
        compared.clear()
        assert keys.owner(key) == owner
        assert compared == list(keys.digests.values())


@given(st.text() | st.just("\ud800"))
def test_any_text_may_be_asked_for(key: str) -> None:
    keys = Keys({"ann": digest("right")})
    assert keys.owner(key) == ("ann" if key == "right" else None)


def test_digests_are_not_shown() -> None:
    assert digest("a") not in repr(keys_of(keys={"ann": digest("a")}))
