import numpy as np

from encoder.training.validation import leave_one_out_map


def test_images_that_are_alone_in_their_class_do_not_lower_the_score():
    codes = np.array([[0], [1], [240], [241], [15]], np.uint8)
    assert leave_one_out_map(codes, np.array([0, 0, 1, 1, 2])) == 1.0
    assert leave_one_out_map(codes, np.arange(5)) == 0.0
