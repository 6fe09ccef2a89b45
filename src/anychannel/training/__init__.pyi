"""The public names of the package and the modules that define them. ``__init__.py`` reads this list."""

from anychannel.training.calibration import calibrate as calibrate
from anychannel.training.early_stopping import EarlyStopping as EarlyStopping
from anychannel.training.finite_updates import TrainingError as TrainingError
from anychannel.training.loop import FitResult as FitResult
from anychannel.training.loop import fit as fit
from anychannel.training.settings import TrainingSettings as TrainingSettings
from anychannel.training.unlabelled import Adaptation as Adaptation
from anychannel.training.unlabelled import adapt_unlabelled as adapt_unlabelled
from anychannel.training.unlabelled import learn_unlabelled as learn_unlabelled
from anychannel.training.validation import choose_thresholds as choose_thresholds
