"""The public names of the package and the modules that define them. ``__init__.py`` reads this list."""

from anychannel.runs.config import RunConfig as RunConfig
from anychannel.runs.config import load_recipe as load_recipe
from anychannel.runs.cross_validate import cross_validate as cross_validate
from anychannel.runs.evaluate import evaluate_run as evaluate_run
from anychannel.runs.execute import train_run as train_run
from anychannel.runs.predict import Predictor as Predictor
