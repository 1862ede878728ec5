"""Softmax regression in NumPy alone: a trainer of one's own, in the smallest shape."""

import numpy as np


class Trainer:
    """Made without arguments; set_data comes first, then a model and what is to be done with it."""

    def set_data(self, features, labels, classes=None):
        """Four fifths are trained on, every fifth example is kept to be judged by. Of some of the classes there may be
        no example here."""
        features = features.reshape(len(features), -1)
        judged = np.arange(len(labels)) % 5 == 4
        self.x, self.y = features[~judged], labels[~judged]
        self.x_test, self.y_test = features[judged], labels[judged]
        self.classes = classes or int(labels.max()) + 1
        self.weight = np.zeros((features.shape[1], self.classes), np.float32)
        self.bias = np.zeros(self.classes, np.float32)

    def get_parameters(self):
        return {"weight": self.weight, "bias": self.bias}

    def set_parameters(self, parameters):
        self.weight, self.bias = parameters["weight"], parameters["bias"]

    def fit(self, options):
        rows = np.random.default_rng(options.seed)
        size = options.batch_size or len(self.x)
        loss = self.loss_of(self.x, self.y)[0]
        steps = 0
        for epoch in range(options.epochs):
            order = rows.permutation(len(self.x))
            for at in range(0, len(order), size):
                self.step(order[at:at + size], options.learning_rate)
                steps += 1
            options.progress(epoch + 1, options.epochs)
        return {"examples": len(self.x), "steps": steps, "loss_before": loss,
                "loss": self.loss_of(self.x, self.y)[0]}

    def evaluate(self):
        loss, accuracy = self.loss_of(self.x_test, self.y_test)
        return {"loss": loss, "accuracy": accuracy, "examples": len(self.x_test)}

    def predict(self, features):
        """For servers of the trained model: chances of the classes, a row for each row."""
        return self.chances(features.reshape(len(features), -1))

    def chances(self, x):
        scores = x @ self.weight + self.bias
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)

    def step(self, batch, rate):
        x, slope = self.x[batch], self.chances(self.x[batch])
        slope[np.arange(len(batch)), self.y[batch]] -= 1
        self.weight -= rate / len(batch) * (x.T @ slope)
        self.bias -= rate * slope.mean(axis=0)

    def loss_of(self, x, y):
        chances = self.chances(x)
        loss = -np.log(np.maximum(chances[np.arange(len(y)), y], 1e-12)).mean()
        return float(loss), float((chances.argmax(axis=1) == y).mean())
