"""The same client without a compute package: training inside a process of your own.

    python participant.py client.yaml data/client-1

The settings file is that of ``fedn-py run client``; the data is this site's own, as prepare.py writes it. The class is
asked to train and to validate; everything else, the connection, transfers and retries, is done for it.
"""

import sys

from model import DIGITS, EPOCHS, fit, load_part, measure, new_classifier

from fedn_py.client import Participant
from fedn_py.package.sklearn import get_tensors, set_tensors


class Digits(Participant):
    """A client that trains and validates on the images in its data folder."""

    def __init__(self, data):
        self.data = data

    def train(self, model, task):
        """Return the new model, the number of images it was trained on, and metrics."""
        classifier = new_classifier(seed=task.round)
        set_tensors(classifier, model, classes=DIGITS)
        images, labels = load_part(self.data, "train")
        fit(classifier, images, labels, task.parameters.get("epochs", EPOCHS))
        return get_tensors(classifier), len(labels), measure(classifier, images, labels)

    def validate(self, model, task):
        """Return metrics of a global model, and the number of images they were measured on."""
        classifier = new_classifier()
        set_tensors(classifier, model, classes=DIGITS)
        images, labels = load_part(self.data, "test")
        return measure(classifier, images, labels), len(labels)


if __name__ == "__main__":
    settings_file, data = sys.argv[1:]
    Digits(data).run(settings_file)
