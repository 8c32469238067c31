"""Train the classifier whose features scores use: `python src/train_features.py mnist`.

It takes about three minutes on 2 cores, and prints the accuracy on the test split and the sha256 to
pin in `twoplayer/metrics/features.py`. Scores are comparable only between the same weights, so the
weights are trained once and kept.
"""

import argparse
import hashlib
from pathlib import Path

import torch
from rich.progress import track
from safetensors.torch import save
from torch.nn.functional import cross_entropy

from twoplayer import randomness
from twoplayer.data.base import Batches, Split, to_unit_range
from twoplayer.data.fashion_mnist import FashionMNIST
from twoplayer.data.mnist import MNIST
from twoplayer.metrics import features

DATA = {"mnist": MNIST, "fashion_mnist": FashionMNIST}


def accuracy(classifier: features.Classifier, split: Split) -> float:
    """The share of a split that is classified correctly."""
    classifier.eval()
    with torch.inference_mode():
        right = [
            (classifier(to_unit_range(images)).argmax(1) == labels).sum()
            for images, labels in zip(split.images.split(1000), split.labels.split(1000), strict=True)
        ]
    return float(torch.stack(right).sum()) / len(split.labels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", choices=DATA)
    parser.add_argument("--root", default="data", help="folder of the data sets")
    parser.add_argument("--output", type=Path, default=Path(features.__file__).parent, help="folder that receives the weights")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    data = DATA[arguments.data](
        root=arguments.root,
        batch_size=arguments.batch_size,
        image_size=28,
        channels=1,
        num_classes=10,
        num_images=features.NUM_TRAINING,
        classes=None,
        classifier=None,
    )
    randomness.restart(arguments.seed, "features")
    classifier = features.Classifier(data.num_classes)
    num_iterations = arguments.epochs * features.NUM_TRAINING // arguments.batch_size
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=2e-3, weight_decay=1e-2, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=num_iterations)
    batches: Batches = data.batches(arguments.seed, torch.device("cpu"))
    for iteration in track(range(num_iterations), "training"):
        images, labels = batches.batch(iteration)
        optimizer.zero_grad()
        cross_entropy(classifier(images), labels).backward()
        optimizer.step()
        schedule.step()

    content = save(classifier.state_dict())
    path = arguments.output / f"{arguments.data}.safetensors"
    path.write_bytes(content)
    print(
        f"accuracy on the test split {accuracy(classifier, data.splits.test):.4f}, on the last 10,000 training images {accuracy(classifier, data.splits.validation):.4f}"
    )
    print(f"{path}: sha256 {hashlib.sha256(content).hexdigest()}")


if __name__ == "__main__":
    main()
