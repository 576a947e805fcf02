"""Recognise handwritten digits with a small convolutional network in PyTorch: train, validate, predict.

Run by the network as fedn.yaml says; by hand, for example:

    FEDN_DATA_PATH=data/client-1 python model.py train seed.safetensors trained.safetensors
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from fedn_py.package import load_task, main, save_metrics
from fedn_py.package.pytorch import load_into, save_from

EPOCHS = 3  # passes over a client's data in one round; a session's parameter "epochs" overrides it
LEARNING_RATE = 0.1  # likewise "learning_rate"
BATCH = 32
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def new_network():
    """Return the network with the same first weights every time."""
    torch.manual_seed(1)
    network = nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * 6 * 6, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )
    return network.to(DEVICE)


def as_images(pixels):
    """Return float32[n, 1, 28, 28] from 0 to 1 of uint8[n, 28, 28]."""
    return torch.from_numpy(pixels.astype(np.float32)[:, None] / 255).to(DEVICE)


def load_part(folder, part):
    """Return the images, float32[n, 1, 28, 28] from 0 to 1, and labels, int64[n], of "train" or "test"."""
    with np.load(Path(folder) / f"{part}.npz") as arrays:
        return as_images(arrays["images"]), torch.from_numpy(arrays["labels"]).to(DEVICE)


def fit(network, images, labels, epochs, seed, learning_rate=LEARNING_RATE):
    """Train for some passes over the data.

    Plain gradient descent has no state of its own, so nothing is lost when only the weights are averaged.
    """
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(network.parameters(), lr=learning_rate)
    network.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(labels), generator=generator).to(DEVICE).split(BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images[batch]), labels[batch]).backward()
            optimizer.step()


def measure(network, images, labels):
    """Return accuracy and the mean negative log-likelihood of the right digit."""
    network.eval()
    with torch.inference_mode():
        answers = network(images)
        return {
            "accuracy": (answers.argmax(dim=1) == labels).double().mean().item(),
            "loss": nn.functional.cross_entropy(answers.double(), labels).item(),
        }


def startup(out_model):
    """Write the model that training starts from."""
    save_from(new_network(), out_model)


def train(in_model, out_model):
    """Train from the global model on this site's training images."""
    task = load_task()
    network = new_network()
    load_into(network, in_model)
    images, labels = load_part(task.data, "train")
    epochs = task.parameters.get("epochs", EPOCHS)
    fit(network, images, labels, epochs, task.round, task.parameters.get("learning_rate", LEARNING_RATE))
    save_from(network, out_model)
    save_metrics(out_model, num_samples=len(labels), **measure(network, images, labels))


def validate(model, out_json):
    """Measure a model on this site's held-out images."""
    network = new_network()
    load_into(network, model)
    images, labels = load_part(load_task().data, "test")
    save_metrics(out_json, num_samples=len(labels), **measure(network, images, labels))


def predict(model, images_file, out_file):
    """Read images, uint8[n, 28, 28], from an .npz and write the predicted labels to another."""
    network = new_network().eval()
    load_into(network, model)
    with np.load(images_file) as arrays, torch.inference_mode():
        labels = network(as_images(arrays["images"])).argmax(dim=1).cpu().numpy()
    with open(out_file, "wb") as file:
        np.savez(file, labels=labels)


if __name__ == "__main__":
    main({"startup": startup, "train": train, "validate": validate, "predict": predict})
