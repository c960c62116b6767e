"""What tests/conftest.py does about the errors of a GPU, which come late: shown without one, by a stand-in for its waiting."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

pytest_plugins = "pytester"

HOOKS = f"""
import runpy
hooks = runpy.run_path({str(Path(__file__).with_name("conftest.py"))!r})
globals().update((name, hook) for name, hook in hooks.items() if name.startswith("pytest_"))
"""
TESTS = """
import pytest, torch

@pytest.mark.gpu
def test_right():
    torch.cuda.launched = True

@pytest.mark.gpu
def test_wrong():
    torch.cuda.errors = [RuntimeError("illegal memory access")] * ERRORS

@pytest.mark.gpu
def test_next():
    assert not torch.cuda.errors

def test_without_a_gpu():
    pass
"""


@pytest.fixture
def outcomes(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch):
    """outcomes(errors): of the tests above by name, where waiting for the GPU fails so many times after test_wrong; and the output."""

    def outcomes(errors: int) -> tuple[dict[str, str], str]:
        pytester.makeconftest(HOOKS)
        pytester.makepyfile(TESTS.replace("ERRORS", str(errors)))
        with monkeypatch.context() as patch:
            patch.setattr(torch.cuda, "errors", [], raising=False)
            patch.setattr(torch.cuda, "launched", False, raising=False)
            patch.setattr(torch.cuda, "is_initialized", lambda: torch.cuda.launched)
            patch.setattr(torch.cuda, "synchronize", wait)
            run = pytester.inline_run("-p", "no:cacheprovider", "-o", "markers=gpu")
        reports = [r for r in run.getreports("pytest_runtest_logreport") if r.when == "call" or r.outcome != "passed"]
        return {r.nodeid.split("::")[1]: r.outcome for r in reports}, "\n".join(r.longreprtext or str(r.longrepr) for r in reports)

    return outcomes


def wait() -> None:
    if torch.cuda.errors:
        raise torch.cuda.errors.pop()


def test_the_test_that_did_it_fails_and_the_others_on_a_gpu_are_not_run(outcomes) -> None:
    results, text = outcomes(99)
    assert results == {"test_right": "passed", "test_wrong": "failed", "test_next": "skipped", "test_without_a_gpu": "passed"}
    assert "a kernel that this test launched failed: illegal memory access" in text
    assert "lost its CUDA context in" in text and "::test_wrong" in text


def test_an_error_that_does_not_stay_ends_one_test(outcomes) -> None:
    results, _ = outcomes(1)
    assert results == {"test_right": "passed", "test_wrong": "failed", "test_next": "passed", "test_without_a_gpu": "passed"}
