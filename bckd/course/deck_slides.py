"""What the twelve slides say, and what the speaker says to them.

AP differences are those of `notebooks/evidence.md`, with their 95 % intervals.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Slide:
    """One slide.

    Attributes:
        lines: its text, a line each.
        picture: a file below the notebooks' folder, or NOTEBOOK.ipynb#CELL: what that cell shows.
        shows: the picture in words, for who does not see it.
        notes: what the speaker says.
        wide: the picture stands below the text, not beside it.
    """

    title: str
    lines: tuple[str, ...]
    picture: str
    shows: str
    notes: str
    wide: bool = False


SLIDES = (
    Slide(
        "A detector reads its numbers one way, distillation another",
        ("BCKD: distilling dense object detectors", "Yang et al., ICCV 2023"),
        "figures/method.svg",
        "Image, pyramids and class maps of teacher and student, one location read as shares and as "
        "scores, and the losses that compare them",
        "This drawing is the whole talk. From left to right: one image, two networks, maps of "
        "logits. Then one location, read twice: as a softmax and as sigmoids. Both readings are of "
        "the same numbers. One loss says that student and teacher agree, the other that they do "
        "not. Ask which of the two the detector uses.",
        wide=True,
    ),
    Slide(
        "A small network learns from a large one",
        (
            "The teacher: trained, large, frozen",
            "The student: a fifteenth of its size",
            "In use only the student runs",
        ),
        "figures/overview.png",
        "Two scenes: objects, detections and score maps of the teacher, of a student alone and "
        "of a taught student",
        "Two scenes of our benchmark, one seed; a row a scene. After the objects, two columns a "
        "network: what it detects, and its highest score at each location. The teacher, a student "
        "that saw the labels alone, one that was taught as well. What a student copies is not the "
        "drawn boxes but the maps beside them.",
        wide=True,
    ),
    Slide(
        "What a dense detector says",
        (
            "At each location: K logits and a box",
            "K sigmoids: K questions, each yes or no",
            "There is no class for the background",
        ),
        "01_score_maps.ipynb#cell-10",
        "The class maps of one scene, a row a level of the pyramid, a column a class",
        "Let people find an object in the maps: it lights up on one map, perhaps on two "
        "neighbouring levels. Most of the area is dark on every map. A location that says 'nothing "
        "here' has K low scores; it does not have one high score for a background class.",
    ),
    Slide(
        "Almost everything is background",
        (
            "Fewer than one location in ten stands for an object",
            "Fewer than one target in fifty is above 0",
            "So nearly all that a teacher says is: no",
        ),
        "01_score_maps.ipynb#cell-22",
        "Four scenes with their boxes and the few locations that stand for an object",
        "Each mark is a positive location, colour and size are its level. Ask for a guess before "
        "you show it. On photographs the share is smaller still. A student that gets only the "
        "positives right is far from its teacher.",
        wide=True,
    ),
    Slide(
        "Softmax: the classes compete",
        (
            "Shares add up to 1, even where nothing is",
            "A constant on all logits changes no share",
            "With one class the only share is 1",
        ),
        "figures/method-softmax.svg",
        "The method's drawing, with the reading of one location as shares in view",
        "Classic distillation of image classifiers compares softmaxes. Here the student's logits "
        "are the teacher's minus 3: the shares are equal to the last digit. Derive it at the "
        "board: the constant stands in numerator and denominator.",
        wide=True,
    ),
    Slide(
        "The shift that softmax cannot see",
        (
            "Same shares, loss 0, gradient 0",
            "Every score is wrong",
            "One class: loss 0 whatever the student says",
        ),
        "02_two_protocols.ipynb#cell-25",
        "A student's logits shifted against the teacher's: equal softmax bars, unequal sigmoid "
        "bars",
        "If you have the book open, drag the bars in the explorer instead of showing this slide. "
        "Left: softmax, student and teacher equal. Right: sigmoid, student far off. The objection "
        "comes: AP only knows the order of scores. True of one constant; not of one that differs "
        "from location to location, and the loss is as blind to that.",
    ),
    Slide(
        "At the optimum, and wrong",
        (
            "Free logits, Adam, softmax distillation alone",
            "The loss falls by fourteen orders of magnitude",
            "The scores never arrive",
        ),
        "02_two_protocols.ipynb#cell-21",
        "The loss falls steeply over the steps while the mean score error stays high",
        "Sixteen locations of the teacher, free logits. Left the loss, right what a detector lives "
        "by. Nothing is left to learn for the loss, and the scores are off. With labels beside "
        "it a student does better: they see the shift.",
        wide=True,
    ),
    Slide(
        "The cure: K binary classifications",
        (
            "L_cls = sum of |p_t - p_s| BCE(p_s, p_t), over locations and classes",
            "Divided by the number of positives",
            "0 at equality and nowhere else, for any K",
        ),
        "figures/method-binary.svg",
        "The method's drawing, with the reading of one location as scores in view",
        "Stay in the detector's protocol: each class map is a binary problem of its own. The "
        "target is the teacher's score. The factor in front is how far apart the two scores "
        "are. The sum is divided as the detector's own losses are.",
        wide=True,
    ),
    Slide(
        "What the weight does",
        (
            "It moves the pull from the background to the objects",
            "With its gradient: a kink at equality",
            "Detached: the pull fades near the target",
        ),
        "03_binary_distillation.ipynb#cell-19",
        "Loss and gradient over the student's score, for an object and for background, at three "
        "exponents of the weight",
        "Upper row loss, lower row gradient; left an object, right background. The formula "
        "does not say whether the weight is a constant; the official code lets gradient "
        "through, and at equal pull that is about a point of AP better, from six common starts.",
    ),
    Slide(
        "Boxes: compare the boxes",
        (
            "L_loc = sum of max |p_t - p_s| (1 - IoU)",
            "No bins needed: any head will do",
            "The weight points at objects",
        ),
        "figures/method-boxes.svg",
        "The method's drawing, with the boxes of one location in view",
        "LD, the earlier way, compares distributions over bins, and needs a head that has them. "
        "Decoded boxes every detector has. The weight is the largest gap of the scores, a constant "
        "here. Code and formula differ: GIoU and IoU.",
        wide=True,
    ),
    Slide(
        "What we measured",
        (
            "Over no distillation: +9.3 [5.5, 13.2] on scenes, +5.8 [5.2, 6.4] on steel",
            "Over softmax distillation: scenes +3.3 [-0.2, 6.8], steel +5.6 [0.6, 10.6]",
            "Most of the better scores is one constant, which AP does not see",
        ),
        "figures/question.png",
        "By regime, AP of BCKD minus that of no distillation and of softmax distillation, with "
        "intervals; what each term adds; what the score errors are",
        "Read the upper panel from the line at 0: right of it BCKD is ahead. Intervals are of "
        "95 %, over seeds, in the lower rows over images too. From common trained students, at "
        "weights tuned alike, BCKD minus softmax is -0.8 [-2.0, 0.4] on scenes and "
        "+2.3 [0.4, 4.2] on steel, and L_loc adds 2.6 [1.7, 3.4] at AP75. With labels for a tenth "
        "of VOC2007's photographs BCKD is also 1.2 [0.3, 2.1] above the teacher's boxes as labels, "
        "and 9.1 [7.2, 11.0] above softmax, which is the only loss for classes on the others; with "
        "all labels it is 0.6 [0.2, 1.0] above softmax, confirmed on fresh students. "
        "From random weights on twelve classes softmax with BCKD's box term is ahead in the mean. "
        "We have not rerun COCO; 40.1 to 43.2 there are the paper's numbers.",
    ),
    Slide(
        "What is open",
        (
            "The longer the training, the smaller the gain: +3.7 [1.9, 5.4] after twice the steps",
            "Gains L_cls with one class? From trained students L_loc does, L_cls not",
            "The ratio of the two weights: two seeds",
        ),
        "09_evidence.ipynb#cell-48",
        "AP over the number of steps, for no distillation, softmax, BCKD and softmax with L_loc",
        "End on what is not known. The mechanism is certain, it is algebra. What it is worth in AP "
        "depends on the regime. Hand out the paper companion: ten hard questions, each with "
        "what is measured and what is not.",
    ),
)
