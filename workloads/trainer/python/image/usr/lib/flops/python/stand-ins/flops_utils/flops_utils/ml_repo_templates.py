"""Base classes of ML repositories: what must be there to be trained."""

from abc import ABC, abstractmethod


class DataManagerTemplate(ABC):
    @abstractmethod
    def _prepare_data(self):
        """Calls load_dataset() and brings the data into the form that the model needs."""

    @abstractmethod
    def get_data(self):
        """A pair, of what the model needs for training and for evaluation."""


class ModelManagerTemplate(ABC):
    @abstractmethod
    def set_model_data(self):
        """Gets the data. Not called in __init__, since models are made where no data is, too."""

    @abstractmethod
    def get_model(self):
        """The framework's own object."""

    @abstractmethod
    def get_model_parameters(self):
        """A list of NumPy arrays."""

    @abstractmethod
    def set_model_parameters(self, parameters):
        """The same list, of what was aggregated."""

    @abstractmethod
    def fit_model(self):
        """Trains; the number of examples."""

    @abstractmethod
    def evaluate_model(self):
        """Loss, accuracy, number of examples."""
