"""Sensors by name: their channels are usable, are what the agencies publish, and travel with a model."""

from __future__ import annotations

import json

import pytest

import anychannel
from anychannel.channels import ChannelError, ChannelSet, as_channel_set
from anychannel.sensors import SENSORS

ESA_NOMINAL_NM = (443, 490, 560, 665, 705, 740, 783, 842, 865, 945, 1375, 1610, 2190)
"""Design values of MSI's bands (ESA, Sentinel-2 User Handbook, 2015), which the measured ones are close to."""
USGS_RANGES_UM = (
    (0.43, 0.45),
    (0.45, 0.51),
    (0.53, 0.59),
    (0.64, 0.67),
    (0.85, 0.88),
    (1.57, 1.65),
    (2.11, 2.29),
    (0.50, 0.68),
    (1.36, 1.38),
    (10.60, 11.19),
    (11.50, 12.51),
)
"""Band designations of Landsat 8 and 9 (USGS)."""
TORCHGEO_SENTINEL_2_UM = {
    "B01": 0.4427,
    "B02": 0.4927,
    "B03": 0.5598,
    "B04": 0.6646,
    "B05": 0.7041,
    "B06": 0.7405,
    "B07": 0.7828,
    "B08": 0.8328,
    "B8A": 0.8647,
    "B09": 0.9451,
    "B10": 1.3735,
    "B11": 1.6137,
    "B12": 2.2024,
}
"""TorchGeo 0.8.1, torchgeo/datasets/sentinel.py, Sentinel2.wavelengths."""
SPYNDEX_NM = {
    "sentinel2": {
        "B02": (492.4, 492.1),
        "B03": (559.8, 559.0),
        "B04": (664.6, 665.0),
        "B05": (704.1, 703.8),
        "B06": (740.5, 739.1),
        "B07": (782.8, 779.7),
        "B08": (832.8, 833.0),
        "B8A": (864.7, 864.0),
        "B09": (945.1, 943.2),
        "B11": (1613.7, 1610.4),
        "B12": (2202.4, 2185.7),
    },
    "landsat8": {
        "B1": (440.0,),
        "B2": (480.0,),
        "B3": (560.0,),
        "B4": (655.0,),
        "B5": (865.0,),
        "B6": (1610.0,),
        "B7": (2200.0,),
        "B10": (10895.0,),
        "B11": (12005.0,),
    },
}
"""Awesome Spectral Indices, spyndex 0.12.0, data/bands.json: Sentinel-2A and 2B; Landsat 8 (9 is the same)."""


@pytest.mark.parametrize("name", SENSORS)
def test_a_sensor_is_a_channel_set_with_a_kind_for_each_channel_and_a_source(name: str):
    known = as_channel_set(name)
    assert len(known) == len(SENSORS[name].bands)
    assert all(known.kinds)
    assert SENSORS[name].source
    assert as_channel_set([name]) == known == as_channel_set(f"{name}:{','.join(known.names)}")


def test_sentinel_2_has_its_13_bands_near_their_nominal_wavelengths():
    known = as_channel_set("sentinel2")
    assert known.names == (*(f"B{n:02}" for n in range(1, 9)), "B8A", *(f"B{n:02}" for n in range(9, 13)))
    for measured, nominal in zip(known.wavelengths_nm, ESA_NOMINAL_NM, strict=True):
        assert measured == pytest.approx(nominal, abs=13)


def test_sentinel_2_s_centres_are_those_that_another_library_has():
    known = as_channel_set("sentinel2")
    other = {name: round(1000 * value, 1) for name, value in TORCHGEO_SENTINEL_2_UM.items()}
    assert dict(zip(known.names, known.wavelengths_nm, strict=True)) == other


@pytest.mark.parametrize(
    ("sensor", "platform", "nm"),
    # 0.4: another issue of ESA's table for B02; 17: Sentinel-2B's filters are others; 3.5: rounded
    [("sentinel2", 0, 0.4), ("sentinel2", 1, 17), ("landsat8", 0, 3.5)],
)
def test_an_independent_catalogue_has_nearly_the_same_centres(sensor: str, platform: int, nm: float):
    known = as_channel_set(sensor)
    ours = dict(zip(known.names, known.wavelengths_nm, strict=True))
    for name, values in SPYNDEX_NM[sensor].items():
        assert ours[name] == pytest.approx(values[platform], abs=nm)


@pytest.mark.parametrize("name", ["landsat8", "landsat9"])
def test_landsat_s_centres_lie_inside_the_published_ranges(name: str):
    known = as_channel_set(name)
    assert known.names == tuple(f"B{number}" for number in range(1, 12))
    for centre, (low, high) in zip(known.wavelengths_nm, USGS_RANGES_UM, strict=True):
        assert low * 1000 <= centre <= high * 1000


def test_some_of_a_sensors_channels_come_in_the_order_named():
    known = as_channel_set("sentinel2:B04,B03,B8A")
    assert known.names == ("B04", "B03", "B8A")
    assert known.wavelengths_nm == (664.6, 559.8, 864.7)
    assert known.kinds == ("red", "green", "narrow near infrared")
    assert as_channel_set(["sentinel2:B04", "B03", "B8A"]) == known


@pytest.mark.parametrize(
    ("channels", "message"),
    [
        (
            "sentinel2:B4,B3",
            r"unknown channel 'B4' \(did you mean 'B04'\?\); the channels are B01, .* \(Sentinel-2, MSI",
        ),
        ("sentinel2:B04,B04", "channel names must be unique, but B04 repeats"),
        ("sentinel-2", r"'sentinel-2' is not quite the sensor 'sentinel2' \(the sensors are rgb, sentinel2,"),
        ("Sentinel2:B04,B03", "'Sentinel2' is not quite the sensor 'sentinel2'"),
        ("RGB", "'RGB' is not quite .*; correct it, or, if it is a channel's own name, give ChannelSet"),
    ],
)
def test_a_wrong_name_is_refused_with_the_valid_ones(channels: str, message: str):
    with pytest.raises(ChannelError, match=message):
        as_channel_set(channels)


def test_a_channel_may_still_be_called_like_a_sensor():
    assert ChannelSet(("rgb",)).names == ("rgb",)
    assert as_channel_set("rgb,nir").names == ("rgb", "nir")


def test_a_model_keeps_wavelengths_and_kinds_when_it_is_saved(tmp_path):
    model = anychannel.create_model("compact_k7", channels="sentinel2:B04,B08", num_classes=2)
    anychannel.save_model(model, tmp_path)
    assert anychannel.load_model(tmp_path).channels == as_channel_set("sentinel2:B04,B08")
    description = json.loads((tmp_path / "model.json").read_text())
    del description["channels"]["kinds"]
    (tmp_path / "model.json").write_text(json.dumps(description))
    assert anychannel.load_model(tmp_path).channels.kinds == (None, None)


def test_a_run_takes_a_sensor_as_text_or_list():
    for channels in ("sentinel2", ["sentinel2"]):
        assert anychannel.RunConfig.from_dict({"data": "x", "channels": channels}).channels == ("sentinel2",)
    assert anychannel.RunConfig.from_dict({"data": "x", "channels": "R,G"}).channels == ("R", "G")
