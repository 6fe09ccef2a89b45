"""Sensors by name: the channels of common instruments, with their centre wavelengths and what they show.

    create_model("resnet18", channels="sentinel2", num_classes=10)
    load_dataset("tiles", channels="sentinel2:B04,B03,B02,B08")  # the files hold these four, in this order

The order is the instrument's own numbering. Whether a file holds its bands in that order is for the file to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from anychannel.utils.names import unknown_name

Band = tuple[str, float | None, str]
"""Name, centre wavelength in nanometres (None where it is not one value), and what the channel shows."""


@dataclass(frozen=True)
class Sensor:
    """An instrument's channels.

    Args:
        title: what it is.
        source: where names and wavelengths come from.
        bands: its channels in the order of its numbering.
        groups: channels that come together, by a name: those of one instrument, or of one resolution.
    """

    title: str
    source: str
    bands: tuple[Band, ...]
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def select(self, names: tuple[str, ...]) -> tuple[Band, ...]:
        """Just these channels, in the order given; all where ``names`` is empty.

        Raises:
            ValueError: a name is unknown; the message lists the valid ones.
        """
        known = {band[0]: band for band in self.bands}
        for name in names:
            if name not in known:
                raise ValueError(unknown_name("channel", name, known) + f" ({self.title})")
        return tuple(known[name] for name in names) or self.bands


LANDSAT = Sensor(
    "Landsat 8 and 9, OLI and TIRS",
    "OLI: Barsi et al. 2014, The Spectral Response of the Landsat-8 Operational Land Imager, Remote Sensing 6(10), "
    "table 1; TIRS: middle of the ranges in USGS, What are the band designations for the Landsat satellites? TorchGeo "
    "0.8.1 and Awesome Spectral Indices (spyndex 0.12.0) round OLI's to 3.5 nm and agree on TIRS",
    (
        ("B1", 443.0, "coastal aerosol"),
        ("B2", 482.0, "blue"),
        ("B3", 561.4, "green"),
        ("B4", 654.6, "red"),
        ("B5", 864.7, "near infrared"),
        ("B6", 1608.9, "shortwave infrared 1"),
        ("B7", 2200.7, "shortwave infrared 2"),
        ("B8", 589.5, "panchromatic"),
        ("B9", 1373.4, "cirrus"),
        ("B10", 10895.0, "thermal infrared 1"),
        ("B11", 12005.0, "thermal infrared 2"),
    ),
    {"OLI": tuple(f"B{number}" for number in range(1, 10)), "TIRS": ("B10", "B11")},
)

SENSORS: dict[str, Sensor] = {
    "rgb": Sensor(
        "Colour photographs",
        "names alone: a camera's filters have no common centre wavelengths",
        (("R", None, "red"), ("G", None, "green"), ("B", None, "blue")),
    ),
    "sentinel2": Sensor(
        "Sentinel-2, MSI",
        "ESA, Sentinel-2 Spectral Response Functions (COPE-GSEG-EOPG-TN-15-0007) and SentiWiki, S2 mission, "
        "table of spectral bands; the values of Sentinel-2A, from which 2B's differ by up to 17 nm. TorchGeo 0.8.1, "
        "torchgeo.datasets.Sentinel2.wavelengths, has the same thirteen",
        (
            ("B01", 442.7, "coastal aerosol"),
            ("B02", 492.7, "blue"),
            ("B03", 559.8, "green"),
            ("B04", 664.6, "red"),
            ("B05", 704.1, "red edge 1"),
            ("B06", 740.5, "red edge 2"),
            ("B07", 782.8, "red edge 3"),
            ("B08", 832.8, "near infrared"),
            ("B8A", 864.7, "narrow near infrared"),
            ("B09", 945.1, "water vapour"),
            ("B10", 1373.5, "cirrus"),
            ("B11", 1613.7, "shortwave infrared 1"),
            ("B12", 2202.4, "shortwave infrared 2"),
        ),
        {
            "10m": ("B02", "B03", "B04", "B08"),
            "20m": ("B05", "B06", "B07", "B8A", "B11", "B12"),
            "60m": ("B01", "B09", "B10"),
        },
    ),
    "landsat8": LANDSAT,
    "landsat9": LANDSAT,
    "naip": Sensor(
        "National Agriculture Imagery Program, four bands",
        "USDA Farm Production and Conservation, NAIP: band order; the cameras differ from year to year and state to "
        "state, so no wavelength holds for all",
        (("R", None, "red"), ("G", None, "green"), ("B", None, "blue"), ("NIR", None, "near infrared")),
    ),
    "cell_painting": Sensor(
        "Cell Painting, six dyes in five channels",
        "Bray et al. 2016, Cell Painting, Nature Protocols 11, 1757-1774, table 1: middle of the emission filters",
        (
            ("DNA", 447.0, "Hoechst 33342: nucleus"),
            ("ER", 520.5, "concanavalin A: endoplasmic reticulum"),
            ("RNA", 593.0, "SYTO 14: nucleoli and cytoplasmic RNA"),
            ("AGP", 642.0, "phalloidin and wheat germ agglutinin: actin, Golgi and plasma membrane"),
            ("Mito", 692.0, "MitoTracker Deep Red: mitochondria"),
        ),
    ),
}


def list_sensors() -> list[str]:
    """Names that ``channels=`` takes in place of a list of channels."""
    return list(SENSORS)
