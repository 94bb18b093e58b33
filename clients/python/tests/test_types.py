"""The types of tasks: strict type checkers accept what is right, and refuse each line that is wrong."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "types"
SOURCE = Path(__file__).parent.parent / "src"


def wrong_lines() -> set[int]:
    lines = (FOLDER / "wrong.py").read_text().splitlines()
    return {number for number, line in enumerate(lines, 1) if line.endswith("# wrong")}


def mypy(file: str, cache: Path) -> tuple[set[int], str]:
    if importlib.util.find_spec("mypy") is None:
        pytest.skip("mypy is not installed")
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(cache), "--config-file", ""]
    command.append(str(FOLDER / file))
    result = subprocess.run(command, capture_output=True, text=True, env={"MYPYPATH": str(SOURCE)})
    return {int(line) for line in re.findall(rf"{file}:(\d+): error", result.stdout)}, result.stdout + result.stderr


def pyright(file: str, folder: Path) -> tuple[set[int], str]:
    if importlib.util.find_spec("basedpyright") is None:
        pytest.skip("basedpyright is not installed")
    settings = {"include": [str(FOLDER / file)], "extraPaths": [str(SOURCE)], "typeCheckingMode": "strict"}
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "basedpyright", "--outputjson", "-p", str(folder)]
    result = subprocess.run(command, capture_output=True, text=True)
    report = json.loads(result.stdout)
    assert report["summary"]["filesAnalyzed"] >= 1, result.stdout
    errors = [item for item in report["generalDiagnostics"] if item["severity"] == "error"]
    return {item["range"]["start"]["line"] + 1 for item in errors}, json.dumps(errors, indent=1)


@pytest.mark.parametrize("check", [mypy, pyright])
def test_what_is_right_is_accepted(check, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    lines, output = check("right.py", tmp_path)
    assert lines == set(), output
    assert "error" not in output or output == "[]", output


@pytest.mark.parametrize("check", [mypy, pyright])
def test_what_is_wrong_is_refused(check, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    assert len(wrong_lines()) > 10
    lines, output = check("wrong.py", tmp_path)
    assert lines == wrong_lines(), output
