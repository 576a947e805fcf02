"""What the author of a compute package imports: read a model, write one, write metrics, read the task.

Nothing here knows the network: a package gets paths, and its whole duty is to write the files it was asked for.
Importing this loads numpy and safetensors and nothing else; the adapters for scikit-learn, Keras and PyTorch are
submodules of their own (``fedn_py.package.sklearn``, ``.keras``, ``.pytorch``) that load their library when used.

A whole package in one file::

    from fedn_py.package import load_model, load_task, main, save_metrics, save_model

    def train(in_model, out_model):
        task = load_task()
        tensors = load_model(in_model)
        ...
        save_model(out_model, tensors)
        save_metrics(out_model, num_samples=len(images), loss=loss)

    def validate(model, out_json):
        ...
        save_metrics(out_json, num_samples=len(images), accuracy=accuracy)

    if __name__ == "__main__":
        main({"train": train, "validate": validate})

Described in docs/reference/compute-package.md.
"""

from fedn_py.package.metrics import InvalidMetrics, save_metrics
from fedn_py.package.models import InvalidTensors, UnreadableModel, load_model, save_model
from fedn_py.package.task import Task, UnreadableTask, load_task
from fedn_py.package.worker import UnknownEntryPoint, main, serve

__all__ = [
    "InvalidMetrics",
    "InvalidTensors",
    "Task",
    "UnknownEntryPoint",
    "UnreadableModel",
    "UnreadableTask",
    "load_model",
    "load_task",
    "main",
    "save_metrics",
    "save_model",
    "serve",
]
