"""Where the Engine is, as Docker's variables and contexts say it."""

import json
from pathlib import Path

import pytest

from flows.errors import RefusedError
from steps.sandbox.docker.endpoint import LOCAL, Endpoint, find


@pytest.fixture
def config(tmp_path: Path) -> dict[str, str]:
    """An empty directory of Docker's client settings."""
    return {"DOCKER_CONFIG": str(tmp_path)}


def test_without_anything_it_is_this_machines_socket(config: dict[str, str]) -> None:
    assert find(config) == Endpoint(url=LOCAL)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("unix:///run/user/1000/docker.sock", "unix:///run/user/1000/docker.sock"),
        ("tcp://engine.example:2375", "tcp://engine.example:2375"),
        ("http://engine.example:2375", "tcp://engine.example:2375"),
    ],
)
def test_host_is_taken(config: dict[str, str], host: str, url: str) -> None:
    found = find({**config, "DOCKER_HOST": host})
    assert (found.url, found.certificates) == (url, None)


def test_tls_takes_the_files_of_the_directory(config: dict[str, str], tmp_path: Path) -> None:
    for name in ("ca.pem", "cert.pem", "key.pem"):
        (tmp_path / name).touch()
    variables = {**config, "DOCKER_HOST": "tcp://engine:2376", "DOCKER_TLS_VERIFY": "1"}
    tls = find({**variables, "DOCKER_CERT_PATH": str(tmp_path)}).certificates
    assert tls is not None
    assert (tls.authority, tls.client) == (tmp_path / "ca.pem", (tmp_path / "cert.pem", tmp_path / "key.pem"))
    assert tls.verify
    assert find(variables).certificates == tls


def test_certificates_without_verification_do_not_check_the_engine(config: dict[str, str], tmp_path: Path) -> None:
    tls = find({**config, "DOCKER_HOST": "tcp://engine:2376", "DOCKER_CERT_PATH": str(tmp_path)}).certificates
    assert tls is not None
    assert (tls.authority, tls.verify) == (None, False)


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ("ssh://user@engine", "doesn't speak SSH"),
        ("npipe:////./pipe/docker_engine", "not the address"),
        ("engine:2375", "not the address"),
        ("tcp://", "not the address"),
        ("tcp://engine:port", "not the address"),
        ("unix://", "not the address"),
    ],
)
def test_host_that_can_not_be_reached_is_refused_with_a_fix(config: dict[str, str], host: str, message: str) -> None:
    with pytest.raises(RefusedError, match=message) as caught:
        find({**config, "DOCKER_HOST": host})
    assert caught.value.fix


def test_unknown_context_is_refused(config: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"currentContext": "elsewhere"}))
    with pytest.raises(RefusedError, match="context 'elsewhere'"):
        find(config)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"currentContext": "default"}', '{"currentContext": 1}'])
def test_settings_without_a_context_are_this_machine(config: dict[str, str], tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    assert find(config).url == LOCAL


def test_socket_that_is_not_there_is_known_for_nothing(tmp_path: Path) -> None:
    assert Endpoint(url=f"unix://{tmp_path}/none").absent
    assert not Endpoint(url="tcp://192.0.2.1:2375").absent
