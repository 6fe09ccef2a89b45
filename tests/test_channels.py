from __future__ import annotations

import json

import numpy as np
import pytest

from anychannel.channels import ChannelError, ChannelSet, as_channel_set, parse_groups, parse_names

RGB = ChannelSet(("R", "G", "B"))


def test_subsets_come_largest_first_in_the_channels_order():
    assert [RGB.key(subset) for subset in RGB.subsets()] == ["R,G,B", "R,G", "R,B", "G,B", "R", "G", "B"]
    assert RGB.count_subsets() == 7


def test_names_resolve_in_the_order_given_and_subsets_in_the_sets_order():
    assert RGB.positions(["B", "R"]) == (2, 0)
    assert RGB.subset("B,R") == (0, 2)
    assert RGB.positions(None) == (0, 1, 2)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["X"], "unknown channel 'X'; the channels are R, G, B"),
        (["R", "R"], "channel 'R' is given twice"),
        ([], "non-empty"),
        ((0, 1), r"channels are given by name, not as 0 \(int\)"),
        ("R,,B", "non-empty"),
    ],
)
def test_a_wrong_name_is_an_error_that_lists_the_valid_ones(names, message):
    with pytest.raises(ChannelError, match=message):
        RGB.positions(names)


def test_a_near_miss_is_suggested():
    with pytest.raises(ChannelError, match="did you mean 'brightfield'"):
        ChannelSet(("brightfield", "PI")).positions(["brightfeld"])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"names": ("R", "R")}, "must be unique, but R repeats"),
        ({"names": ("R", "a,b")}, "may not contain a comma"),
        ({"names": ("R", "G"), "mean": (1.0,)}, "mean needs one value for each of the 2 channels, got 1"),
        ({"names": ("R",), "std": (0.0,)}, "std of channel 'R' must be finite and positive, got 0.0"),
        ({"names": ("R",), "mean": (float("nan"),)}, "mean of channel 'R' must be finite"),
        ({"names": ("R",), "wavelengths_nm": (0.49,)}, "0.49 micrometres is 490 nm"),
        ({"names": ("R",), "wavelengths_nm": (float("nan"),)}, "wavelength of channel 'R' is nan nm, outside"),
        ({"names": ("R",), "wavelengths_nm": ("red",)}, "a wavelength is a number of nanometres, or None, got 'red'"),
        ({"names": ("R",), "wavelengths_nm": (("R", 665),)}, r"nanometres, or None, got \('R', 665\)"),
        ({"names": ("R", "G"), "kinds": ("red",)}, "kinds needs one value for each of the 2 channels, got 1"),
        ({"names": ("R",), "kinds": (" ",)}, "kind of channel 'R' must be text or None, got ' '"),
        ({"names": ("R", "G"), "correlation": ((1.0,),)}, "correlation must be 2 x 2"),
        (
            {"names": ("R", "G"), "correlation": ((1, 5), (5, 1))},
            "'R' and 'G' must be in .*, got 5",
        ),
        ({"names": ("R",), "correlation": ((float("nan"),),)}, "correlation of 'R' and 'R' must be in .*, got nan"),
    ],
)
def test_a_bad_statistic_names_its_channel(values, message):
    with pytest.raises(ChannelError, match=message):
        ChannelSet(**values)


def test_sixty_four_channels_count_their_subsets_without_listing_them():
    many = ChannelSet(tuple(f"band_{i}" for i in range(64)))
    assert many.count_subsets() == 2**64 - 1
    assert len(many.subsets(sizes=[1, 63])) == 128
    with pytest.raises(ChannelError, match="too many to list; sample them by size"):
        many.subsets()


def test_selecting_channels_keeps_their_statistics_in_step():
    known = ChannelSet(
        ("a", "b", "c"),
        mean=(1, 2, 3),
        std=(4, 5, 6),
        correlation=((1, 0.1, 0.2), (0.1, 1, 0.3), (0.2, 0.3, 1)),
        wavelengths_nm=(400, None, 600),
        kinds=("violet", "?", None),
    )
    chosen = known.select("c,a")
    assert chosen.mean == (3, 1)
    assert chosen.std == (6, 4)
    assert chosen.correlation == ((1, 0.2), (0.2, 1))
    assert chosen.wavelengths_nm == (600, 400)
    assert chosen.kinds == (None, "violet")


def test_a_set_survives_json():
    known = ChannelSet(
        ("a", "b"),
        mean=(1, 2),
        std=(3, 4),
        correlation=((1, 0), (0, 1)),
        wavelengths_nm=(400, None),
        kinds=("violet", None),
    )
    assert ChannelSet.from_dict(json.loads(json.dumps(known.to_dict()))) == known


def test_a_set_saved_before_channels_had_kinds_is_read():
    assert ChannelSet.from_dict({"names": ["a", "b"], "wavelengths_nm": [400, None]}).kinds == (None, None)


def test_a_name_may_carry_its_wavelength():
    known = as_channel_set("B04 @ 664.6 nm, near infrared@833nm, aerosol")
    assert known.names == ("B04", "near infrared", "aerosol")
    assert known.wavelengths_nm == (664.6, 833.0, None)
    with pytest.raises(ChannelError, match=r"wavelength of channel 'B04' is 0\.66 nm, outside"):
        as_channel_set(["B04 @ 0.66 nm"])


