import numpy as np
from PIL import Image

from ssd_jax.images.drawing import (
    BoxDrawing,
    Picture,
    _place_labels,
    class_color,
    contact_sheet,
    draw_boxes,
)


def test_a_box_is_drawn_where_it_is():
    drawn = np.asarray(
        draw_boxes(
            Image.new("RGB", (100, 80)),
            np.array([[20.0, 30.0, 60.0, 70.0]]),
            np.array([2]),
            ["cat", "dog"],
            np.array([0.5]),
        )
    )
    assert tuple(drawn[70, 40]) == tuple(drawn[50, 20]) == class_color(2)
    assert not drawn[50, 40].any() and not drawn[75, 90].any()


def test_parts_of_an_image_show_what_the_whole_shows():
    size, part = (200, 150), 47
    boxes = np.array([[20.6, 30.2, 160.9, 93.7], [44.3, 93.5, 120.0, 149.0]])
    given = (boxes, np.array([2, 1]), ["cat", "dog"], np.array([0.5, 0.4]))
    drawing = BoxDrawing(size, *given)
    joined = Image.new("RGB", size)
    for top in range(0, size[1], part):
        for left in range(0, size[0], part):
            piece = Image.new("RGB", (min(part, size[0] - left), min(part, size[1] - top)))
            drawing.draw(piece, (left, top))
            joined.paste(piece, (left, top))
    whole = draw_boxes(Image.new("RGB", size), *given)
    np.testing.assert_array_equal(np.asarray(joined), np.asarray(whole))


def test_classes_have_colours_of_their_own():
    assert len({class_color(label) for label in range(1, 81)}) == 80


def test_a_label_stays_inside_the_picture():
    drawn = draw_boxes(
        Image.new("RGB", (100, 80)), np.array([[90.0, 0.0, 99.0, 9.0]]), np.array([1]), ["umbrella"]
    )
    painted = (np.asarray(drawn) == class_color(1)).all(axis=-1)
    assert painted[:12, 50:90].sum() > 100


def test_labels_make_room_for_better_ones():
    # Above; that being taken, at the top; then at the bottom, then below; then above again.
    boxes = np.array([[30.0, 40.0, 80.0, 80.0]] * 5)
    places = _place_labels([(20, 10)] * 5, boxes, (100, 100))
    assert places[:, 1].tolist() == [30, 40, 70, 80, 30]
    assert (places[:, 0] == 30).all() and (places[:, 2:] - places[:, :2] == [20, 10]).all()
    # Neighbours that only touch leave each other alone.
    apart = np.array([[0.0, 40.0, 20.0, 80.0], [20.0, 40.0, 40.0, 80.0]])
    assert _place_labels([(20, 10)] * 2, apart, (100, 100))[:, 1].tolist() == [30, 30]


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
