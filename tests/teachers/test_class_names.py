from __future__ import annotations

import pytest

from bckd.datasets.coco_classes import COCO_CLASSES
from bckd.teachers.class_names import SYNONYMS, counterparts, tell_counterparts

VOC = (
    "aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike "
    "person pottedplant sheep sofa train tvmonitor"
).split()


def test_every_class_of_voc_is_one_of_cocos() -> None:
    found = counterparts(COCO_CLASSES, VOC)
    assert len(set(found.values())) == len(VOC) == 20
    others = {name: theirs for name, theirs in found.items() if name != theirs}
    assert others == {
        "aeroplane": "airplane",
        "diningtable": "dining table",
        "motorbike": "motorcycle",
        "pottedplant": "potted plant",
        "sofa": "couch",
        "tvmonitor": "tv",
    }
    assert counterparts(VOC, [*found.values()]) == {b: a for a, b in found.items()}


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("Traffic_Light", "traffic light"),
        ("traffic-light", "Traffic Light"),
        ("TRAFFICLIGHT", "traffic light"),
        (" tv ", "TV"),
        ("class1", "class 1"),
        ("Schraube_M4", "schraube m4"),
        ("Ｔｖ", "tv"),  # full-width letters
        ("Platelets", "platelet"),
        ("Persons", "person"),
        ("Sofas", "couch"),
        ("TV Monitors", "tv"),
        ("car (automobile)", "car_(automobile)"),
        ("Mobile phone", "cell phone"),
        ("Hair Dryer", "hair drier"),
    ],
)
def test_spellings_of_one_name(ours: str, theirs: str) -> None:
    assert counterparts([theirs, "else"], [ours]) == {ours: theirs}
    assert counterparts([ours, "else"], [theirs]) == {theirs: ours}


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("1-1", "11"),
        ("1 1", "11"),
        ("grade A", "grade A-"),
        ("A+", "A"),
        ("1.5", "15"),
        ("-1", "1"),
        ("glasses", "glass"),
        ("glass", "wine glass"),
        ("bus", "bu"),
        ("nut", "nuts and bolts"),
        ("people", "person"),
        ("pedestrian", "person"),
        ("plant", "potted plant"),
        ("monitor", "tv"),
    ],
)
def test_what_is_not_sure_is_left_to_the_user(ours: str, theirs: str) -> None:
    assert counterparts([theirs], [ours]) == {}
    assert counterparts([ours], [theirs]) == {}


def test_one_name_is_taken_for_one_other() -> None:
    assert counterparts(["couch"], ["sofa", "couch"]) == {"couch": "couch"}
    assert counterparts(["Nut", "NUT"], ["nut"]) == {}
    assert counterparts(["nut"], ["Nut", "NUT"]) == {}
    assert counterparts(["screws", "nut"], ["screw", "Screws"]) == {"Screws": "screws"}
    assert counterparts(["sofa", "couch"], ["Sofa", "Couch"]) == {"Sofa": "sofa", "Couch": "couch"}


def test_no_name_means_two_things() -> None:
    names = [name.casefold() for group in SYNONYMS for name in group]
    assert len(names) == len(set(names))
    assert all(group[0] in COCO_CLASSES for group in SYNONYMS)


def test_what_was_taken_for_what_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    tell_counterparts(counterparts(COCO_CLASSES, VOC), "nanodet_m")
    assert capsys.readouterr().out == (
        "nanodet_m has 6 classes under another name: aeroplane = airplane, motorbike = motorcycle, "
        "sofa = couch, tvmonitor = tv; diningtable = dining table, pottedplant = potted plant\n"
    )
    tell_counterparts({"nut": "nut"}, "nanodet_m")
    assert not capsys.readouterr().out
