from pathlib import Path

import pytest

from engine.settings import InvalidSettingsError, Settings
from steps.addresses import Endpoint


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import os  # noqa: PLC0415 - only to start from nothing

    for variable in os.environ:
        if variable.startswith("STEPBOX_"):
            monkeypatch.delenv(variable)
    monkeypatch.chdir(tmp_path)


def test_everything_has_a_default(tmp_path: Path) -> None:
    settings = Settings()
    home = tmp_path / ".stepbox"
    assert settings.home.home == home
    assert (settings.home.files, settings.home.shared) == (home / "files", home / "shared")
    assert settings.database_url == f"sqlite:///{home / 'stepbox.db'}"
    assert (settings.runner.runner, settings.runner.min_isolation, settings.runner.concurrency) == ("auto", None, 10)
    assert settings.network.internal == frozenset()
    assert settings.prefect.prefect_api_url is None


def test_the_environment_decides(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in {
        "HOME": "elsewhere",
        "DATABASE_URL": "postgresql://db/stepbox",
        "RUNNER": "nsjail",
        "MIN_ISOLATION": "jail",
        "CONCURRENCY": "3",
        "INTERNAL": "db.internal:5432, [::1]:80 ,10.0.0.1:8080",
        "PREFECT_API_URL": "http://127.0.0.1:4200/api",
    }.items():
        monkeypatch.setenv(f"STEPBOX_{name}", value)
    settings = Settings()
    assert settings.home.home == tmp_path / "elsewhere"
    assert settings.database_url == "postgresql://db/stepbox"
    assert (settings.runner.runner, settings.runner.min_isolation, settings.runner.concurrency) == ("nsjail", "jail", 3)
    assert settings.network.internal == {Endpoint("db.internal", 5432), Endpoint("::1", 80), Endpoint("10.0.0.1", 8080)}
    assert settings.prefect.prefect_api_url == "http://127.0.0.1:4200/api"


def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "DATABASE_URL", "RUNNER", "INTERNAL", "CONCURRENCY"):
        monkeypatch.setenv(f"STEPBOX_{name}", "")
    assert Settings().runner.runner == "auto"


def test_all_that_is_wrong_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RUNNER": "chroot", "CONCURRENCY": "0", "INTERNAL": "localhost"}.items():
        monkeypatch.setenv(f"STEPBOX_{name}", value)
    with pytest.raises(InvalidSettingsError) as caught:
        Settings()
    for part in ("STEPBOX_RUNNER='chroot'", "STEPBOX_CONCURRENCY='0'", "STEPBOX_INTERNAL='localhost'", "host:port"):
        assert part in str(caught.value)


def test_a_misspelt_guarantee_is_not_silently_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPBOX_MIN_ISOLATON", "container")
    with pytest.raises(InvalidSettingsError, match="did you mean STEPBOX_MIN_ISOLATION"):
        Settings()


def test_variables_of_others_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STEPBOX_TEST_POSTGRES_URL", "STEPBOX_OF_A_SCRIPT"):
        monkeypatch.setenv(name, "x")
    Settings()


def test_how_a_service_works_is_said_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (Settings().serve.concurrent_runs, Settings().serve.shutdown_grace) == (20, 30.0)
    assert (Settings().serve.admin_token, Settings().client.url) == (None, None)
    for name, value in {
        "CONCURRENT_RUNS": "3",
        "SHUTDOWN_GRACE": "1m30s",
        "MAX_BODY": "2MB",
        "LOG_FORMAT": "json",
        "ADMIN_TOKEN": "t" * 32,
        "URL": "https://stepbox.example.com/",
        "TOKEN": "stp_x",
    }.items():
        monkeypatch.setenv(f"STEPBOX_{name}", value)
    serve = Settings().serve
    assert (serve.concurrent_runs, serve.shutdown_grace, serve.max_body) == (3, 90.0, 2_000_000)
    assert "t" * 32 not in repr(serve)
    assert Settings().client.url == "https://stepbox.example.com/"


def test_secrets_are_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPBOX_ADMIN_TOKEN", "hunter2")
    monkeypatch.setenv("STEPBOX_SHUTDOWN_GRACE", "soon")
    monkeypatch.setenv("STEPBOX_URL", "ftp://x")
    with pytest.raises(InvalidSettingsError) as caught:
        Settings()
    assert "STEPBOX_ADMIN_TOKEN: Value error, must be at least 32" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    for name in ("STEPBOX_SHUTDOWN_GRACE='soon'", "STEPBOX_URL='ftp://x'"):
        assert name in str(caught.value)
