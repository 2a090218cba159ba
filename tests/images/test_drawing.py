import numpy as np
import pytest
from PIL import Image

from ssd_jax.images.contact_sheet import Picture, contact_sheet
from ssd_jax.images.drawing import BoxDrawing, _legend_entries, class_color, draw_boxes
from ssd_jax.images.labels import place_labels

NAMES = ["cat", "dog"]


def test_a_box_is_drawn_around_its_object():
    box = np.array([[200.0, 300.0, 600.0, 700.0]])
    drawn = draw_boxes(Image.new("RGB", (1000, 800), "white"), box, np.array([2]), NAMES)
    column = np.asarray(drawn)[690:, 400].tolist()
    width = 5  # half a hundredth of the side
    assert column[:10] == [[255, 255, 255]] * 10
    assert column[10 : 10 + width] == [list(class_color(2))] * width
    assert column[10 + width] == [0, 0, 0] and column[12 + width] == [255, 255, 255]


@pytest.mark.parametrize("size", [(64, 64), (150, 100), (4000, 3000)])
def test_lines_have_a_visible_width_at_any_scale(size):
    box = np.array([[0.2, 0.2, 0.8, 0.8], [0.0, 0.0, 1.0, 1.0], [0.4, 0.4, 0.41, 0.41]])
    drawn = draw_boxes(Image.new("RGB", size), box * np.tile(size, 2), np.array([1, 1, 1]), NAMES)
    width, height = drawn.size
    assert max(width, height) >= 480
    row = np.asarray(drawn)[round(0.6 * height), :, 2]  # where only the sides of boxes are
    colored = int((row == class_color(1)[2]).sum())
    assert 4 * 0.003 * width < colored < 4 * 0.01 * width


def test_an_image_becomes_no_smaller_and_keeps_its_place():
    drawn = draw_boxes(Image.new("RGB", (640, 20), "red"), np.zeros((0, 4)), np.zeros(0), NAMES)
    assert drawn.size == (640, 20) and drawn.getpixel((320, 10)) == (255, 0, 0)


def board(side):
    """32 pieces on the fields of a chess board, of two classes."""
    rows, columns = np.divmod(np.arange(64), 8)
    corners = np.stack([columns, rows], 1)[(rows < 2) | (rows > 5)] * side / 8
    boxes = np.concatenate([corners + 0.2 * side / 8, corners + 0.8 * side / 8], 1)
    return boxes, np.repeat([1, 2], 16), ["black pawn", "white pawn"], np.full(32, 0.9)


def test_a_legend_is_drawn_below_if_names_would_cover_objects():
    drawn = np.asarray(draw_boxes(Image.new("RGB", (800, 800), "gray"), *board(800)))
    assert drawn.shape[0] > 800 and drawn.shape[1] == 800
    boxes = np.round(board(800)[0]).astype(int)
    for x_min, y_min, x_max, y_max in boxes:  # nothing is drawn on a piece
        assert (drawn[y_min + 1 : y_max, x_min + 1 : x_max] == 128).all()
    below = {tuple(pixel) for pixel in drawn[800:].reshape(-1, 3)}
    assert {class_color(1), class_color(2), (255, 255, 255)} <= below
    # A few large objects keep their names.
    few = [np.asarray(each)[:2] for each in (board(800)[0] * [1, 1, 4, 4], [1, 2])]
    assert draw_boxes(Image.new("RGB", (800, 800)), *few, NAMES).size == (800, 800)


def test_a_legend_is_drawn_on_frames_without_changing_their_size():
    drawing = BoxDrawing((800, 800), *board(800))
    assert drawing.size == (800, 800)
    frame = Image.new("RGB", (800, 800))
    drawing.draw(frame)
    at_the_bottom = {tuple(pixel) for pixel in np.asarray(frame)[770:].reshape(-1, 3)}
    assert {class_color(1), class_color(2)} <= at_the_bottom


