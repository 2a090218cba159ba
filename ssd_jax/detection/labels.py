"""Target labels of default boxes: 0 is background, 1 and more are the classes of objects.

Ground truth has the same labels; there 0 marks padding.
"""

BACKGROUND = 0
# A default box that is trained neither as an object nor as background.
IGNORED = -1
