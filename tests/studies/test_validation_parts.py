"""The validation images of a data set in two parts, and the studies that are judged on them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from bckd.studies import runner, validation_parts
from bckd.studies.catalogue import STUDIES
from bckd.studies.validation_parts import VALIDATION, judged_file, write_validation_parts


@pytest.fixture
def data(custom_root: Path, tmp_path: Path) -> Path:
    """A data set's folder, as a link to where it is."""
    shutil.copytree(custom_root, tmp_path / "elsewhere" / "own")
    link = tmp_path / "linked"
    link.symlink_to(tmp_path / "elsewhere" / "own")
    return link


def _parts(root: Path) -> tuple[dict, dict]:
    found = [json.loads((root / judged_file(root, x)).read_text()) for x in ("sweep", "comparison")]
    return found[0], found[1]


def test_every_image_is_in_one_part_with_its_boxes(data: Path) -> None:
    source = json.loads((data / VALIDATION).read_text())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validation_parts, "EVERY", 2)
        write_validation_parts(data)
    swept, compared = _parts(data)
    ids = sorted(image["id"] for image in source["images"])
    assert len(ids) > 1 and {image["id"] for image in swept["images"]} == set(ids[::2])
    assert swept["categories"] == compared["categories"] == source["categories"]
    for name in ("images", "annotations"):
        both = sorted([*swept[name], *compared[name]], key=lambda x: x["id"])
        assert both == sorted(source[name], key=lambda x: x["id"])
    for part in (swept, compared):
        own = {image["id"] for image in part["images"]}
        assert {box["image_id"] for box in part["annotations"]} <= own


def test_what_is_there_stays_if_it_is_of_the_same_images(data: Path) -> None:
    write_validation_parts(data)
    paths = [data / judged_file(data, part) for part in ("sweep", "comparison")]
    made = [path.stat().st_mtime_ns for path in paths]
    write_validation_parts(data)
    assert [path.stat().st_mtime_ns for path in paths] == made
    whole = paths[0].read_text()
    paths[0].write_text(paths[1].read_text())  # as if it were shared out in another way
    write_validation_parts(data)
    assert paths[0].read_text() == whole


def test_a_study_draws_up_the_parts_that_it_is_judged_on(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []
    monkeypatch.setattr(runner, "write_validation_parts", made.append)
    steel, scenes = STUDIES["fine-neu"], STUDIES["fine-one"]
    assert steel.sweep_data and steel.sweep_data.val_annotations == judged_file(
        steel.base.data.root, "sweep"
    )
    assert steel.base.data.val_annotations == judged_file(steel.base.data.root, "comparison")
    monkeypatch.chdir(data.parent)
    (data.parent / "data").mkdir()
    (data.parent / "data" / "neu_det").symlink_to(data)
    runner._prepare_data(steel)
    assert {*made} == {steel.base.data.root}
    made.clear()
    monkeypatch.setattr(runner, "write_scenes", lambda *_, **__: None)
    runner._prepare_data(scenes)
    assert not made