@pytest.mark.parametrize(
    "size, given",
    [
        (
            (200, 150),
            (
                np.array([[20.6, 30.2, 160.9, 93.7], [44.3, 93.5, 120.0, 149.0]]),
                np.array([2, 1]),
                NAMES,
                np.array([0.5, 0.4]),
            ),
        ),
        ((200, 200), board(200)),
    ],
)
def test_parts_of_an_image_show_what_the_whole_shows(size, given):
    part = 47
    drawing = BoxDrawing(size, *given)
    joined, whole = Image.new("RGB", size), Image.new("RGB", size)
    for top in range(0, size[1], part):
        for left in range(0, size[0], part):
            piece = Image.new("RGB", (min(part, size[0] - left), min(part, size[1] - top)))
            drawing.draw(piece, (left, top))
            joined.paste(piece, (left, top))
    drawing.draw(whole)
    np.testing.assert_array_equal(np.asarray(joined), np.asarray(whole))


def test_classes_have_different_colours():
    assert len({class_color(label) for label in range(1, 81)}) == 80


def test_a_label_stays_inside_the_picture():
    image = Image.new("RGB", (600, 480))
    box = np.array([[590.0, 0.0, 599.0, 300.0]])
    drawn = np.asarray(draw_boxes(image, box, np.array([1]), ["umbrella"]))
    painted = (drawn == class_color(1)).all(axis=-1)
    assert drawn.shape[:2] == (480, 600) and painted[300:324, 500:590].sum() > 500


def test_labels_without_space_are_left_out():
    boxes = np.array([[30.0, 40.0, 80.0, 80.0]] * 11)
    places = place_labels([(20, 10)] * 11, boxes, (100, 100))
    beside = [[80, 40], [10, 40], [80, 70], [10, 70]]
    above_and_below = [[30, 30], [60, 30], [30, 80], [60, 80]]
    # Outside, where nothing is covered; then inside.
    assert places[:, :2].tolist() == [*above_and_below, *beside, [30, 40], [30, 70], [60, 40]]
    assert (places[:, 2:] - places[:, :2] == [20, 10]).all()
    # Where all places are taken, the first.
    many = place_labels([(20, 10)] * 13, np.repeat(boxes[:1], 13, axis=0), (100, 100))
    assert many[11:, :2].tolist() == [[60, 70], [30, 30]]
    # Where there is no place above, what lies beside an object is preferred to its top.
    boxes = np.array([[30.0, 5.0, 80.0, 60.0], [30.0, 0.0, 80.0, 100.0]])
    assert place_labels([(20, 10)] * 2, boxes, (100, 100))[:, :2].tolist() == [[80, 5], [10, 0]]
    # Neighbours that only touch leave each other alone.
    apart = np.array([[0.0, 40.0, 20.0, 80.0], [20.0, 40.0, 40.0, 80.0]])
    assert place_labels([(20, 10)] * 2, apart, (100, 100))[:, 1].tolist() == [30, 30]
    # A label that is wider than its box, in a corner of the image, and than the image.
    corner = np.array([[90.0, 2.0, 99.0, 20.0]])
    assert place_labels([(30, 10)], corner, (100, 100)).tolist() == [[70, 20, 100, 30]]
    assert place_labels([(130, 10)], corner, (100, 100)).tolist() == [[0, 20, 130, 30]]


def test_a_large_object_that_contains_others_keeps_its_name():
    # Twins and neighbours inside a large object, as a detector finds them at low scores.
    boxes = np.array([[120, 60, 400, 270], [90, 200, 210, 300], [60, 280, 140, 336]] * 2)
    drawn = draw_boxes(
        Image.new("RGB", (480, 440)), boxes, np.array([1, 1, 1, 2, 2, 2]), NAMES, np.full(6, 0.5)
    )
    assert drawn.size == (480, 440)


