"""A small convolutional network on MNIST with PyTorch, in the shape of a FLOps repository."""

from collections import OrderedDict
from typing import Any, List, Tuple

import numpy as np
import torch
from data_manager import DataManager
from flops_utils.ml_repo_templates import ModelManagerTemplate
from torch import nn

CLASSES, SIDE = 10, 28


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Unflatten(1, (1, SIDE, SIDE)),
            nn.Conv2d(1, 8, 5, stride=2), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 16, 3, stride=2), nn.ReLU(),
            nn.Flatten(), nn.Linear(16 * 5 * 5, CLASSES),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


class ModelManager(ModelManagerTemplate):
    def __init__(self) -> None:
        self.model = Network()

    def set_model_data(self) -> None:
        (x, y), (x_test, y_test) = DataManager().get_data()
        self.x_train, self.y_train = torch.tensor(x), torch.tensor(y, dtype=torch.long)
        self.x_test, self.y_test = torch.tensor(x_test), torch.tensor(y_test, dtype=torch.long)

    def get_model(self) -> nn.Module:
        return self.model

    def get_model_parameters(self) -> List[np.ndarray]:
        return [value.cpu().numpy() for value in self.model.state_dict().values()]

    def set_model_parameters(self, parameters: List[np.ndarray]) -> None:
        state = OrderedDict((name, torch.tensor(value)) for name, value in zip(self.model.state_dict(), parameters))
        self.model.load_state_dict(state, strict=True)

    def fit_model(self) -> int:
        self.model.train()
        optimizer = torch.optim.SGD(self.model.parameters(), lr=0.05, momentum=0.9)
        for batch in torch.randperm(len(self.x_train)).split(32):
            optimizer.zero_grad()
            nn.functional.cross_entropy(self.model(self.x_train[batch]), self.y_train[batch]).backward()
            optimizer.step()
        return len(self.x_train)

    def evaluate_model(self) -> Tuple[Any, Any, int]:
        self.model.eval()
        with torch.no_grad():
            scores = self.model(self.x_test)
            loss = nn.functional.cross_entropy(scores, self.y_test)
        accuracy = (scores.argmax(dim=1) == self.y_test).float().mean()
        return loss.item(), accuracy.item(), len(self.x_test)
