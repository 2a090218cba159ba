"""What the names of splits mean: which are for training, and which for evaluation."""

import re

# The first choice first.
TRAIN_NAMES = ("train", "training", "trainval")
EVAL_NAMES = ("val", "valid", "validation", "dev", "test", "testing")
SPLIT_NAMES = TRAIN_NAMES + EVAL_NAMES


def kind_of(split: str) -> str:
    """The word of `SPLIT_NAMES` in the name of a split, as "train" in "instances_train2017".

    The name itself where it has none.
    """
    words = re.split(r"[^a-z]+", split.lower())
    if {"train", "val"} <= set(words):  # train_val is trainval
        return "trainval"
    return next((word for word in words if word in SPLIT_NAMES), split)


def is_split(name: str) -> bool:
    """Whether a name has one of the words of `SPLIT_NAMES` in it."""
    return kind_of(name) in SPLIT_NAMES


def synonym(kind: str) -> str:
    """The first of the words that mean the same: "val" for "valid", "train" for "training"."""
    same = (("train", "training"), ("val", "valid", "validation", "dev"), ("test", "testing"))
    return next((words[0] for words in same if kind in words), kind)