def test_a_small_object_under_a_name_makes_a_legend():
    # Nine small objects that touch, and twenty large ones far apart, whose names are free.
    large = np.array([[200 * x, 200 * y, 200 * x + 90, 200 * y + 90] for x, y in np.ndindex(5, 4)])
    small = np.array([[20 * x, 20 * y, 20 * x + 20, 20 * y + 20] for x, y in np.ndindex(3, 3)])
    boxes = np.concatenate([large + np.tile([0, 200], 2), small + 100]).astype(float)
    image, labels = Image.new("RGB", (1000, 1000)), np.array([2] * 20 + [1] * 9)
    assert draw_boxes(image, boxes, labels, NAMES).height > 1000
    assert draw_boxes(image, boxes[:21], labels[:21], NAMES).height == 1000


def test_a_legend_has_the_number_and_the_scores_of_each_class():
    labels, scores = np.array([2, 1, 2, 2]), np.array([0.97, 0.416, 0.6, 0.407])
    assert _legend_entries(labels, NAMES, scores) == {2: "dog 3 (0.41-0.97)", 1: "cat 1 (0.42)"}
    assert _legend_entries(labels, NAMES, None) == {2: "dog 3", 1: "cat 1"}


def test_overlapping_boxes_are_all_drawn():
    box = [100.0, 100.0, 500.0, 400.0]
    boxes = np.array([box, [*box[:3], 250.0], box, np.add(box, [1, -1, 1, 0])])
    image, labels = Image.new("RGB", (1000, 1000), "white"), np.array([1, 2, 3, 4])
    drawn = np.asarray(draw_boxes(image, boxes, labels, list("abcd")))
    row = [tuple(pixel) for pixel in drawn[300, 94:121].tolist()]  # below the second
    white, black, line = [(255, 255, 255)], [(0, 0, 0)], {n: 5 * [class_color(n)] for n in labels}
    third = black + line[3]
    # The fourth is a pixel to the right of where the third ends.
    fourth = white + black + line[4]
    assert row == [*white, *black, *line[1], *third, *fourth, *white * 7]
    # The second ends higher, so that its bottom is seen where it is.
    column = [tuple(pixel) for pixel in drawn[248:260, 300].tolist()]
    assert column == [*white * 2, *line[2], *black, *white * 4]
    # Of small boxes, something is left of each.
    tiny = np.repeat([[50.0, 50.0, 62.0, 62.0]], 9, axis=0)
    inner = np.asarray(draw_boxes(image, tiny, np.arange(1, 10), list("abcdefghi")))[55:57, 55:57]
    assert (inner == 255).all()


def test_a_contact_sheet_has_a_cell_for_every_picture():
    pictures = [Picture(Image.new("RGB", (40, 20), "red"), "")] * 5
    sheet = contact_sheet(pictures, columns=2, cell=50, gap=10)
    titled = contact_sheet(pictures, columns=2, cell=50, gap=10, title="step 2")
    assert titled.size == (130, 190 + 2 * 2)  # two lines of 2 pixels
    assert (
        titled.crop((0, 4, 130, 194)).tobytes()[-130 * 3 * 180 :]
        == sheet.tobytes()[-130 * 3 * 180 :]
    )
    assert sheet.size == (130, 190)
    assert sheet.getpixel((35, 35)) == (255, 0, 0)
    assert sheet.getpixel((95, 155)) == (255, 255, 255)


def test_captions_stay_below_their_picture():
    red = Image.new("RGB", (40, 40), "red")
    pictures = [Picture(red, "a_name_that_is_far_too_long.jpg\n1 of 2"), Picture(red, "")]
    sheet = np.asarray(contact_sheet(pictures, columns=2, cell=100, gap=10))
    assert sheet.shape == (10 + 110 + 2 + 2 * 6, 230, 3)
    written = np.argwhere((sheet < 100).all(axis=-1))
    assert len(written) and written[:, 0].min() >= 110 and written[:, 1].max() <= 110
