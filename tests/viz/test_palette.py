import numpy as np
import pytest

from drconv.viz import region_color, region_colors

# Machado, Oliveira and Fernandes 2009, severity 1.0, acting on linear RGB.
VISION = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
RGB_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
D65 = np.array([0.95047, 1.0, 1.08883])


def cielab(colors, vision="normal"):
    """sRGB [N, 3] -> CIELAB [N, 3] as seen with the given vision."""
    linear = np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)
    xyz = np.clip(linear @ VISION[vision].T, 0, 1) @ RGB_TO_XYZ.T / D65
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


def smallest_distance(colors, vision):
    lab = cielab(colors, vision)
    distances = np.linalg.norm(lab[:, None] - lab[None], axis=-1)
    return distances[np.triu_indices(len(lab), 1)].min()


def test_cielab_of_known_colors():
    lab = cielab(np.array([[1.0, 1, 1], [0, 0, 0], [1, 0, 0]]))
    np.testing.assert_allclose(lab, [[100, 0, 0], [0, 0, 0], [53.24, 80.09, 67.20]], atol=0.05)


@pytest.mark.parametrize("vision", VISION)
def test_first_eight_colors_are_far_apart(vision):
    assert smallest_distance(region_colors(8), vision) >= 15


@pytest.mark.parametrize(
    ("vision", "bound"), [("normal", 15), ("protanopia", 5), ("deuteranopia", 5), ("tritanopia", 5)]
)
def test_sixteen_colors_stay_distinct(vision, bound):
    assert smallest_distance(region_colors(16), vision) >= bound


def test_colors_are_neither_near_white_nor_near_black():
    lightness = cielab(region_colors(16))[:, 0]
    assert lightness.min() > 15
    assert lightness.max() < 92


def test_a_region_keeps_its_color_whatever_the_count():
    for count in (1, 4, 8, 16, 40):
        np.testing.assert_array_equal(region_colors(count), region_colors(64)[:count])
    assert tuple(region_colors(20)[11]) == region_color(11)


def test_colors_cycle_after_sixteen():
    np.testing.assert_array_equal(region_colors(48)[16:32], region_colors(16))
    np.testing.assert_array_equal(region_colors(48)[32:], region_colors(16))


def test_no_regions_no_colors():
    assert region_colors(0).shape == (0, 3)


def test_values_are_srgb():
    colors = region_colors(32)
    assert colors.dtype == np.float64
    assert colors.min() >= 0
    assert colors.max() <= 1


@pytest.mark.parametrize("ground", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("vision", VISION)
def test_first_eight_colors_stay_apart_half_transparent(vision, ground):
    # Blending halves all differences; 7 is still three times what an eye just notices (2.3, Mahy et al. 1994).
    assert smallest_distance((region_colors(8) + ground) / 2, vision) >= 7
