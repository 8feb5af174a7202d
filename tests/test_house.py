"""What the files around the package promise: versions in step, nothing private, clean notebooks."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NOTEBOOKS = sorted((ROOT / "notebooks").rglob("*.ipynb"))
LESSONS = [path for path in NOTEBOOKS if path.parent.name == "notebooks"]
NOTEBOOK_BYTES = 500_000

PYTHONS = ("3.11", "3.12", "3.13")
# The environment markers that tell the three systems apart.
SYSTEMS = {
    "linux": {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64"},
    "macos": {"sys_platform": "darwin", "platform_system": "Darwin", "platform_machine": "arm64"},
    "windows": {"sys_platform": "win32", "platform_system": "Windows", "platform_machine": "AMD64"},
}

# Home folders and the usual roots of containers. The last two are common words, so they count
# only where nothing stands before them that would make them part of a longer path or address.
PRIVATE_PATH = re.compile(
    r"/(?:home|Users)/\w|[A-Za-z]:\\+Users\\+\w|(?<![\w.~$}\-])/(?:root|work)/",
)


EXTRAS = PROJECT["optional-dependencies"]


def project_requirements() -> dict[str, Requirement]:
    """The dependencies of pyproject.toml by canonical name, those of all extras included."""
    lines = [line for name, lines in EXTRAS.items() if name != "all" for line in lines]
    parsed = [Requirement(line) for line in [*PROJECT["dependencies"], *lines]]
    return {canonicalize_name(requirement.name): requirement for requirement in parsed}


def conda_lines() -> list[str]:
    """The list items of environment.yml, conda's and pip's, without their dash."""
    text = (ROOT / "environment.yml").read_text(encoding="utf-8")
    return re.findall(r"^ +- (.+?) *$", text, flags=re.MULTILINE)


def lock_lines() -> list[str]:
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def locked_versions(python: str, system: str) -> dict[str, list[str]]:
    """The versions that requirements.txt pins on one system, by canonical name."""
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.9",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "os_name": "nt" if system == "windows" else "posix",
        **SYSTEMS[system],
    }
    pins: dict[str, list[str]] = {}
    for line in lock_lines():
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate(environment):
            (pin,) = requirement.specifier
            pins.setdefault(canonicalize_name(requirement.name), []).append(pin.version)
    return pins


def private_paths(text: str) -> list[str]:
    """The absolute paths of one person's machine in a text, JSON's escaped line breaks undone."""
    return PRIVATE_PATH.findall(text.replace("\\n", "\n"))


def notebook_faults(notebook: dict) -> list[str]:
    """What keeps a notebook from being committed, one sentence a fault."""
    faults = []
    cells = [cell for cell in notebook["cells"] if "".join(cell["source"]).strip()]
    code_cells = [cell for cell in cells if cell["cell_type"] == "code"]
    counts = [cell["execution_count"] for cell in code_cells]
    if counts != list(range(1, len(counts) + 1)):
        faults.append(f"not run once from top to bottom: execution counts {counts}")
    outputs = [(cell, output) for cell in code_cells for output in cell["outputs"]]
    if any(output.get("name") == "stderr" for _, output in outputs):
        faults.append("an output on stderr")
    if any(
        output["output_type"] == "error"
        and "raises-exception" not in cell.get("metadata", {}).get("tags", [])
        for cell, output in outputs
    ):
        faults.append("a cell ends in an error and is not tagged raises-exception")
    if "widgets" in notebook["metadata"]:
        faults.append("saved widget state")
    kinds = "".join("c" if cell["cell_type"] == "code" else "." for cell in cells)
    if "ccc" in kinds:
        faults.append("more than two code cells in a row")
    return faults


def code_cell(count: int | None, outputs: tuple[dict, ...] = ()) -> dict:
    return {
        "cell_type": "code",
        "execution_count": count,
        "metadata": {},
        "outputs": list(outputs),
        "source": ["1 + 1"],
    }


class TestVersions:
    def test_every_range_is_bounded_below(self):
        for name, requirement in project_requirements().items():
            operators = {specifier.operator for specifier in requirement.specifier}
            assert ">=" in operators, f"{name} has no lower bound in pyproject.toml"
            assert operators <= {">=", "<"}, f"{name} is no range in pyproject.toml"

    def test_all_is_every_extra(self):
        (line,) = map(Requirement, EXTRAS["all"])
        assert line.name == "bckd" and line.extras == set(EXTRAS) - {"all"}

    def test_each_dependency_is_named_once(self):
        lines = [line for name, lines in EXTRAS.items() if name != "all" for line in lines]
        assert len(project_requirements()) == len(PROJECT["dependencies"]) + len(lines)

    def test_environment_and_lock_take_all(self):
        lines = conda_lines()
        assert lines[lines.index("pip") + 1 :] == ["pip:", "-e .[all]"]
        assert "--extra all" in (ROOT / "Makefile").read_text(encoding="utf-8")

    def test_every_extra_that_the_package_names_exists(self):
        texts = [path.read_text(encoding="utf-8") for path in (ROOT / "bckd").rglob("*.py")]
        named = {name for text in texts for name in re.findall(r"\bextra\(\"(\w+)\"", text)}
        named |= {name for text in texts for name in re.findall(r"bckd\[(\w+)\]", text)}
        assert named and named <= set(EXTRAS)

    def test_python_versions_agree(self):
        supported = SpecifierSet(PROJECT["requires-python"])
        assert [f"3.{minor}" for minor in range(30) if f"3.{minor}.9" in supported] == list(PYTHONS)
        (conda,) = [line for line in conda_lines() if line.startswith("python=")]
        assert conda.removeprefix("python=") in PYTHONS
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        assert "(3, 11) <= sys.version_info[:2] <= (3, 13)" in makefile

    @pytest.mark.parametrize("system", SYSTEMS)
    @pytest.mark.parametrize("python", PYTHONS)
    def test_lock_pins_each_dependency_inside_its_range(self, python: str, system: str):
        pins = locked_versions(python, system)
        twice = {name: versions for name, versions in pins.items() if len(versions) > 1}
        assert not twice
        for name, requirement in project_requirements().items():
            assert name in pins, f"requirements.txt does not pin {name}"
            assert pins[name][0] in requirement.specifier

    def test_lock_holds_the_build_tool(self):
        # `make env` installs the package itself without a build environment of its own.
        assert "setuptools" in locked_versions("3.11", "linux")

    def test_lock_names_exact_public_versions_and_no_place(self):
        for line in lock_lines():
            assert re.fullmatch(r"[\w.-]+==[\w.]+( ; .+)?", line), line
        text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
        assert "//" not in text
        assert "+cpu" not in text


class TestCommand:
    def test_console_script_resolves(self):
        module, _, function = PROJECT["scripts"]["bckd"].partition(":")
        assert callable(getattr(importlib.import_module(module), function))

    def test_installed_command_is_the_declared_one(self):
        try:
            distribution = metadata.distribution("bckd")
        except metadata.PackageNotFoundError:
            pytest.skip("bckd is not installed here, only imported from its folder")
        scripts = distribution.entry_points.select(group="console_scripts", name="bckd")
        assert [script.value for script in scripts] == [PROJECT["scripts"]["bckd"]]


class TestPrivatePaths:
    # Put together here, so that this file passes its own test.
    @pytest.mark.parametrize(
        "parts",
        [
            ("/ho", "me/ada/data"),
            ("x = '/Us", "ers/ada'"),
            ("C:\\Us", "ers\\ada"),
            ("/ro", "ot/.cache"),
            ("file:///wo", "rk/main"),
            ('"text\\n/ro', 'ot/x"'),
        ],
    )
    def test_finds_a_private_path(self, parts: tuple[str, str]):
        assert private_paths("".join(parts))

    @pytest.mark.parametrize("text", ["data/root/x", "../work/x", "~/work/x", "a network/layer"])
    def test_passes_a_public_path(self, text: str):
        assert private_paths(text) == []

    def test_no_committed_file_holds_one(self):
        try:
            listing = subprocess.run(
                ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True
            )
        except (FileNotFoundError, subprocess.CalledProcessError):
            pytest.skip("not a git checkout, or git is not installed")
        files = [ROOT / name for name in listing.stdout.split("\0") if name]
        if not files:
            pytest.skip("nothing is committed here")
        # latin-1 decodes any byte, so files of weights and images are searched as well.
        guilty = {
            path.relative_to(ROOT).as_posix(): found
            for path in files
            if path.is_file() and (found := private_paths(path.read_text(encoding="latin-1")))
        }
        assert not guilty


class TestNotebooks:
    @pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
    def test_is_fit_to_commit(self, path: Path):
        assert notebook_faults(json.loads(path.read_text(encoding="utf-8"))) == []

    @pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
    def test_has_more_prose_than_code(self, path: Path):
        cells = [c["cell_type"] for c in json.loads(path.read_text(encoding="utf-8"))["cells"]]
        assert cells.count("markdown") > cells.count("code")

    @pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
    def test_is_small(self, path: Path):
        assert path.stat().st_size < NOTEBOOK_BYTES

    def test_a_clean_notebook_has_no_fault(self):
        prose = {"cell_type": "markdown", "metadata": {}, "source": ["# Title"]}
        cells = [prose, code_cell(1), code_cell(2), prose, code_cell(3)]
        assert notebook_faults({"cells": cells, "metadata": {}}) == []

    @pytest.mark.parametrize(
        ("cells", "notebook_metadata", "fault"),
        [
            ([code_cell(None)], {}, "execution counts"),
            ([code_cell(2)], {}, "execution counts"),
            ([code_cell(1, ({"output_type": "stream", "name": "stderr"},))], {}, "stderr"),
            ([code_cell(1, ({"output_type": "error"},))], {}, "an error"),
            ([code_cell(1)], {"widgets": {}}, "widget state"),
            ([code_cell(1), code_cell(2), code_cell(3)], {}, "in a row"),
        ],
    )
    def test_each_fault_is_found(self, cells: list[dict], notebook_metadata: dict, fault: str):
        (found,) = notebook_faults({"cells": cells, "metadata": notebook_metadata})
        assert fault in found
