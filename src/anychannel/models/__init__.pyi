"""The public names of the package and the modules that define them. ``__init__.py`` reads this list."""

from anychannel.models.adapt import adapt as adapt
from anychannel.models.add_channels import with_channels as with_channels
from anychannel.models.create import REFERENCE_NETWORKS as REFERENCE_NETWORKS
from anychannel.models.create import ReferenceNetwork as ReferenceNetwork
from anychannel.models.create import create_model as create_model
from anychannel.models.create import create_reference as create_reference
from anychannel.models.create import load_model as load_model
from anychannel.models.hub import Classifier as Classifier
from anychannel.models.pretrained import PretrainedError as PretrainedError
from anychannel.models.registry import MODELS as MODELS
from anychannel.models.registry import list_models as list_models
from anychannel.models.replace import replace_stem as replace_stem
from anychannel.models.saving import save_model as save_model
from anychannel.models.untrusted import ModelFileError as ModelFileError
from anychannel.nn.bn_statistics import calibrate as calibrate
from anychannel.nn.channel_input import ModelSpec as ModelSpec
