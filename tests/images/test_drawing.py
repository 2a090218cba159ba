import numpy as np
import pytest
from PIL import Image

from ssd_jax.images.contact_sheet import Picture, contact_sheet
from ssd_jax.images.drawing import BoxDrawing, class_color, draw_boxes
from ssd_jax.images.labels import place_labels

NAMES = ["cat", "dog"]


def test_a_box_is_drawn_round_its_object():
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


def test_a_legend_stands_below_where_names_would_cover_the_objects():
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


def test_a_legend_lies_on_frames_which_keep_their_size():
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


def test_classes_have_colours_of_their_own():
    assert len({class_color(label) for label in range(1, 81)}) == 80


def test_a_label_stays_inside_the_picture():
    image = Image.new("RGB", (600, 480))
    box = np.array([[590.0, 0.0, 599.0, 300.0]])
    drawn = np.asarray(draw_boxes(image, box, np.array([1]), ["umbrella"]))
    painted = (drawn == class_color(1)).all(axis=-1)
    assert drawn.shape[:2] == (480, 600) and painted[300:324, 500:590].sum() > 500


def test_labels_make_room_for_better_ones():
    # Above; that being taken, below; then at the top, then at the bottom; then above again.
    boxes = np.array([[30.0, 40.0, 80.0, 80.0]] * 5)
    places = place_labels([(20, 10)] * 5, boxes, (100, 100))
    assert places[:, 1].tolist() == [30, 80, 40, 70, 30]
    assert (places[:, 0] == 30).all() and (places[:, 2:] - places[:, :2] == [20, 10]).all()
    # Where there is no place above, what lies below another object is preferred to its top.
    boxes = np.array([[30.0, 5.0, 80.0, 60.0], [30.0, 0.0, 80.0, 100.0]])
    assert place_labels([(20, 10)] * 2, boxes, (100, 100))[:, 1].tolist() == [60, 90]
    # Neighbours that only touch leave each other alone.
    apart = np.array([[0.0, 40.0, 20.0, 80.0], [20.0, 40.0, 40.0, 80.0]])
    assert place_labels([(20, 10)] * 2, apart, (100, 100))[:, 1].tolist() == [30, 30]


def test_a_contact_sheet_has_a_cell_for_every_picture():
    pictures = [Picture(Image.new("RGB", (40, 20), "red"), "")] * 5
    sheet = contact_sheet(pictures, columns=2, cell=50, gap=10)
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