def test_spaces_around_names_do_not_matter():
    assert parse_names(" R, G ,B") == parse_names(("R", " G ", "B")) == ("R", "G", "B")
    assert ChannelSet((" R", "G")).subset([" G "]) == (1,)
    assert as_channel_set(["sentinel2:B04", " B03"]).names == as_channel_set("sentinel2: B04, B03").names


@pytest.mark.parametrize("name", ["red @ 665 um", "red @ 665", "red @", "@ 665 nm", "red @ -665 nm"])
def test_a_wavelength_that_is_not_understood_is_not_taken_for_a_part_of_the_name(name):
    with pytest.raises(ChannelError, match=rf"'{name}' has no wavelength in nanometres; write it as 'B04 @ 665"):
        as_channel_set(f"green @ 560 nm,{name}")
    assert ChannelSet((name,)).names == (name,)


def test_wavelengths_of_numpy_become_plain_numbers():
    known = ChannelSet(("R", "G"), wavelengths_nm=np.array([665, 560], dtype=np.float32))
    assert json.loads(json.dumps(known.to_dict()))["wavelengths_nm"] == [665.0, 560.0]


CROWNS = ChannelSet(("R", "G", "B", "height"), groups={"camera": "R,G,B"})


def test_groups_are_units_and_so_is_a_channel_without_one():
    assert CROWNS.units == {"camera": (0, 1, 2), "height": (3,)}
    assert CROWNS.members == {"camera": ("R", "G", "B")}
    assert CROWNS.groups == ("camera", "camera", "camera", None)
    assert [CROWNS.name(subset) for subset in CROWNS.group_subsets()] == ["camera+height", "camera", "height"]
    assert CROWNS.name((1, 3)) == "G,height"
    assert ChannelSet(CROWNS.names, groups=CROWNS.groups) == CROWNS


def test_groups_stand_for_their_channels_wherever_channels_are_named():
    assert CROWNS.positions("height,camera") == (3, 0, 1, 2)
    assert CROWNS.subset("camera+height") == CROWNS.subset("camera, height") == (0, 1, 2, 3)
    assert CROWNS.select("camera").names == ("R", "G", "B")
    with pytest.raises(ChannelError, match="unknown channel 'camra'; the channels are R, G, B, height; the groups are"):
        CROWNS.subset("camra")
    with pytest.raises(ChannelError, match="channel 'R' is given twice"):
        CROWNS.subset("camera,R")


def test_a_name_with_a_plus_sign_may_be_a_channels_own():
    cells = ChannelSet(("CD3+", "CD4", "DAPI"), groups={"stain": "CD3+,CD4"})
    assert cells.subset("CD3+") == (0,)
    assert cells.subset("stain+DAPI") == (0, 1, 2)


def test_channels_of_one_group_come_and_go_by_themselves():
    camera = CROWNS.select("R,G,B")
    assert not camera.grouped
    assert camera.units == {"R": (0,), "G": (1,), "B": (2,)}
    assert camera.name((0, 1)) == "R,G"


def test_groups_survive_json_selection_statistics_and_sets_without_them_stay_as_they_were():
    measured = CROWNS.with_statistics((1,) * 4, (2,) * 4)
    assert measured.units == CROWNS.units
    assert ChannelSet.from_dict(json.loads(json.dumps(measured.to_dict()))) == measured
    assert CROWNS.select("B,height").units == {"camera": (0,), "height": (1,)}
    assert CROWNS.with_groups({}) == ChannelSet(CROWNS.names)
    assert "groups" not in ChannelSet(CROWNS.names).to_dict()


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"camera": "R,X"}, "group 'camera': unknown channel 'X'"),
        ({"camera": "R", "other": "R,G"}, "channel 'R' is in the groups 'camera' and 'other'"),
        ({"R": "G"}, "group 'R' has the name of a channel"),
        ({"a+b": "G"}, "without commas and plus signs, got 'a\\+b'"),
        ({"camera": ""}, "must be non-empty"),
        (("a",), "groups needs one value for each of the 4 channels, got 1"),
    ],
)
def test_groups_that_cannot_be_used_are_refused(groups, message):
    with pytest.raises(ChannelError, match=message):
        ChannelSet(CROWNS.names, groups=groups)


def test_groups_are_read_from_flags_and_lines():
    read = parse_groups(["camera=R,G,B", " lidar : height "])
    assert read == {"camera": ("R", "G", "B"), "lidar": ("height",)}
    assert parse_groups(["none"]) == {}
    for text in ("camera", "camera=", "=R"):
        with pytest.raises(ChannelError, match="is no group; write its name and its channels, as camera=R,G,B"):
            parse_groups([text])
    with pytest.raises(ChannelError, match="the group 'a' is given twice"):
        parse_groups(["a=R", "a=G"])


def test_sensors_know_their_groups():
    known = as_channel_set("sentinel2")
    assert {group: len(members) for group, members in known.members.items()} == {"60m": 3, "10m": 4, "20m": 6}
    assert [known.name(subset) for subset in known.group_subsets()][-1] == "20m"
    assert not as_channel_set("sentinel2:B04,B03,B02").grouped
    assert as_channel_set("sentinel2:B04,B11").units == {"10m": (0,), "20m": (1,)}
    assert as_channel_set("landsat8").members["TIRS"] == ("B10", "B11")
    assert not as_channel_set("naip").grouped
