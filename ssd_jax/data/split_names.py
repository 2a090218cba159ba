"""The names of splits for training and for evaluation."""

import re

# In order of preference.
TRAIN_NAMES = ("train", "training", "trainval")
EVAL_NAMES = ("val", "valid", "validation", "dev", "test", "testing")
SPLIT_NAMES = TRAIN_NAMES + EVAL_NAMES


def kind_of(split: str) -> str:
    """The word of `SPLIT_NAMES` in the name of a split: "train" for "instances_train2017".

    The name itself without such a word.
    """
    words = re.split(r"[^a-z]+", split.lower())
    if {"train", "val"} <= set(words):  # train_val is trainval
        return "trainval"
    return next((word for word in words if word in SPLIT_NAMES), split)


def is_split(name: str) -> bool:
    """Whether a name contains a word of `SPLIT_NAMES`."""
    return kind_of(name) in SPLIT_NAMES


def synonym(kind: str) -> str:
    """The usual word of the same meaning: "val" for "valid", "train" for "training"."""
    same = (("train", "training"), ("val", "valid", "validation", "dev"), ("test", "testing"))
    return next((words[0] for words in same if kind in words), kind)
